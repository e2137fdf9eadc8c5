"""Files of every version of one major open in every program of that major, with their backlog."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from events.replication import Lane
from tests.buffer.logs import check_chain, item, open_log, read

DATABASES = Path(__file__).parents[1] / "databases"
OLD = sorted(DATABASES.glob("gateway-1.*.db"))


def copied(source: Path, folder: Path) -> Path:
    target = folder / "events.db"
    shutil.copyfile(source, target)
    return target


@pytest.mark.parametrize("source", OLD, ids=lambda path: path.stem)
def test_a_file_of_every_release_is_read_and_gone_on_with(source: Path, tmp_path: Path) -> None:
    copied(source, tmp_path)
    log = open_log(tmp_path)
    assert (log.head.first, log.head.head) == (21, 101)
    reading = read(log, Lane.MAIN)
    check_chain(log.head.log_id, reading)
    assert [(gap.first, gap.last, gap.why) for gap in reading.gaps] == [(1, 20, "trimmed")]
    assert [entry.seq for entry in read(log, Lane.URGENT).entries] == list(range(30, 101, 10))
    assert log.marks() == {("s" * 40, Lane.MAIN): 20}
    assert log.append([item(102)]) == 102
    log.close()


def test_a_rollback_across_a_minor_finds_and_keeps_the_backlog(tmp_path: Path) -> None:
    """The file was written by a program of the next minor: one table and one column more."""
    path = copied(OLD[-1], tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as newer:
        version = newer.execute("PRAGMA user_version").fetchone()[0]
        newer.execute("ALTER TABLE routine_event ADD COLUMN later TEXT NOT NULL DEFAULT 'x'")
        newer.execute("CREATE TABLE later (n INTEGER PRIMARY KEY) STRICT")
        newer.execute(f"PRAGMA user_version = {version + 1}")
    log = open_log(tmp_path)
    check_chain(log.head.log_id, read(log, Lane.MAIN))
    assert log.append([item(102)]) == 102
    assert log.trim(50) == 30
    log.close()
    with closing(sqlite3.connect(path)) as newer:
        assert newer.execute("PRAGMA user_version").fetchone()[0] == version + 1
        assert newer.execute(
            "SELECT later, count(*) FROM routine_event GROUP BY later"
        ).fetchall() == [("x", newer.execute("SELECT count(*) FROM routine_event").fetchone()[0])]
