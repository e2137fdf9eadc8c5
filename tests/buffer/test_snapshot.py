import asyncio
import sqlite3
from pathlib import Path

import pytest

from buffer.log import EventLog
from buffer.store import Store
from events.errors import StoreError
from events.replication import Lane
from tests.buffer.logs import check_chain, read
from tests.buffer.stores import panic, pragma, routine, store_at, until


def test_a_snapshot_taken_while_writing_is_a_prefix_of_the_log(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"

    async def scenario() -> tuple[int, int, int]:
        async with store_at(tmp_path / "store") as store:
            for start in range(0, 10_000, 500):
                await store.record([routine(start + n, text="x" * 100) for n in range(500)])
            before = store.heads()[0].head
            during = 0
            async with asyncio.TaskGroup() as group:
                copying = group.create_task(store.snapshot(copy))
                while not copying.done():
                    await store.record([panic(during), routine(during)])
                    during += 2
                    await store.read(store.heads()[0].log_id, Lane.MAIN, 9000, limit_bytes=10_000)
            after = store.heads()[0].head
            await store.record([routine(1)])
            return before, during, after

    before, during, after = asyncio.run(scenario())
    assert during > 0, "appends and readings go on during the copy"
    assert not copy.with_name("copy.db.partial").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy.db", "store"]
    plain = sqlite3.connect(copy)
    assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    plain.close()
    taken = EventLog.open(copy)
    assert before <= taken.head.head <= after
    original = EventLog.open(tmp_path / "store" / "events.db")
    reading = read(taken, Lane.MAIN)
    check_chain(original.head.log_id, reading)
    assert reading.entries == read(original, Lane.MAIN).entries[: taken.head.head]
    taken.close()
    original.close()


def test_closing_ends_a_snapshot_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            async with store_at(tmp_path / "store") as store:
                for start in range(0, 10_000, 500):
                    await store.record([routine(start + n, text="x" * 100) for n in range(500)])
                taken = group.create_task(attempt(store))
                await until((tmp_path / "copy.db.partial").exists)
            await taken

    async def attempt(store: Store) -> None:
        with pytest.raises(StoreError, match="closed"):
            await store.snapshot(tmp_path / "copy.db")

    asyncio.run(scenario())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]


def test_a_copy_that_cannot_be_written_does_not_trouble_the_store(tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.with_name("copy.db.partial").mkdir()

    async def scenario() -> None:
        async with store_at(tmp_path / "store") as store:
            await store.record([routine(1)])
            with pytest.raises(StoreError):
                await store.snapshot(target)
            assert store.status()["state"] == "ok"
            assert await pragma(store, "locking_mode") == "exclusive"
            await store.record([routine(2)])

    asyncio.run(scenario())
