"""Outage catch-up: a full store, an empty ledger, both real programs, and what it cost each side."""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

from buffer.bound import Bound
from buffer.entries import Pending, pending
from buffer.log import FILE_NAME, EventLog
from buffer.notes import Notes
from events.kinds import Kind
from events.model import ClockQuality, Observation, Stamp
from hil.parts.programs import Program
from tests.benchmarks.site import Site, until

BODY_BYTES = 115
GROUP_EVENTS = 512
CONDITIONS = 64  # points that take turns
POLL_S = 0.1  # each look is a job for the ledger that is measured
STALLED_S = 60.0


def fill(folder: Path, events: int) -> float:
    """Write a gateway's log of `events` measurements; return the mean length of a body."""
    folder.mkdir(exist_ok=True)
    log = EventLog.open(folder / FILE_NAME, bound=Bound(4 * 1024**3))
    memory = log.memory()
    total = 0
    try:
        for start in range(0, events, GROUP_EVENTS):
            group = [_event(number) for number in range(start, min(start + GROUP_EVENTS, events))]
            total += sum(item.size_bytes for item in group)
            notes = [Notes(checkpoint=memory.take_checkpoint())] if memory.checkpoint_due else []
            first = log.append(group, notes)
            for seq, item in enumerate(group, first):
                memory.note(seq, item.record.observation, item.body)
            if log.fold_due:
                log.fold()
    finally:
        log.close()
    return total / events


def _event(number: int) -> Pending:
    seen = Observation(point=f"f/{number % CONDITIONS}", kind=Kind.STATUS, value=number % 977)
    stamp = Stamp(
        monotonic_us=1_000_000 + number * 1000,
        boot_id="3b241101e2bb4255",
        wall_us=1_700_000_000_000_000 + number * 1000,
        clock=ClockQuality.FREE,
    )
    return pending(seen, stamp, urgent=False)


@asynccontextmanager
async def backlog(folder: Path, events: int) -> AsyncIterator[tuple[Site, Program, Program]]:
    """Run a station and, beside it, a gateway that is not started yet and holds `events`."""
    site = Site(folder)
    await site.prepare(IDLE_INPUT)
    fill(folder / "gateway", events)
    async with AsyncExitStack() as stack:
        station = await stack.enter_async_context(site.station())
        await until(site.answering, "a station")
        gateway = site.gateway()
        stack.push_async_exit(gateway)
        yield site, station, gateway


IDLE_INPUT = """
[[bus]]
id = "f"
driver = "modbus-tcp"
address = "127.0.0.1:9"
[[bus.unit]]
id = "u"
unit = 1
[[bus.unit.point]]
id = "u/p"
table = "discrete"
address = 0
kind = "alarm"
subkind = "smoke"
"""


def measure(events: int) -> dict[str, float]:
    """Drain `events` over the loopback with CURVE; return rate, seconds and costs as plain data.

    rate: events a second from the first commit seen to the last. *_us: processor time for each
    event. *_peak_bytes: resident memory at its highest, sampled.
    """
    return asyncio.run(_measure(events))


async def _measure(events: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="catchup") as name:
        async with backlog(Path(name), events) as (site, station, gateway):
            await gateway.start()
            return await drained(site, station, gateway, events)


async def drained(site: Site, station: Program, gateway: Program, events: int) -> dict[str, float]:
    """Wait until the station holds `events`; return what it took from the first ones on."""
    first: tuple[float, int, float, float] | None = None
    resident = {"gateway": 0, "station": 0}
    moved_at, before = time.monotonic(), 0
    while True:
        await asyncio.sleep(POLL_S)
        held = await asyncio.to_thread(site.stored)
        now = time.monotonic()
        costs = _processor_s(gateway), _processor_s(station)
        for label, program in (("gateway", gateway), ("station", station)):
            resident[label] = max(resident[label], psutil.Process(program.pid).memory_info().rss)
        if held > before:
            moved_at, before = now, held
            first = first or (now, held, *costs)
        if first is not None and held >= events:
            elapsed, count = now - first[0], held - first[1]
            return {
                "events": float(count),
                "seconds": elapsed,
                "rate": count / elapsed,
                "gateway_us": (costs[0] - first[2]) / count * 1e6,
                "station_us": (costs[1] - first[3]) / count * 1e6,
                "gateway_peak_bytes": float(resident["gateway"]),
                "station_peak_bytes": float(resident["station"]),
            }
        if now - moved_at > STALLED_S:
            raise RuntimeError(f"stands at {held} of {events}\n{gateway.last_words(20)}")


def _processor_s(program: Program) -> float:
    times = psutil.Process(program.pid).cpu_times()
    return times.user + times.system


def main() -> None:
    parser = argparse.ArgumentParser(description="measure a catch-up over the loopback")
    parser.add_argument("events", type=int, nargs="?", default=1_000_000)
    print(json.dumps(measure(parser.parse_args().events), indent=1))


if __name__ == "__main__":
    main()
