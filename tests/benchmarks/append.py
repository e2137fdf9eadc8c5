"""Durable appends: one task that awaits each event, 64 tasks at once, and raw SQLite beside them.

The raw side has the store's settings (pages of 1 KiB, an exclusive write-ahead log, FULL, folded
at 1 MiB) and its rows in one table.
"""

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from buffer import schema
from buffer.bound import WAL_BYTES_MAX
from buffer.clock import SystemClock
from buffer.entries import pending
from buffer.store import Store
from events.chain import CHAIN_LENGTH
from events.model import Observation
from events.replication import Lane

STATION = "s" * 40
TASKS = 64


def measure(runs: int = 5, singles: int = 300, many: int = 20_000) -> dict[str, Any]:
    """Return medians over `runs`, each with raw SQLite and the store in turn on one disk.

    `raw_ms`, `store_ms`: one commit of one alarm. `ratio`: the median of the runs' ratios.
    `many_per_s`: events a second of 64 tasks that each await their own. `alarm_bytes`: written to
    the medium per single alarm, acknowledgement and folding included, by /proc/self/io.
    """
    rows = [_run(singles, many) for _ in range(runs)]
    result: dict[str, Any] = {
        key: statistics.median(row[key] for row in rows)
        for key in ("raw_ms", "store_ms", "ratio", "many_per_s", "alarm_bytes")
    }
    result["ratios"] = sorted(round(row["ratio"], 3) for row in rows)
    return result | {"runs": runs, "singles": singles, "many": many}


def _run(singles: int, many: int) -> dict[str, float]:
    raw = statistics.median(_raw(singles))
    one, alarm_bytes, rate = asyncio.run(_store(singles, many))
    store = statistics.median(one)
    return {
        "raw_ms": raw * 1e3,
        "store_ms": store * 1e3,
        "ratio": store / raw,
        "many_per_s": rate,
        "alarm_bytes": alarm_bytes,
    }


def _alarm(number: int) -> Observation:
    return Observation(
        point="hall/panic", kind="alarm", subkind="panic", source="gpio", value=number
    )


def _raw(count: int) -> list[float]:
    clock = SystemClock()
    with (
        tempfile.TemporaryDirectory() as name,
        closing(sqlite3.connect(Path(name) / "raw.db", isolation_level=None)) as connection,
    ):
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
        took = []
        for number in range(count):
            stamp = clock.stamp(clock.now())
            body = pending(_alarm(number), stamp, urgent=True).body
            row = (bytes(CHAIN_LENGTH), "alarm", "hall/panic", stamp.wall_us, body)
            started = time.perf_counter()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO event (chain, kind, point, at_us, body) VALUES (?, ?, ?, ?, ?)", row
            )
            connection.execute("COMMIT")
            took.append(time.perf_counter() - started)
        return took


async def _store(singles: int, many: int) -> tuple[list[float], float, float]:
    with tempfile.TemporaryDirectory() as name:
        async with Store(
            Path(name), clock=SystemClock(), required_stations=frozenset({STATION})
        ) as store:
            log_id = store.heads()[0].log_id
            took = []
            before = _written()
            for number in range(singles):
                started = time.perf_counter()
                await store.record([_alarm(number)])
                took.append(time.perf_counter() - started)
                store.acknowledge(STATION, log_id, Lane.MAIN, number + 1)
            alarm_bytes = (_written() - before) / singles
            started = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for _ in range(TASKS):
                    group.create_task(_produce(store, many // TASKS))
            rate = (many // TASKS) * TASKS / (time.perf_counter() - started)
            return took, alarm_bytes, rate


async def _produce(store: Store, count: int) -> None:
    for number in range(count):
        await store.record([_alarm(number)])


def _written() -> int:
    os.sync()
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    return 0
