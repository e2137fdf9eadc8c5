"""Whatever page of a store is destroyed, recording goes on and every number is accounted for."""

import asyncio
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

import buffer.salvaging
from buffer.store import Store
from events.errors import StoreError
from events.replication import Lane
from tests.buffer.stores import STATION, file, panic, routine, state, store_at, until

PAGE = 1024
NEW = 9_999


async def fill(folder: Path) -> tuple[str, dict[int, bytes]]:
    """Make a store with rows in every table; return its log's id and its events."""
    async with store_at(folder) as store:
        for start in range(0, 40, 10):
            seen = [routine(start + n, text="x" * 300, point=f"m/{n}") for n in range(9)]
            await store.record([*seen, panic(start + 9, source="r", raw=b"5011")])
        (head,) = store.heads()
        store.acknowledge(STATION, head.log_id, Lane.MAIN, 3)
        reading = await store.read(head.log_id, Lane.MAIN, 0, limit_bytes=1 << 30)
        return head.log_id, {entry.seq: entry.body or b"" for entry in reading.entries}


async def pulled(store: Store, old: str, count: int) -> dict[int, bytes | None]:
    """Pull what the old file held, as a station does; None where a number is said to be gone.

    Where the page that names the log is lost, its events come under another name.
    """
    found: dict[int, bytes | None] = {}
    after: dict[str, int] = {}
    async with asyncio.timeout(20):
        while len(found) < count:
            await asyncio.sleep(0.01)
            for place, head in enumerate(store.heads()):
                if place == 0 and head.log_id != old:
                    continue  # the new log
                start = after.get(head.log_id, 0)
                try:
                    reading = await store.read(head.log_id, Lane.MAIN, start, limit_bytes=10_000)
                except StoreError:
                    await until(lambda: state(store) == "ok")
                    continue
                after[head.log_id] = reading.through
                found |= {each.seq: each.body for each in reading.entries if each.seq <= count}
                for gap in reading.gaps:
                    found |= {seq: found.get(seq) for seq in range(gap.first, gap.last + 1)}
    return found


def tables_of(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as reader:
        names = [
            name
            for (name,) in reader.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        return {
            name: reader.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names
        }


def test_whatever_page_is_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer.salvaging, "PAUSE_S", 0)
    whole = tmp_path / "whole"
    old, bodies = asyncio.run(fill(whole))
    empty = {name for name, count in tables_of(file(whole)).items() if not count}
    assert empty == {"gap"}
    pages = file(whole).stat().st_size // PAGE
    lost: dict[int, int] = {}

    async def scenario(folder: Path, page: int) -> None:
        began = time.monotonic()
        async with store_at(folder) as store:
            await store.record([panic(NEW)])
            assert time.monotonic() - began < 5, page
            found = await pulled(store, old, len(bodies))
            kept = {seq for seq, body in found.items() if body == bodies[seq]}
            assert all(found[seq] is None for seq in set(bodies) - kept), page
            assert len(bodies) in kept, f"page {page}: the newest alarm stands in two places"
            lost[page] = len(bodies) - len(kept)

    for page in range(pages):
        folder = tmp_path / str(page)
        shutil.copytree(whole, folder)
        with file(folder).open("r+b") as damaged:
            damaged.seek(page * PAGE)
            damaged.write(os.urandom(PAGE))
        asyncio.run(scenario(folder, page))
    assert max(lost.values()) <= PAGE // 100, lost  # what lies in one page
    assert sum(count > 0 for count in lost.values()) > 5, "no page with events was hit"
