"""The station's ledger alone: batches as a drain brings them, without sockets, to durable rows."""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buffer.clock import SystemClock
from events import chain
from events.model import ClockQuality, Observation, Record, Stamp
from events.replication import Entry, Lane
from events.wire import encode
from station.store import Store
from sync.ledger import Commit

BATCH_BYTES = 256 * 1024  # the most that one fetch asks for
URGENT_EVERY = 100  # one in so many went ahead on the urgent lane and is held already
CONDITIONS = 50


def measure(*, count: int = 100_000, text_length: int = 0, runs: int = 3) -> dict[str, Any]:
    """Return events a second of each run, and microseconds of processor time for an event.

    text_length: characters of text in each event, beyond a plain observation of 146 bytes.
    """
    log = _log(count, text_length)
    commits = list(_commits(log))
    rates, processor_us, slowest_s = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as name:
            wall_s, cpu_s, slowest = asyncio.run(_store(Path(name), commits))
        rates.append(count / wall_s)
        processor_us.append(cpu_s / count * 1e6)
        slowest_s.append(slowest)
    return {
        "count": count,
        "body_bytes": statistics.mean(len(entry.body or b"") for entry in log),
        "batches": len(commits),
        "rates": rates,
        "processor_us": processor_us,
        "slowest_commit_s": slowest_s,
    }


async def _store(folder: Path, commits: list[Commit]) -> tuple[float, float, float]:
    clock = SystemClock()
    async with Store(folder, clock=clock) as store:
        began, cpu, slowest = time.perf_counter(), time.process_time(), 0.0
        for commit in commits:
            asked = time.perf_counter()
            await store.commit("g1", commit, clock.now())
            slowest = max(slowest, time.perf_counter() - asked)
        return time.perf_counter() - began, time.process_time() - cpu, slowest


def _log(count: int, text_length: int) -> list[Entry]:
    seeded = random.Random(1)
    value, log = chain.genesis("log"), []
    for seq in range(1, count + 1):
        observation = Observation(
            point=f"z{seq % CONDITIONS}",
            kind="measurement" if seq % 3 else "supervisory",
            qualifier="still" if seq % 2 else "new",
            value=round(seeded.random() * 100, 2),
            text="x" * text_length,
        )
        stamp = Stamp(
            monotonic_us=seq * 1000,
            boot_id="boot",
            wall_us=1_790_000_000_000_000 + seq * 1000,
            clock=ClockQuality.SYNCHRONISED,
        )
        body = encode(Record(stamp=stamp, observation=observation, urgent=seq % URGENT_EVERY == 0))
        value = chain.link(value, seq, body)
        log.append(Entry(seq, value, body))
    return log


def _commits(log: list[Entry]) -> Iterator[Commit]:
    size = BATCH_BYTES // (24 + len(log[0].body or b""))
    for first in range(0, len(log), size):
        part = log[first : first + size]
        last = part[-1]
        early = tuple(entry for entry in part if entry.seq % URGENT_EVERY == 0)
        rest = tuple(entry for entry in part if entry.seq % URGENT_EVERY)
        if early:
            yield Commit(
                log_id="log",
                lane=Lane.URGENT,
                entries=early,
                through=early[-1].seq,
                chain=b"",
                head=len(log),
            )
        yield Commit(
            log_id="log",
            lane=Lane.MAIN,
            entries=rest,
            through=last.seq,
            chain=last.chain,
            head=len(log),
            confirmed=len(early),
        )


if __name__ == "__main__":
    print(measure())
    print(measure(text_length=160))
