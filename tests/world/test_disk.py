"""The disk forgets what was not synced, and SQLite survives exactly where it says it does."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.world import disk
from tests.world.disk import Disk, DiskFault, Kept

ROWS = 60


@pytest.fixture(autouse=True)
def _file_layer() -> Iterator[None]:
    """The shim lets through, untouched, whatever does not lie on one of its disks."""
    disk.install()
    yield
    disk.uninstall()


def filled(folder: Path, synchronous: str) -> tuple[Disk, sqlite3.Connection]:
    made = Disk(folder / "disk")
    connection = sqlite3.connect(made.folder / "x.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(ROWS):
        connection.execute("INSERT INTO t VALUES (?, ?)", (number, bytes(200)))
    return made, connection


def rows(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "x.db")) as found:
        assert found.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        count: int = found.execute("SELECT count(*) FROM t").fetchone()[0]
        return count


@pytest.mark.parametrize("kept", Kept)
def test_a_power_cut_takes_no_commit_that_was_synced(tmp_path: Path, kept: Kept) -> None:
    made, connection = filled(tmp_path, "FULL")
    with closing(connection):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO t VALUES (1000, 'not committed')")
        for number in range(5):
            made.cut_to(tmp_path / f"{number}", kept, random.Random(number))
        connection.execute("ROLLBACK")
    assert [rows(tmp_path / f"{number}") for number in range(5)] == [ROWS] * 5


@pytest.mark.parametrize("synchronous", ["NORMAL", "OFF"])
def test_a_power_cut_takes_commits_that_were_not_synced(tmp_path: Path, synchronous: str) -> None:
    made, connection = filled(tmp_path, synchronous)
    with closing(connection):
        assert made.unsynced() > 0
        made.cut_to(tmp_path / "none", Kept.NONE, random.Random(1))
        made.cut_to(tmp_path / "all", Kept.ALL, random.Random(1))
        made.copy_to(tmp_path / "killed")
    if synchronous == "NORMAL":  # without any sync not even the table may be there
        assert rows(tmp_path / "none") < ROWS
    assert rows(tmp_path / "all") == ROWS
    assert rows(tmp_path / "killed") == ROWS, "a process that is killed loses nothing"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (DiskFault.FULL, sqlite3.SQLITE_FULL),
        (DiskFault.READ_ONLY, sqlite3.SQLITE_READONLY),
        (DiskFault.IO_ERROR, sqlite3.SQLITE_IOERR),
    ],
)
def test_a_disk_with_a_fault_says_so_and_recovers(
    tmp_path: Path, fault: DiskFault, code: int
) -> None:
    made, connection = filled(tmp_path, "FULL")
    with closing(connection):
        made.fault = fault
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute("INSERT INTO t VALUES (1000, ?)", (bytes(20_000),))
        assert caught.value.sqlite_errorcode & 0xFF == code
        made.fault = None
        connection.execute("INSERT INTO t VALUES (1000, 'again')")
    assert rows(made.folder) == ROWS + 1
