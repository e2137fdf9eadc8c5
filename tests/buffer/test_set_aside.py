"""A file that cannot be used is set aside, and recording goes on in a new log."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from events.errors import StoreError
from events.replication import Lane
from tests.buffer.stores import (
    about_the_store,
    file,
    of_devices,
    panic,
    pragma,
    records,
    routine,
    state,
    store_at,
    until,
)

pytestmark = pytest.mark.usefixtures("quick_recovery")


def change_last_event(path: Path) -> bytes:
    forger = sqlite3.connect(path)
    forger.execute(
        "UPDATE routine_event SET body = CAST(replace(hex(body), '78', '79') AS BLOB) "
        "WHERE seq = (SELECT max(seq) FROM routine_event)"
    )
    forger.commit()
    forger.close()
    return path.read_bytes()


def spoil(folder: Path, how: str) -> bytes:
    path = file(folder)
    if how == "last-event":
        return change_last_event(path)
    data = bytearray(path.read_bytes())
    match how:
        case "garbage":
            data[:] = b"not a database at all" * 500
        case "empty":
            data.clear()
        case "truncated":
            del data[len(data) // 2 :]
        case "header":
            data[:16] = b"\0" * 16
        case "column":
            assert b"created_us" in data
            data[:] = data.replace(b"created_us", b"creatXd_us")
        case "letter":
            assert b"created_us" in data
            data[:] = data.replace(b"created_us", b"creat\x98d,,,")  # no UTF-8, no SQL
        case "text":
            with closing(sqlite3.connect(path)) as reader:
                log_id = reader.execute("SELECT log_id FROM log").fetchone()[0]
            data = bytearray(path.read_bytes())
            data[:] = data.replace(log_id.encode(), b"\x98" + log_id[1:].encode())
        case "newer":
            data[60:64] = (2000).to_bytes(4, "big")  # user_version
        case other:
            raise AssertionError(other)
    path.write_bytes(data)
    return bytes(data)


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("garbage", "corrupt"),
        ("empty", "corrupt"),
        ("truncated", "corrupt"),
        ("header", "corrupt"),
        ("column", "corrupt"),
        ("letter", "corrupt"),
        ("text", "corrupt"),
        ("last-event", "corrupt"),
        ("newer", "newer-version"),
    ],
)
def test_a_file_that_cannot_be_used_is_set_aside_and_recording_goes_on(
    tmp_path: Path, how: str, name: str
) -> None:
    log_ids: list[str] = []

    async def run(number: int) -> None:
        async with store_at(tmp_path) as store:
            assert state(store) == "ok"
            log_ids.append(store.heads()[0].log_id)
            await store.record([routine(number, text="x" * 300) for _ in range(40)])

    asyncio.run(run(1))
    spoilt = spoil(tmp_path, how)
    asyncio.run(run(2))
    spoil(tmp_path, how)
    asyncio.run(run(3))
    assert len(set(log_ids)) == 3
    assert file(tmp_path).with_name(f"events.db.{name}-1").read_bytes() == spoilt
    assert file(tmp_path).with_name(f"events.db.{name}-2").exists()
    found = records(tmp_path)
    assert of_devices(found) == [3] * 40
    told = [r.observation for r in about_the_store(found)]
    assert [o.qualifier for o in told] == ["new", "restore"]
    assert told[0].details["file"] == str(tmp_path / f"events.db.{name}-2")


def test_damage_found_while_running_begins_a_new_log(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(n, text="x" * 300) for n in range(1000)])
            await store.record([panic(1)])
            first = store.heads()[0]
            await pragma(store, "wal_checkpoint(TRUNCATE)")
            await pragma(store, "cache_size = 1")
            await pragma(store, "shrink_memory")
            # by another process: closing the file in this one would give up SQLite's locks
            command = [sys.executable, "-c", DAMAGE, str(file(tmp_path))]
            await asyncio.to_thread(subprocess.run, command, check=True)
            with pytest.raises(StoreError):
                await store.read(first.log_id, Lane.MAIN, 0, limit_bytes=1 << 30)
            assert state(store) == "corrupt"
            await store.record([panic(2)])
            await until(lambda: state(store) == "ok")
            (head,) = store.heads()
            assert head.log_id != first.log_id
            # what was last stored is still known
            seen = store.latest("meter/1", "status", "")
            assert seen is not None
            assert seen.value == 999

    asyncio.run(scenario())
    assert file(tmp_path).with_name("events.db.corrupt-1").exists()
    found = records(tmp_path)
    assert of_devices(found) == [2]
    assert [r.observation.qualifier for r in about_the_store(found)] == [
        "new",  # from memory: it was damaged
        "new",
        "restore",  # which file was set aside
        "restore",
    ]


DAMAGE = """
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(100 * 1024)
    file.write(b"\\xa5" * (50 * 1024))
"""
