import gzip
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from events.errors import (
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreNewer,
    StoreReadOnly,
    UnavailableError,
)
from events.model import Origin
from station import schema
from station.listing import Listing
from station.store import Store
from sync.ledger import Cursor
from tests.station.gateway_log import GatewayLog, record
from tests.station.ledger import CLOCK, NOW, listed, with_store


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_confirmed_into_a_file_that_was_taken_away(
    tmp_path: Path, replaced: bool
) -> None:
    log = GatewayLog()
    log.append(record())
    log.append(record())

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 1), NOW)
        (tmp_path / schema.FILE_NAME).unlink()
        if replaced:
            (tmp_path / schema.FILE_NAME).write_bytes(b"")
        with pytest.raises(StoreError, match="deleted or replaced"):
            await store.commit("g1", log.main(2, 2), NOW)
        with pytest.raises(StoreError, match="deleted or replaced"):
            await store.ping()

    with_store(tmp_path, work)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_write_ahead_log_that_was_taken_away_takes_nothing_with_it(
    tmp_path: Path, replaced: bool
) -> None:
    log = GatewayLog()
    log.append(record())
    log.append(record())
    wal = tmp_path / f"{schema.FILE_NAME}-wal"

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 1), NOW)
        wal.unlink()
        if replaced:
            wal.write_bytes(b"")
        with pytest.raises(StoreError, match="-wal was deleted or replaced"):
            await store.commit("g1", log.main(2, 2), NOW)
        with pytest.raises(StoreError, match="deleted or replaced"):
            await store.ping()

    with_store(tmp_path, work)
    assert [row["seq"] for row in listed(tmp_path)] == [1]


CHILD = """
import asyncio, sys
from pathlib import Path
from buffer.clock import SystemClock
from station.store import Store
from tests.station.gateway_log import GatewayLog, record

async def main():
    clock = SystemClock()
    log = GatewayLog()
    async with Store(Path(sys.argv[1]), clock=clock) as store:
        held = (await store.cursors("g1", ["log-1"])).get("log-1")
        done = held.main if held else 0
        for seq in range(1, 100_000):
            log.append(record(monotonic_s=float(seq)))
            if seq > done and seq % 3 == 0:
                await store.commit("g1", log.main(done + 1, seq), clock.now())
                done = seq
                print(done, flush=True)

asyncio.run(main())
"""


def test_events_and_cursor_agree_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    seeded = random.Random(5)
    told = 0
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, cwd=root
        )
        assert child.stdout is not None
        with child.stdout:
            for _ in range(seeded.randint(1, 40)):
                told = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            for line in child.stdout:
                told = int(line) if line.endswith(b"\n") else told
        child.wait()

        async def work(store: Store) -> int:
            return (await store.cursors("g1", ["log-1"]))["log-1"].main

        cursor = with_store(tmp_path, work)
        seqs = [event["seq"] for event in listed(tmp_path)]
        assert seqs == list(range(1, cursor + 1))
        assert cursor >= told  # what was acknowledged is held


def test_files_copied_in_the_middle_of_writing_hold_whole_commits(tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    log = GatewayLog()
    for seq in range(1, 301):
        log.append(record(monotonic_s=float(seq)))

    async def work(store: Store) -> None:
        for seq in range(1, 301, 3):
            await store.commit("g1", log.main(seq, seq + 2), NOW)
            if seq == 150 + 1:
                copy.mkdir()
                for file in live.glob("station.db*"):
                    shutil.copy(file, copy / file.name)

    with_store(live, work)

    async def copied(store: Store) -> Cursor:
        return (await store.cursors("g1", ["log-1"]))["log-1"]

    cursor = with_store(copy, copied)
    assert [event["seq"] for event in listed(copy)] == list(range(1, cursor.main + 1))
    assert cursor.chain == log.chain_at(cursor.main)


def test_a_second_station_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async def work(_: Store) -> None:
        with pytest.raises(UnavailableError, match="already works on"):
            await Store(tmp_path, clock=CLOCK).open()

    with_store(tmp_path, work)


def test_a_lock_held_by_another_program_is_named_and_passes(tmp_path: Path) -> None:
    with_store(tmp_path, lambda store: store.known())
    other = sqlite3.connect(tmp_path / schema.FILE_NAME, isolation_level=None)
    log = GatewayLog()
    log.append(record())

    async def work(store: Store) -> None:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked):
            await store.commit("g1", log.main(1, 1), NOW)
        other.execute("ROLLBACK")
        assert (await store.commit("g1", log.main(1, 1), NOW)).stored == 1

    with closing(other):
        with_store(tmp_path, work)


def test_a_newer_form_is_refused_and_left_alone(tmp_path: Path) -> None:
    with_store(tmp_path, lambda store: store.known())
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {(schema.MAJOR + 1) * 1000}")
    with pytest.raises(StoreNewer, match="newer"):
        with_store(tmp_path, lambda store: store.known())
    with pytest.raises(StoreNewer):
        Listing(tmp_path)


def test_a_ledger_of_the_first_form_goes_on_and_knows_what_it_holds(tmp_path: Path) -> None:
    packed = Path(__file__).parents[1] / "databases" / "station-1.0.db.gz"
    (tmp_path / schema.FILE_NAME).write_bytes(gzip.decompress(packed.read_bytes()))
    before = listed(tmp_path)
    assert len(before) == 13
    memory, disk = the_logs_of_the_first_form()

    async def work(store: Store) -> None:
        held = await store.cursors("hall", ["disk", "memory"])
        assert held["disk"] == Cursor(main=14, chain=disk.chain_at(14), urgent=5)
        known = await store.commit("hall", disk.main(1, 14, skip=(7, 8)), NOW)
        assert (known.stored, known.known) == (0, 12)
        assert (await store.commit("hall", memory.early(1), NOW)).known == 1
        assert [e.seq for e in await store.copies("hall", "disk", 1, 14)] == [1, 5]
        disk.append(record(urgent=True))
        disk.append(record(origin=Origin("disk", 3)))
        done = await store.commit("hall", disk.main(13, 16), NOW)
        assert (done.stored, done.known) == (1, 3)
        assert [e.seq for e in await store.copies("hall", "disk", 1, 16)] == [1, 5, 15]
        (report,) = (await store.logs({})).values()
        assert (report.seq, report.missing) == (16, 2)

    with_store(tmp_path, work)
    with_store(tmp_path, lambda store: store.known())  # a second opening takes no step again
    assert listed(tmp_path)[:-1] == before
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    assert version == schema.MAJOR * 1000 + schema.MINOR


def the_logs_of_the_first_form() -> tuple[GatewayLog, GatewayLog]:
    """Return what a gateway had sent to the ledger in `tests/databases/station-1.0.db.gz`."""
    memory, disk = GatewayLog("memory", volatile=True), GatewayLog("disk")
    memory.append(record("gas", subkind="gas", urgent=True, monotonic_s=1.0))
    disk.append(
        record("gas", subkind="gas", urgent=True, monotonic_s=1.0, origin=Origin("memory", 1))
    )
    for number in range(2, 13):
        point = f"zone-{number % 3}"
        disk.append(record(point, urgent=number == 5, monotonic_s=float(number)))
    disk.append(b"\xc1 not readable")
    disk.append(record("late", origin=Origin("salvaged", 7), monotonic_s=20.0))
    return memory, disk


def test_a_newer_minor_is_opened(tmp_path: Path) -> None:
    with_store(tmp_path, lambda store: store.known())
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.MAJOR * 1000 + schema.MINOR + 1}")
        connection.execute("CREATE TABLE from_the_future (what TEXT)")
    assert with_store(tmp_path, lambda store: store.known()) == {}


@pytest.mark.parametrize("content", [b"garbage " * 1000, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / schema.FILE_NAME).write_bytes(content)
    with pytest.raises(StoreCorrupt):
        with_store(tmp_path, lambda store: store.known())
    assert (tmp_path / schema.FILE_NAME).read_bytes() == content


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as connection:
        connection.execute("CREATE TABLE theirs (what TEXT)")
    with pytest.raises(StoreCorrupt, match="not a station's"):
        with_store(tmp_path, lambda store: store.known())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreReadOnly, match="cannot write"):
        with_store(tmp_path / "file" / "data", lambda store: store.known())


def test_a_reader_neither_writes_nor_checkpoints(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 1), NOW)
        before = (
            (tmp_path / "station.db").read_bytes(),
            (tmp_path / "station.db-wal").stat().st_size,
        )
        assert len(listed(tmp_path)) == 1
        with (
            closing(schema.open_reader(tmp_path)[0]) as reader,
            pytest.raises(sqlite3.OperationalError),
        ):
            reader.execute("DELETE FROM event")
        after = (
            (tmp_path / "station.db").read_bytes(),
            (tmp_path / "station.db-wal").stat().st_size,
        )
        assert before == after

    with_store(tmp_path, work)


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from events.errors import StoreError
from station.store import Store
from tests.station.gateway_log import FixedClock, GatewayLog, record

async def main():
    clock = FixedClock()
    log = GatewayLog()
    for seq in range(1, 2001):
        log.append(record(point=f"zone-{seq}", value="x" * 400))
    async with Store(Path(sys.argv[1]), clock=clock) as store:
        await store.commit("g1", log.main(1, 10), clock.now())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
        failed = 0
        for seq in range(11, 2001, 10):
            try:
                await store.commit("g1", log.main(seq, seq + 9), clock.now())
            except StoreError as error:
                failed += 1
                assert store.trouble is error
                break
        held = (await store.cursors("g1", ["log-1"]))["log-1"]
        assert failed == 1 and held.main == seq - 1, (failed, held, seq)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        done = await store.commit("g1", log.main(seq, 2000), clock.now())
        assert done.stored == 2001 - seq, done
        assert store.trouble is None
    print("recovered", flush=True)

asyncio.run(main())
"""


def test_a_disk_without_room_loses_nothing_and_is_taken_up_again(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (child.stdout, child.stderr) == ("recovered\n", "")
    assert [event["seq"] for event in listed(tmp_path)] == list(range(1, 2001))
    assert [event["n"] for event in listed(tmp_path)] == list(range(1, 2001))


def test_a_reader_who_may_write_nothing_reads_what_a_stopped_station_left(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, 1), NOW))
    tmp_path.chmod(0o555)
    for folder in tmp_path.parents:
        if not folder.name.startswith(("pytest-", "popen-")):
            break
        folder.chmod(0o755)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        assert [event["seq"] for event in listed(tmp_path)] == [1]
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)
    assert {file.name for file in tmp_path.iterdir()} == {schema.FILE_NAME, "station.lock"}
