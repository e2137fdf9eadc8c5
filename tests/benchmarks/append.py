"""Durable appends through the store that a gateway holds, raw SQLite, and the two hops between.

The raw side has the store's settings (pages of 1 KiB, an exclusive write-ahead log, FULL, folded
at 1 MiB) and rows of its shape in one table, in the thread that asks. It takes turns with the
store, so that both meet the same disk.
"""

import asyncio
import queue
import sqlite3
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from buffer import schema
from buffer.bound import WAL_BYTES_MAX
from buffer.clock import SystemClock
from buffer.entries import pending
from buffer.store import Store
from events.chain import CHAIN_LENGTH
from events.kinds import Kind
from events.model import Observation

TURN = 20  # appends of one side, then of the other


@dataclass(slots=True)
class Appends:
    """Seconds of single ones, raw and awaited by one task, and events a second of many tasks.

    hops_s: to another thread and back to the loop, with nothing done there.
    """

    raw_s: list[float] = field(default_factory=list)
    store_s: list[float] = field(default_factory=list)
    hops_s: list[float] = field(default_factory=list)
    rate: float = 0.0


async def measure(*, single: int, many: int, tasks: int) -> Appends:
    """Return `single` or a few more of each single append, and the rate of `many` by `tasks`."""
    result = Appends(hops_s=await _hops(single))
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        async with Store(folder / "gateway", clock=clock) as store:
            with closing(_raw(folder / "raw.db")) as raw:
                while len(result.store_s) < single:
                    for number in range(TURN):
                        result.raw_s.append(_commit(raw, clock, number))
                    for number in range(TURN):
                        began = time.perf_counter()
                        await store.record([_seen(number)])
                        result.store_s.append(time.perf_counter() - began)
            each = many // tasks

            async def work(task: int) -> None:
                for number in range(each):
                    await store.record([_seen(task * each + number)])

            began = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for task in range(tasks):
                    group.create_task(work(task))
            result.rate = each * tasks / (time.perf_counter() - began)
    return result


def _seen(number: int) -> Observation:
    return Observation(point=f"f/{number % 64}", kind=Kind.STATUS, value=number % 977)


def _raw(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    for text in (
        f"page_size = {schema.PAGE_BYTES}",
        "locking_mode = EXCLUSIVE",
        "journal_mode = WAL",
        "synchronous = FULL",
        f"wal_autocheckpoint = {WAL_BYTES_MAX // schema.PAGE_BYTES}",
    ):
        schema.pragma(connection, text)
    connection.execute(
        "CREATE TABLE event (seq INTEGER PRIMARY KEY, chain BLOB, kind TEXT, point TEXT, "
        "at_us INTEGER, body BLOB)"
    )
    return connection


def _commit(connection: sqlite3.Connection, clock: SystemClock, number: int) -> float:
    """Return the seconds of one commit of a row that is ready."""
    seen, stamp = _seen(number), clock.stamp(clock.now())
    body = pending(seen, stamp, urgent=False).body
    row = (bytes(CHAIN_LENGTH), str(seen.kind), seen.point, stamp.wall_us, body)
    began = time.perf_counter()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "INSERT INTO event (chain, kind, point, at_us, body) VALUES (?, ?, ?, ?, ?)", row
    )
    connection.execute("COMMIT")
    return time.perf_counter() - began


async def _hops(count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    asked: queue.SimpleQueue[asyncio.Future[None] | None] = queue.SimpleQueue()

    def answer() -> None:
        while (future := asked.get()) is not None:
            loop.call_soon_threadsafe(future.set_result, None)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    result = []
    for _ in range(count):
        began = time.perf_counter()
        future = loop.create_future()
        asked.put(future)
        await future
        result.append(time.perf_counter() - began)
    asked.put(None)
    thread.join()
    return result
