import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from buffer import schema
from buffer.bound import Bound, Room, cost_bytes
from buffer.entries import pending
from buffer.log import FILE_NAME, TRIM_EVENTS, EventLog
from buffer.notes import Notes
from events.chain import genesis
from events.errors import StoreCorrupt, StoreFull, StoreLocked, StoreNewer, StoreReadOnly
from events.replication import Lane
from events.wire import decode
from tests.buffer.logs import (
    MIB,
    alarm,
    bodies,
    check_chain,
    copy_states,
    item,
    open_log,
    read,
    stamp,
)


def test_numbers_begin_at_one_and_have_no_gaps(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    assert (log.head.first, log.head.head, log.head.chain) == (1, 0, genesis(log.head.log_id))
    assert log.append([item(1)]) == 1
    assert log.append([item(2), alarm(3), item(4)]) == 2
    assert (log.head.first, log.head.head) == (1, 4)
    check_chain(log.head.log_id, read(log, Lane.MAIN))
    log.close()


def test_what_was_appended_is_there_after_reopening(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    items = [alarm(n) if n % 3 == 0 else item(n) for n in range(1, 200)]
    log.append(items)
    head = log.head
    log.close()
    log = open_log(tmp_path)
    assert log.head == head
    assert bodies(read(log, Lane.MAIN)) == [each.body for each in items]
    log.close()


def test_each_log_has_an_id_of_its_own(tmp_path: Path) -> None:
    logs = [open_log(tmp_path / name) for name in "ab"]
    assert logs[0].head.log_id != logs[1].head.log_id
    for log in logs:
        log.close()


def test_settings_of_the_file_are_those_fixed_for_good(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    found = {
        name: schema.pragma(log.connection, name)
        for name in (
            "page_size",
            "auto_vacuum",
            "application_id",
            "user_version",
            "journal_mode",
            "synchronous",
            "locking_mode",
        )
    }
    tables = log.connection.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%sqlite_%'"
    ).fetchall()
    log.close()
    assert found == {
        "page_size": 1024,
        "auto_vacuum": 2,
        "application_id": 0x4E504C2B,
        "user_version": 1000,
        "journal_mode": "wal",
        "synchronous": 2,
        "locking_mode": "exclusive",
    }
    assert len(tables) == 7
    assert all(sql.endswith("STRICT") for (sql,) in tables)


def test_one_durable_alarm_writes_one_page_of_an_event_table(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([alarm(1)])
    before = log._wal_path.stat().st_size
    log.append([alarm(2)])
    assert log._wal_path.stat().st_size - before == schema.PAGE_BYTES + 24  # one frame
    log.close()


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    with pytest.raises(StoreLocked) as caught:
        open_log(tmp_path)
    assert "stop it" in caught.value.hint
    log.append([item(1)])
    log.close()


def test_a_second_process_can_neither_write_nor_read(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    code = (
        "import sqlite3, sys\n"
        "try: sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM log').fetchall()\n"
        "except sqlite3.OperationalError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / FILE_NAME)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told == "database is locked\n"
    log.close()


def test_a_technician_sees_both_tables_as_one(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(1), alarm(2), item(3)])
    log.close()
    copy = sqlite3.connect(tmp_path / FILE_NAME)
    rows = copy.execute("SELECT seq, urgent, kind, point, at FROM event").fetchall()
    copy.close()
    assert rows == [
        (1, 0, "status", "hall/1", "2027-01-15T08:00:00.000Z"),
        (2, 1, "alarm", "hall/2", "2027-01-15T08:00:00.000Z"),
        (3, 0, "status", "hall/3", "2027-01-15T08:00:00.000Z"),
    ]


def test_a_newer_minor_version_is_opened_and_left_as_it_is(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(1)])
    log.connection.execute("ALTER TABLE routine_event ADD COLUMN priority TEXT DEFAULT ''")
    log.connection.execute("ALTER TABLE log ADD COLUMN region TEXT")
    log.connection.execute("CREATE TABLE of_tomorrow (id INTEGER PRIMARY KEY) STRICT")
    log.connection.execute(f"PRAGMA user_version = {schema.USER_VERSION + 7}")
    log.close()
    log = open_log(tmp_path)
    log.append([item(2), alarm(3)])
    assert schema.pragma(log.connection, "user_version") == schema.USER_VERSION + 7
    assert len(read(log, Lane.MAIN).entries) == 3
    log.close()


def test_a_newer_major_version_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.connection.execute(f"PRAGMA user_version = {(schema.MAJOR + 1) * 1000}")
    log.close()
    with pytest.raises(StoreNewer, match=r"version 2\.0"):
        open_log(tmp_path)


def test_a_chain_of_an_unknown_algorithm_is_a_newer_version(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.connection.execute("UPDATE log SET chain_algorithm = 'sha3-16'")
    log.close()
    with pytest.raises(StoreNewer, match="sha3-16"):
        open_log(tmp_path)


def test_somebody_elses_database_is_not_a_store(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / FILE_NAME)
    other.execute("CREATE TABLE shopping (what TEXT)")
    other.commit()
    other.close()
    with pytest.raises(StoreCorrupt, match="not a store"):
        open_log(tmp_path)


@pytest.mark.parametrize("column", ["body", "chain"])
@pytest.mark.parametrize("urgent", [False, True])
def test_a_changed_last_event_is_found_at_opening(
    tmp_path: Path, column: str, urgent: bool
) -> None:
    log = open_log(tmp_path)
    log.append([item(1), alarm(2) if urgent else item(2)])
    table = "urgent_event" if urgent else "routine_event"
    log.connection.execute(f"UPDATE {table} SET {column} = zeroblob(16) WHERE seq = 2")
    log.close()
    with pytest.raises(StoreCorrupt, match="event 2"):
        open_log(tmp_path)


def test_a_damaged_page_is_found_by_the_check_on_demand(tmp_path: Path) -> None:
    log = open_log(tmp_path, bound_bytes=8 * MIB)
    for start in range(0, 1000, 100):
        log.append([item(start + n) for n in range(100)])
    assert log.quick_check() == []
    log.close()
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    data[100 * 1024 : 110 * 1024] = b"\xa5" * (10 * 1024)
    path.write_bytes(data)
    log = open_log(tmp_path)
    try:
        findings = log.quick_check()
    except StoreCorrupt as error:
        findings = [str(error)]
    assert findings
    log.close()


def test_trimming_declares_what_is_gone(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    items = [alarm(n) if n % 5 == 0 else item(n) for n in range(1, 101)]
    log.append(items)
    whole = read(log, Lane.MAIN)
    copy_states(log)
    assert log.trim(30) == 30
    assert log.trim(30) == 0
    assert log.trim(41) == 11
    assert log.head.first == 42
    after = read(log, Lane.MAIN)
    assert [(g.first, g.last, g.chain, g.why) for g in after.gaps] == [
        (1, 41, whole.entries[40].chain, "trimmed")
    ]
    assert after.entries == whole.entries[41:]
    check_chain(log.head.log_id, after)
    assert read(log, Lane.MAIN, 20).gaps[0].first == 21
    assert [e.seq for e in read(log, Lane.URGENT).entries][:2] == [45, 50]
    ends = log.connection.execute("SELECT chain_before, chain_after FROM gap").fetchall()
    assert ends == [(genesis(log.head.log_id), whole.entries[40].chain)]
    log.close()


def test_trimming_goes_in_slices_and_keeps_the_newest_event(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(n) for n in range(TRIM_EVENTS + 10)])
    head = log.head
    copy_states(log)
    assert log.trim(10**9) == TRIM_EVENTS
    assert log.trim(10**9) == 9
    assert log.trim(10**9) == 0
    log.close()
    log = open_log(tmp_path)
    assert (log.head.head, log.head.chain) == (head.head, head.chain)
    assert log.append([item(1)]) == head.head + 1
    check_chain(log.head.log_id, read(log, Lane.MAIN))
    log.close()


def test_trimming_finds_a_number_that_was_never_given(tmp_path: Path) -> None:
    """A damaged page: the log would hold nothing that can be trimmed, and be full for ever."""
    log = open_log(tmp_path)
    log.append([item(n) for n in range(1, 11)])
    copy_states(log)
    log.connection.execute("UPDATE routine_event SET seq = seq + 3675 WHERE seq > 5")
    with pytest.raises(StoreCorrupt, match="event 3681 is none that was ever recorded"):
        log.trim(5)
    log.close()


def test_trimming_takes_older_gaps_with_it_and_leaves_newer_ones(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(n) for n in range(1, 31)])
    chains = {entry.seq: entry.chain for entry in read(log, Lane.MAIN).entries}
    log.connection.execute("DELETE FROM routine_event WHERE seq BETWEEN 11 AND 15")
    log.connection.execute(
        "INSERT INTO gap VALUES (11, 15, ?, ?, 'evicted')", (chains[10], chains[15])
    )
    copy_states(log)
    assert log.trim(20) == 10
    assert [(g.first, g.last, g.why, g.chain) for g in read(log, Lane.MAIN).gaps] == [
        (1, 10, "trimmed", chains[10]),
        (11, 15, "evicted", chains[15]),
    ]
    assert [log.trim(20) for _ in range(3)] == [5, 0, 0]
    reading = read(log, Lane.MAIN)
    assert [(g.first, g.last, g.why, g.chain) for g in reading.gaps] == [
        (1, 20, "trimmed", chains[20])
    ]
    assert (reading.entries[0].seq, reading.through) == (21, 30)
    log.close()
    log = open_log(tmp_path)
    assert (log.head.first, log.head.head) == (21, 30)
    log.close()


def test_a_number_that_is_missing_without_a_gap_is_damage(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(n) for n in range(1, 11)])
    log.connection.execute("DELETE FROM routine_event WHERE seq = 5")
    with pytest.raises(StoreCorrupt, match="events 5 to 5"):
        read(log, Lane.MAIN)
    assert len(read(log, Lane.MAIN, 5).entries) == 5
    log.close()


def test_the_bound_keeps_a_reserve_for_urgent_events(tmp_path: Path) -> None:
    log = open_log(tmp_path, bound_bytes=MIB)
    routine = [item(n, text="x" * 200) for n in range(10)]
    urgent = [alarm(n, text="x" * 200) for n in range(10)]
    while log.has_room(cost_bytes(routine), Room.NORMAL):
        log.append(routine)
        if log.head.head % 200 == 0:
            copy_states(log)
        if log.fold_due:
            log.fold()
    assert log.head.head > 500
    assert log.has_room(cost_bytes(urgent), Room.RESERVE)
    before = log.head.head
    while log.has_room(cost_bytes(urgent), Room.RESERVE):
        log.append(urgent)
        if log.head.head % 200 == 0:
            copy_states(log)
        if log.fold_due:
            log.fold()
    taken = sum(len(entry.body or b"") for entry in read(log, Lane.MAIN, before).entries)
    assert taken > 0.5 * log.bound.reserve_bytes
    while log.fold_due:
        log.fold()
    assert log.file_bytes <= MIB
    log.close()


def test_the_file_never_grows_beyond_its_bound_whatever_is_appended(tmp_path: Path) -> None:
    log = open_log(tmp_path, bound_bytes=MIB)
    refused: StoreFull | None = None
    for number in range(10_000):
        try:
            log.append([item(number, text="x" * 1000)])
        except StoreFull as error:
            refused = error
            break
        if number == 200:
            copy_states(log)
        if log.fold_due:
            log.fold()
        assert log.file_bytes <= MIB
    assert refused is not None
    assert refused.hint
    head = log.head
    assert log.trim(100) == 100
    assert log.append([item(1)]) == head.head + 1
    check_chain(log.head.log_id, read(log, Lane.MAIN))
    log.close()


def test_a_lowered_bound_gives_pages_back_in_steps(tmp_path: Path) -> None:
    log = open_log(tmp_path, bound_bytes=16 * MIB)
    for start in range(0, 10_000, 100):
        log.append([item(start + n, text="x" * 100) for n in range(100)])
    log.close()
    log = open_log(tmp_path, bound_bytes=MIB)
    before = log.file_bytes
    copy_states(log)
    while log.trim(9_900):
        pass
    for _ in range(200):
        log.append([item(1)])
        log.fold()
    assert log.file_bytes < before / 2
    assert log.quick_check() == []
    log.close()


def test_a_failed_append_leaves_no_trace(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(1)])
    head = log.head
    schema.pragma(log.connection, f"max_page_count = {log._rows.page_count()}")
    with pytest.raises(StoreFull):
        log.append([item(n, text="y" * 5000) for n in range(50)])
    assert log.head == head
    schema.pragma(log.connection, "max_page_count = 100000")
    assert log.append([item(2)]) == 2
    check_chain(log.head.log_id, read(log, Lane.MAIN))
    log.close()


def test_a_connection_that_may_not_write_says_so(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    schema.pragma(log.connection, "query_only = ON")
    with pytest.raises(StoreReadOnly):
        log.append([item(1)])
    log.close()


def test_marks_are_kept_per_station_and_lane(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    marks = {("s" * 40, Lane.MAIN): 3, ("s" * 40, Lane.URGENT): 9, ("t" * 40, Lane.MAIN): 1}
    log.append([item(1)], [Notes(marks=marks)])
    log.write_notes([Notes(marks={("s" * 40, Lane.MAIN): 2})])
    log.close()
    log = open_log(tmp_path)
    assert log.marks() == {**marks, ("s" * 40, Lane.MAIN): 2}
    log.close()


def test_memory_is_the_copy_and_the_events_after_it(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    first = item(1, point="a", source="gpio", raw=b"one")
    log.append([first])
    memory = log.memory()
    assert memory.changed
    log.append([item(2, point="b")], [Notes(checkpoint=memory.take_checkpoint())])
    log.append([item(3, point="c", source="gpio", raw=b"three")])
    log.close()
    log = open_log(tmp_path)
    memory = log.memory()
    assert memory.checkpointed == 1
    assert memory.latest("a", "status", "") == first.record.observation
    assert memory.latest("b", "status", "") is not None
    assert memory.last_raw("gpio") == b"three"
    # what the copy holds outlives the events themselves
    assert log.trim(3) == 1
    log.write_notes([Notes(checkpoint=memory.take_checkpoint())])
    assert log.trim(3) == 1
    log.close()
    log = open_log(tmp_path)
    assert log.memory().latest("a", "status", "") == first.record.observation
    log.close()


def test_bodies_come_back_to_the_byte(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    raws = [bytes(range(256)), b"", b"\0" * 40, b"\xff" * 256]
    items = [item(n, raw=raw) for n, raw in enumerate(raws, 1)]
    items.append(pending(items[0].record.observation, stamp(9), urgent=True))
    log.append(items)
    reading = read(log, Lane.MAIN)
    assert bodies(reading) == [each.body for each in items]
    assert [decode(body or b"").observation.raw for body in bodies(reading)] == [*raws, raws[0]]
    assert log.body(2) == items[1].body
    assert log.body(99) is None
    log.close()


def test_opening_says_why_it_cannot(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    with pytest.raises(StoreReadOnly) as caught:
        EventLog.open(blocker / FILE_NAME, bound=Bound(MIB))
    assert caught.value.hint
