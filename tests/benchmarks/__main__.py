"""`make bench`: measure on this machine and print one table, medians beside their floor or peer."""

import argparse
import asyncio
import json
import platform
import sqlite3
import statistics
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import floor, latency, load

Row = tuple[str, str, str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description="measure the product on this machine")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    options = parser.parse_args()
    few = options.quick
    rows = [
        *_latencies(100 if few else 400),
        _start(3 if few else 7),
        *asyncio.run(_polling(10 if few else 30, 1 if few else 3)),
    ]
    if options.json:
        print(json.dumps({"machine": _machine(), "rows": rows}, ensure_ascii=False))
        return
    table = Table(title="N+ gateway on this machine", caption=_machine())
    for column in ("figure", "measured", "goal", "beside it"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _latencies(count: int) -> list[Row]:
    raw = _spread(floor.sqlite_commit(count))
    beside = f"one raw SQLite commit: {raw}"
    goal = "p50 ≤ 15 ms, p99 ≤ 100 ms"
    return [
        (
            "Contact ID, last byte → station's commit",
            _spread(asyncio.run(latency.contact_id(count))),
            goal,
            beside,
        ),
        (
            "contact, end of qualification → station's commit",
            _spread(asyncio.run(latency.contact(count))),
            goal,
            beside,
        ),
    ]


def _start(count: int) -> Row:
    times = asyncio.run(load.first_scan(count))
    measured = (
        f"{statistics.median(times):.2f} s ({min(times):.2f}–{max(times):.2f}, {count} runs)"
    )
    return ("gateway start → first scan", measured, "≤ 2 s", "")


async def _polling(seconds: float, runs: int) -> list[Row]:
    ours = [await load.polling(seconds) for _ in range(runs)]
    peer = [await load.peer_polling(seconds) for _ in range(runs)]

    def median(rows: list[dict[str, float]], key: str) -> float:
        return statistics.median(row[key] for row in rows)

    rate = f"{median(ours, 'rate'):.0f} answers/s"
    return [
        (
            f"resident memory, 64 points in 8 units over TCP, {rate}",
            f"{median(ours, 'resident_bytes') / 1e6:.0f} MB",
            "≤ 60 MB",
            "",
        ),
        (
            f"processor, the same load, {runs} × {seconds:.0f} s",
            f"{median(ours, 'core'):.1%} of a core",
            "≤ 5 %",
            f"pymodbus' client and the simulated module in one process: {median(peer, 'core'):.1%}",
        ),
    ]


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50 = statistics.median(ordered)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, max {ordered[-1] * 1e3:.1f} ms (n={len(ordered)})"


def _machine() -> str:
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, pyzmq {version('pyzmq')}, pymodbus {version('pymodbus')}"
    )


if __name__ == "__main__":
    main()
