"""Catch-up and alarms over a line: the real programs, a full store, an empty ledger."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from buffer.bound import Bound
from buffer.log import FILE_NAME, EventLog
from events.replication import Entry, Lane, Reading
from hil.parts.journal import Journal
from hil.parts.pins import Contact, PinBoard
from hil.parts.programs import Program
from tests.benchmarks import catchup
from tests.benchmarks.link import STATION, Link, line
from tests.benchmarks.site import COMMIT_POLL_S, Site, until

POINT = "door"
QUALIFY_S = 0.05
POLL_S = 0.05
WARM_UP_S = 5.0  # until the sizes of fetches fit the line
STALLED_S = 60.0
PIECE_BYTES = 24 * 1024  # what packs into about 200 ms of 256 kbit/s
SAMPLE_EVENTS = 5000


def filled(scratch: Path, events: int) -> Path:
    """Return a folder with a store of `events`, made once for every part of a call."""
    folder = scratch / f"store-{events}"
    if not (folder / FILE_NAME).exists():
        making = scratch / f"making-{events}"
        shutil.rmtree(making, ignore_errors=True)
        catchup.fill(making, events)
        making.rename(folder)
    return folder


@asynccontextmanager
async def full_site(
    folder: Path, store: Path | None, link: Link | None = None, *, second: str = ""
) -> AsyncIterator[tuple[Site, PinBoard]]:
    """Prepare a site whose gateway holds a copy of `store` and watches one alarm contact."""
    host, inside = (STATION, link.inside) if link else ("127.0.0.1", ())
    site = Site(folder, host=host, inside=inside, second=second)
    await site.prepare(
        f'[gpio]\nfactory = "bench"\nbench_socket = "{folder}/pins"\n'
        f'[[gpio.point]]\nid = "{POINT}"\nline = "GPIO5"\ncontact = "no"\nkind = "alarm"\n'
        f'subkind = "burglary"\nqualify_ms = {QUALIFY_S * 1000:.0f}\n',
        bench=True,
    )
    if store is not None:
        await asyncio.to_thread(shutil.copytree, store, folder / "gateway")
    board = PinBoard(folder / "pins", [Contact(point=POINT, pin="GPIO5")], Journal("pins"))
    async with board:
        yield site, board


@asynccontextmanager
async def draining(site: Site) -> AsyncIterator[tuple[Program, Program]]:
    """Start station, then gateway; go on as soon as the first events are held."""
    async with AsyncExitStack() as stack:
        station = await stack.enter_async_context(site.station())
        await until(site.answering, f"a station\n{station.last_words()}")
        gateway = await stack.enter_async_context(site.gateway())
        await until(lambda: site.stored() > 0, "a first event at the station")
        yield station, gateway


async def rate(site: Site, *, events: int, within_s: float) -> dict[str, float]:
    """Return events a second from now until the station holds `events` or the time is up."""
    began, before = time.monotonic(), await asyncio.to_thread(site.stored)
    held, moved_at = before, began
    while True:
        await asyncio.sleep(POLL_S)
        now_held, now = await asyncio.to_thread(site.stored), time.monotonic()
        if now_held > held:
            held, moved_at = now_held, now
        elif now - moved_at > STALLED_S:
            raise RuntimeError(f"stands at {held} of {events}")
        if held >= events or now - began >= within_s:
            return {
                "events": float(held - before),
                "seconds": moved_at - began,
                "rate": (held - before) / (moved_at - began),
                "first": float(before),
                "last": float(held),
            }


async def loopback(scratch: Path, events: int) -> dict[str, float]:
    """Drain a store over the loopback; return what `catchup.drained` does."""
    store = await asyncio.to_thread(filled, scratch, events)
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        async with full_site(Path(name), store) as (site, _), site.station() as station:
            await until(site.answering, "a station")
            async with site.gateway() as gateway:
                return await catchup.drained(site, station, gateway, events)


async def over_line(
    scratch: Path, *, events: int, within_s: float, round_trip_s: float
) -> dict[str, float]:
    """Drain a store over a long way, at most for so long; return what `rate` does."""
    store = await asyncio.to_thread(filled, scratch, events)
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        async with (
            line(folder, round_trip_s=round_trip_s) as link,
            full_site(folder, store, link) as (site, _),
            draining(site),
        ):
            return await rate(site, events=events, within_s=within_s)


def packed_bytes_per_event(
    scratch: Path, events: int, pack: Callable[[Sequence[Entry]], tuple[bytes, str]]
) -> float:
    """Return what an event of a store takes, packed as `pack` does with pieces for the slow line."""
    log = EventLog.open(filled(scratch, events) / FILE_NAME, bound=Bound(4 * 1024**3))
    try:
        after = total = count = 0
        while count < SAMPLE_EVENTS:
            reading = _whole(log.read(Lane.MAIN, after, limit_bytes=PIECE_BYTES))
            total += len(pack(reading.entries)[0])
            count += len(reading.entries)
            after = reading.through
    finally:
        log.close()
    return total / count


def _whole(slices: Generator[None, None, Reading]) -> Reading:
    while True:
        try:
            next(slices)
        except StopIteration as end:
            reading: Reading = end.value
            return reading


@dataclass(frozen=True, slots=True)
class Alarms:
    """delays_s: of each alarm. rate: events a second that were stored meanwhile."""

    delays_s: list[float]
    rate: float
    elapsed_s: float


async def alarms(
    scratch: Path,
    *,
    events: int,
    count: int,
    pause_s: float,
    rate_kbit: int = 0,
    loss: float = 0.0,
) -> Alarms:
    """Raise alarms while a store drains, over a line where a rate is given.

    A delay is from a contact's change, qualified, to the station's commit. Ends at `count` alarms
    or with the backlog.
    """
    store = await asyncio.to_thread(filled, scratch, events)
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            link = None
            if rate_kbit:
                shaped = line(folder, rate_kbit=rate_kbit, loss=loss)
                link = await stack.enter_async_context(shaped)
            site, board = await stack.enter_async_context(full_site(folder, store, link))
            await stack.enter_async_context(draining(site))
            await until(lambda: board.watched, "a gateway that watches its contact")
            if link:
                await asyncio.sleep(WARM_UP_S)
            held, began = await asyncio.to_thread(site.stored), time.monotonic()
            delays = await _raise_alarms(site, board, events, count, pause_s)
            elapsed = time.monotonic() - began
            rate = (await asyncio.to_thread(site.stored) - held) / elapsed
            return Alarms(delays, rate, elapsed)


async def _raise_alarms(
    site: Site, board: PinBoard, events: int, count: int, pause_s: float
) -> list[float]:
    result: list[float] = []
    with site.ledger() as ledger:

        def newest() -> int:
            row = ledger.execute(
                "SELECT s.n FROM point_state s JOIN condition c ON c.id = s.condition"
                " WHERE c.point = ?",
                (POINT,),
            ).fetchone()
            return int(row[0]) if row else 0

        for index in range(count):
            if await asyncio.to_thread(site.stored) >= events:
                break
            before, moved_at = newest(), time.monotonic()
            board.set(POINT, on=index % 2 == 0)
            while newest() == before:
                if time.monotonic() - moved_at > 60.0:
                    raise RuntimeError("an alarm did not arrive within 60 s")
                await asyncio.sleep(COMMIT_POLL_S * 5)
            result.append(time.monotonic() - moved_at - QUALIFY_S)
            await asyncio.sleep(pause_s)
    return result
