"""Who goes first when the bound is reached, and what is told of those who went."""

import random
import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buffer import schema
from buffer.bound import Room, cost_bytes
from buffer.entries import Pending
from buffer.log import EventLog
from buffer.notes import Notes
from events.errors import StoreError
from events.replication import Lane
from tests.buffer.logs import MIB, check_chain, copy_states, item, open_log, read

ORDER = ["measurement", "status", "fault", "access", "supervisory", "alarm"]


def test_each_class_goes_before_the_next_and_the_oldest_of_it_first(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    count = 600
    log.append([item(n, kind=ORDER[n * 7 % len(ORDER)]) for n in range(count)])
    copy_states(log)
    kinds = {
        entry.seq: ORDER[(entry.seq - 1) * 7 % len(ORDER)]
        for entry in read(log, Lane.MAIN).entries
    }
    held = set(kinds)
    gone: list[int] = []
    while not (step := log.evict(held=0, urgent=True)).exhausted:
        reading = read(log, Lane.MAIN)
        check_chain(log.head.log_id, reading)
        now = {entry.seq for entry in reading.entries}
        newly = sorted(held - now)
        assert len(newly) == step.rows
        assert step.evicted is not None
        assert (step.evicted.first, step.evicted.last) == (newly[0], newly[-1])
        gone += newly
        held = now
    assert held == {count}  # the newest stays
    assert gone == sorted(gone, key=lambda seq: (ORDER.index(kinds[seq]), seq))
    reading = read(log, Lane.MAIN)
    assert [(gap.first, gap.last, gap.why) for gap in reading.gaps] == [(1, count - 1, "evicted")]
    log.close()


def test_alarms_stay_unless_alarms_need_their_room(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(n, kind="alarm" if n % 2 else "status") for n in range(200)])
    copy_states(log)
    while not log.evict(held=0, urgent=False).exhausted:
        pass
    assert len(read(log, Lane.URGENT).entries) == 100
    log.close()


def test_a_step_that_failed_is_begun_anew_and_spares_the_alarms(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(n, kind="alarm" if n % 2 else "measurement") for n in range(20)])
    copy_states(log)

    def no_commit(action: int, operation: str | None, *_: object) -> int:
        denied = action == sqlite3.SQLITE_TRANSACTION and operation == "COMMIT"
        return sqlite3.SQLITE_DENY if denied else sqlite3.SQLITE_OK

    log.connection.set_authorizer(no_commit)
    with pytest.raises(StoreError):
        log.evict(held=0, urgent=True)
    log.connection.set_authorizer(None)
    step = log.evict(held=0, urgent=True)
    assert step.evicted is not None
    assert set(step.evicted.counts) == {"measurement"}
    log.close()


def test_an_alarm_that_every_station_holds_goes_before_any_measurement(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(n, kind="alarm" if n % 2 else "measurement") for n in range(100)])
    copy_states(log)
    step = log.evict(held=50, urgent=False)
    assert (step.rows, step.evicted) == (25, None)  # nothing is lost
    reading = read(log, Lane.MAIN)
    check_chain(log.head.log_id, reading)
    assert {gap.why for gap in reading.gaps} == {"delivered"}
    log.close()


def test_what_the_copy_of_the_states_lacks_is_not_evicted(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(n, kind="measurement") for n in range(50)])
    assert log.evict(held=0, urgent=True).exhausted
    log.close()


def test_events_that_come_later_are_found_by_a_log_that_looked_before(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for _ in range(3):
        log.append([item(n, kind="measurement") for n in range(20)])
        log.append([item(1, kind="fault")])
        copy_states(log)
        rows = 0
        while rows < 20:
            step = log.evict(held=0, urgent=False)
            assert step.evicted is not None
            assert set(step.evicted.counts) == {"measurement"}
            rows += step.rows
    log.close()


@pytest.mark.parametrize("seed", range(6))
def test_the_files_never_exceed_the_bound_and_every_number_is_accounted_for(seed: int) -> None:
    """The writer's rules on a real file: make room, append, fold; look at the sizes each time."""
    rng = random.Random(seed)
    bound_bytes = rng.choice([MIB, MIB + MIB // 2])
    with TemporaryDirectory() as name:
        folder = Path(name) / "0"
        log = quick(folder, bound_bytes)
        memory = log.memory()
        model: dict[int, Pending] = {}
        delivered, generation = 0, 0
        for turn in range(160):
            kind, count = rng.choice(ORDER), rng.randint(1, 40)
            size, then = rng.choice([0, 50, 600]), rng.choice(["", "trim", "reopen", "kill"])
            items = [item(turn * 50 + n, kind=kind, text="x" * size) for n in range(count)]
            urgent = kind == "alarm"
            notes = [Notes(checkpoint=memory.take_checkpoint())] if memory.checkpoint_due else []
            if make_room(log, items, delivered, urgent=urgent):
                first = log.append(items, notes)
                for seq, each in enumerate(items, first):
                    model[seq] = each
                    memory.note(seq, each.record.observation, each.body)
            else:
                assert not urgent or not log.head.head
            if log.fold_due:
                log.fold()
            assert log.file_bytes <= bound_bytes
            if then == "trim":
                delivered = log.head.head // 4
            elif then in {"reopen", "kill"} and turn % 5 == 0:
                before, generation = folder, generation + 1
                folder = Path(name) / str(generation)
                if then == "kill":
                    shutil.copytree(before, folder)
                    log.close()
                else:
                    log.close()
                    before.rename(folder)
                log = quick(folder, bound_bytes)
                memory = log.memory()
        reading = read(log, Lane.MAIN)
        check_chain(log.head.log_id, reading)
        evicted = sum(gap.last - gap.first + 1 for gap in reading.gaps if gap.why == "evicted")
        assert evicted, "the bound was never reached"
        assert reading.through == log.head.head == max(model, default=0)
        for entry in reading.entries:
            assert entry.body == model[entry.seq].body
        assert log.quick_check() == []
        log.close()


def quick(folder: Path, bound_bytes: int) -> EventLog:
    """Open without syncs: what is asked here is sizes and numbers."""
    log = open_log(folder, bound_bytes)
    schema.pragma(log.connection, "synchronous = OFF")
    return log


def make_room(log: EventLog, items: list[Pending], delivered: int, *, urgent: bool) -> bool:
    room = Room.RESERVE if urgent else Room.NORMAL
    for _ in range(400):
        if log.has_room(cost_bytes(items), room):
            return True
        if not log.trim(delivered) and log.evict(held=delivered, urgent=urgent).exhausted:
            return False
        if log.fold_overdue:
            log.fold()
    return False
