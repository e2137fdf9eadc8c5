"""What a gateway costs its flash, its memory and its line: counted by the kernel, from outside."""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import psutil

from hil.parts.programs import Program
from tests.benchmarks.link import STATION, STATION_SECOND, line
from tests.benchmarks.over_line import POINT, draining, filled, full_site
from tests.benchmarks.site import until

DAY_S = 86_400
SETTLE_S = 5.0


def written_bytes(pid: int) -> int:
    """Return what a process has given to the disk (proc(5), write_bytes)."""
    return int(psutil.Process(pid).io_counters().write_bytes)


def processor_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


async def alarm_writes(count: int, pause_s: float) -> dict[str, float]:
    """Return the bytes a gateway writes for each alarm that comes alone and is acknowledged.

    Each is committed, sent, stored and acknowledged before the next; checkpoints are part of it.
    """
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        async with full_site(Path(name), None) as (site, board), draining(site) as (_, gateway):
            await until(lambda: board.watched, "a gateway that watches its contact")
            await asyncio.sleep(SETTLE_S)
            held, before = site.rows(), written_bytes(gateway.pid)
            for index in range(count):
                board.set(POINT, on=index % 2 == 0)
                await asyncio.sleep(pause_s)
            await until(lambda: site.rows() >= held + count, f"{count} alarms at the station")
            await asyncio.sleep(SETTLE_S)
            wrote, came = written_bytes(gateway.pid) - before, site.rows() - held
            return {"bytes_per_alarm": wrote / came, "alarms": float(came)}


async def idle(seconds: float) -> dict[str, float]:
    """Return what a connected gateway without events writes and sends, for a day.

    It has two paths to its station: the first carries, the second one, which is metered, stands by.
    Extrapolated from `seconds`. A path's bytes are those of its IP packets, both ways.
    """
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        async with (
            line(folder) as link,
            full_site(folder, None, link, second=STATION_SECOND) as (site, _),
            draining(site) as (_, gateway),
        ):
            await asyncio.sleep(2 * SETTLE_S)
            link.count()
            wrote, used = written_bytes(gateway.pid), processor_s(gateway.pid)
            began = time.monotonic()
            await asyncio.sleep(seconds)
            elapsed = time.monotonic() - began

            def a_day(amount: int) -> float:
                return amount / elapsed * DAY_S

            return {
                "written_bytes_per_day": a_day(written_bytes(gateway.pid) - wrote),
                "first_bytes_per_day": a_day(link.carried_bytes(STATION)),
                "second_bytes_per_day": a_day(link.carried_bytes(STATION_SECOND)),
                "core": (processor_s(gateway.pid) - used) / elapsed,
            }


async def memory(scratch: Path, events: int) -> dict[str, float]:
    """Return a gateway's resident bytes while no station answers, without and with a backlog.

    start_s: from starting the process with the backlog until it watches its contact.
    """
    empty_bytes, _ = await _resident(None)
    full_bytes, start_s = await _resident(await asyncio.to_thread(filled, scratch, events))
    return {"empty_bytes": empty_bytes, "full_bytes": full_bytes, "start_s": start_s}


async def _resident(store: Path | None) -> tuple[float, float]:
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        async with AsyncExitStack() as stack:
            site, board = await stack.enter_async_context(full_site(Path(name), store))
            began = time.monotonic()
            gateway: Program = await stack.enter_async_context(site.gateway())
            await until(lambda: board.watched, f"a gateway\n{gateway.last_words()}")
            start_s = time.monotonic() - began
            await asyncio.sleep(SETTLE_S)
            return float(psutil.Process(gateway.pid).memory_info().rss), start_s
