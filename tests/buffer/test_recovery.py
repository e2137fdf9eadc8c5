"""The store without its disk: in memory meanwhile, nothing lost, nothing told twice, back unaided."""

import asyncio
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

import buffer.recovery
from buffer.degraded import STORE_POINT
from buffer.entries import Pending
from buffer.log import FILE_NAME, EventLog
from buffer.notes import Notes
from buffer.store import Store
from buffer.writer_thread import BoundReached
from events.errors import StoreError, StoreFull, StoreLocked, StoreReadOnly
from events.kinds import Kind, Subkind
from events.model import Observation, Origin
from events.replication import Lane
from events.wire import decode
from protocols.levels import stored_level
from tests.buffer.logs import MIB, open_log
from tests.buffer.stores import (
    OTHER,
    STATION,
    Lock,
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
    volatile_head,
)

pytestmark = pytest.mark.usefixtures("quick_recovery")


async def kept(store: Store, lane: Lane = Lane.URGENT) -> list[object]:
    log_id = volatile_head(store).log_id
    reading = await store.read(log_id, lane, 0, limit_bytes=1 << 20)
    return of_devices([decode(entry.body or b"") for entry in reading.entries])


def test_locked_at_the_start_it_goes_on_in_memory_and_finds_back(tmp_path: Path) -> None:
    open_log(tmp_path).close()

    async def scenario(lock: Lock) -> None:
        async with store_at(tmp_path) as store, asyncio.TaskGroup() as group:
            assert state(store) == "locked"
            assert "another program" in store.status()["hint"]
            with pytest.raises(StoreLocked):
                await store.record([routine(1)])
            first = group.create_task(store.record([panic(2)]))
            second = group.create_task(store.record([panic(3)]))
            await until(lambda: volatile_head(store).head == 3)  # behind the store's own fault
            assert len(store.heads()) == 1
            assert await kept(store) == [2, 3]
            # a required station has the first: its producer goes on, the other one waits
            store.acknowledge(STATION, volatile_head(store).log_id, Lane.URGENT, 2)
            await first
            await asyncio.sleep(0.05)
            assert not second.done()
            lock.release()
            await until(lambda: state(store) == "ok")
            await second
            assert [head.volatile for head in store.heads()] == [False]
            await store.record([routine(4)])

    with Lock(tmp_path) as lock:
        asyncio.run(scenario(lock))
    found = records(tmp_path)
    assert of_devices(found) == [3, 4]  # what was delivered is not told again
    told = [r.observation for r in about_the_store(found)]
    assert [(o.qualifier, o.details.get("kept"), o.details.get("refused")) for o in told] == [
        ("new", None, None),
        ("restore", 2, 1),
    ]
    moved = [r for r in found if r.origin is not None]
    assert [r.observation.value for r in moved] == [None, 3]
    assert moved[1].urgent


def test_a_moved_event_keeps_the_place_under_which_the_station_may_hold_it(
    tmp_path: Path,
) -> None:
    open_log(tmp_path).close()
    places: list[Origin] = []

    async def scenario(lock: Lock) -> None:
        async with store_at(tmp_path) as store, asyncio.TaskGroup() as group:
            group.create_task(store.record([panic(1), panic(2)]))
            await until(lambda: volatile_head(store).head == 3)
            head = volatile_head(store)
            places.extend(Origin(head.log_id, seq) for seq in (2, 3))
            # an optional station does not count
            store.acknowledge(OTHER, head.log_id, Lane.URGENT, 3)
            lock.release()
            await until(lambda: state(store) == "ok")
            with pytest.raises(KeyError):
                await store.read(head.log_id, Lane.MAIN, 0, limit_bytes=100)

    with Lock(tmp_path) as lock:
        asyncio.run(scenario(lock))
    assert [r.origin for r in records(tmp_path) if r.urgent] == places


def test_another_process_holds_the_store(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    code = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "db.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()\n"
    )

    async def scenario(other: "subprocess.Popen[bytes]") -> None:
        assert other.stdin is not None
        async with store_at(tmp_path) as store:
            assert state(store) == "locked"
            other.stdin.close()
            await until(lambda: state(store) == "ok")
            await store.record([routine(1)])

    command = [sys.executable, "-c", code, str(file(tmp_path))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        asyncio.run(scenario(other))
    assert of_devices(records(tmp_path)) == [1]


def test_a_folder_that_cannot_be_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.write_text("in the way")

    async def scenario() -> None:
        async with store_at(folder) as store:
            assert state(store) == "read-only"
            assert store.status()["hint"]
            folder.unlink()
            await until(lambda: state(store) == "ok")
            await store.record([routine(1)])

    asyncio.run(scenario())
    assert of_devices(records(folder)) == [1]


async def fill(store: Store) -> None:
    """Make SQLite itself find no more room, as on a full medium."""
    count = await pragma(store, "page_count")
    await pragma(store, f"max_page_count = {count}")


@pytest.mark.parametrize("together", [1, 4])
@pytest.mark.parametrize("length", [900, 9_000, 50_000])
def test_a_store_at_its_bound_has_room_for_the_states_that_let_events_go(
    tmp_path: Path, length: int, together: int
) -> None:
    """Each event is of a point of its own: the copy of the states is as large as they are."""
    numbers = iter(range(1, 1_000_000))

    def some() -> list[Observation]:
        return [
            routine(n, point=f"meter/{n % 6}", text="x" * length)
            for n in islice(numbers, together)
        ]

    async def scenario() -> None:
        async with store_at(tmp_path, MIB) as store:
            stored = 0
            while stored < 2 * MIB:
                with suppress(BoundReached):
                    await store.record(some())
                assert store._recovery.degraded is None, store.status()["text"]
                stored += together * length
            for _ in range(20):
                head = store.heads()[0]
                store.acknowledge(STATION, head.log_id, Lane.MAIN, head.head)
                await until(lambda: state(store) == "ok")
                await store.record(some()[:1])

    asyncio.run(scenario())


@pytest.mark.parametrize("length", [30_000, 35_000, 40_000, 45_000])
def test_a_bound_that_states_nearly_fill_is_left_when_all_is_delivered(
    tmp_path: Path, length: int
) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path, MIB) as store:
            for number in range(60):
                with suppress(BoundReached):
                    seen = routine(number, point=f"meter/{number % 12}", text="x" * length)
                    await store.record([seen])
                assert store._recovery.degraded is None, store.status()["text"]
            head = store.heads()[0]
            store.acknowledge(STATION, head.log_id, Lane.MAIN, head.head)
            await until(lambda: state(store) == "ok")

    asyncio.run(scenario())


def test_a_full_medium_is_told_at_once_and_left_unaided(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store, asyncio.TaskGroup() as group:
            await store.record([routine(1)])
            await fill(store)
            with pytest.raises(StoreFull) as caught:
                await store.record([routine(2, text="x" * 5000)])
            assert caught.value.hint
            assert state(store) == "full"
            waiting = group.create_task(store.record([panic(3, text="x" * 5000)]))
            await until(lambda: volatile_head(store).head == 2)
            assert [head.volatile for head in store.heads()] == [False, True]
            # the log on disk is still read
            main = store.heads()[0]
            reading = await store.read(main.log_id, Lane.MAIN, 0, limit_bytes=1000)
            assert len(reading.entries) == 1
            await pragma(store, "max_page_count = 100000")
            await until(lambda: state(store) == "ok")
            await waiting
            await store.record([routine(4)])

    asyncio.run(scenario())
    assert of_devices(records(tmp_path)) == [1, 3, 4]


def test_a_medium_that_fails_to_write_is_tried_again(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow; SQLite calls it an input/output error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def scenario() -> None:
        async with store_at(tmp_path) as store, asyncio.TaskGroup() as group:
            await store.record([routine(n, text="x" * 1000) for n in range(1, 101)])
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
                with pytest.raises(StoreError):
                    await store.record([routine(101, text="x" * 20_000)])
                assert state(store) == "failed"
                waiting = group.create_task(store.record([panic(102)]))
                await asyncio.sleep(0.2)
                assert not waiting.done()
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            await waiting
            await until(lambda: state(store) == "ok")

    asyncio.run(scenario())
    assert of_devices(records(tmp_path)) == [*range(1, 101), 102]


def test_a_store_that_turns_read_only_recovers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(1)])
            await pragma(store, "query_only = ON")
            with pytest.raises(StoreReadOnly):
                await store.record([routine(2)])
            await store.record([panic(3)])  # waits for the file to be opened anew
            assert state(store) == "ok"

    asyncio.run(scenario())
    assert of_devices(records(tmp_path)) == [1, 3]


def test_a_commit_whose_answer_was_lost_is_not_told_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit reached the medium, its sync reported an error: the file knows more than we."""
    append = EventLog.append
    lost: list[int] = []

    def lose_once(log: EventLog, items: Sequence[Pending], notes: Sequence[Notes] = ()) -> int:
        before = log._seq, log._chain
        first = append(log, items, notes)
        if items[0].record.urgent and not lost:
            lost.append(first)
            log._seq, log._chain, log._doubtful = *before, True
            raise StoreError("cannot store events: disk I/O error")
        return first

    monkeypatch.setattr(EventLog, "append", lose_once)

    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(1)])
            await store.record([panic(2)])  # returns once the file has been opened anew
            await store.record([routine(3)])
            assert stored_level(store, "hall/panic", "alarm", "panic") is True

    asyncio.run(scenario())
    assert lost == [2]
    found = records(tmp_path)
    assert of_devices(found) == [1, 2, 3]
    assert [r.origin for r in found if r.urgent] == [None]


def test_a_mixed_report_is_refused_but_its_alarm_travels(tmp_path: Path) -> None:
    open_log(tmp_path).close()

    async def scenario(lock: Lock) -> None:
        async with store_at(tmp_path) as store:
            with pytest.raises(StoreLocked):
                await store.record([routine(1), panic(2)])
            assert await kept(store) == [2]
            assert store.status()["kept"] == store.status()["refused"] == 1
            lock.release()
            await until(lambda: state(store) == "ok")

    with Lock(tmp_path) as lock:
        asyncio.run(scenario(lock))
    assert of_devices(records(tmp_path)) == [2]


def test_memory_for_urgent_events_is_bounded_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.volatile.VOLATILE_EVENTS_MAX", 10)
    open_log(tmp_path).close()

    async def scenario() -> None:
        async with store_at(tmp_path) as store, asyncio.TaskGroup() as group:
            tasks = [group.create_task(store.record([panic(n)])) for n in range(9)]
            await until(lambda: volatile_head(store).head == 10)
            with pytest.raises(StoreFull, match="memory"):
                await store.record([panic(10)])
            # what is delivered makes room
            store.acknowledge(STATION, volatile_head(store).log_id, Lane.MAIN, 5)
            tasks.append(group.create_task(store.record([panic(11)])))
            await until(lambda: volatile_head(store).head == 11)
            for task in tasks:
                task.cancel()

    with Lock(tmp_path):
        asyncio.run(scenario())


def test_states_that_went_out_through_memory_are_known_at_the_next_start(tmp_path: Path) -> None:
    async def scenario(lock: Lock) -> None:
        async with store_at(folder) as store, asyncio.TaskGroup() as group:
            done = group.create_task(store.record([panic(2, qualifier="restore")]))
            await until(lambda: volatile_head(store).head == 2)
            store.acknowledge(STATION, volatile_head(store).log_id, Lane.URGENT, 2)
            await done
            lock.release()
            await until(lambda: state(store) == "ok")
            shutil.copytree(folder, tmp_path / "killed")  # as a kill would leave it
        for place in (folder, tmp_path / "killed"):
            async with store_at(place) as store:
                seen = store.latest("hall/panic", "alarm", "panic")
                assert seen is not None
                assert seen.qualifier == "restore"

    async def before() -> None:
        async with store_at(folder) as store:
            await store.record([panic(1)])

    folder = tmp_path / "store"

    asyncio.run(before())
    with Lock(folder) as lock:
        asyncio.run(scenario(lock))


def test_who_waits_at_the_end_is_told_that_it_was_in_vain(tmp_path: Path) -> None:
    open_log(tmp_path).close()

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            async with store_at(tmp_path) as store:
                waiting = group.create_task(store.record([panic(1)]))
                await until(lambda: volatile_head(store).head == 2)
            with pytest.raises(StoreError, match="stops"):
                await waiting

    async def expect() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await scenario()
        assert caught.group_contains(StoreError, match="stops")

    with Lock(tmp_path):
        asyncio.run(expect())


def test_a_last_attempt_is_made_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer.recovery, "RETRY_FIRST_S", 60)
    open_log(tmp_path).close()

    async def scenario(lock: Lock) -> None:
        async with asyncio.TaskGroup() as group, store_at(tmp_path) as store:
            group.create_task(store.record([panic(1)]))
            await until(lambda: volatile_head(store).head == 2)
            lock.release()

    with Lock(tmp_path) as lock:
        asyncio.run(scenario(lock))
    assert of_devices(records(tmp_path)) == [1]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_taken_away_while_open_is_not_written_any_more(
    tmp_path: Path, replaced: bool
) -> None:
    """SQLite would go on writing to the file that nobody finds again."""

    async def scenario() -> None:
        async with store_at(folder) as store:
            await store.record([panic(1)])
            if replaced:
                shutil.copy(folder / FILE_NAME, tmp_path / "copy")
                (tmp_path / "copy").replace(folder / FILE_NAME)
            else:
                (folder / FILE_NAME).unlink()
            await store.record([panic(2)])
            await until(lambda: state(store) == "ok")
            await store.record([panic(3)])
        told = about_the_store(records(folder))
        assert "deleted or replaced" in told[0].observation.text

    folder = tmp_path / "store"
    asyncio.run(scenario())
    assert of_devices(records(folder))[-2:] == [2, 3]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_write_ahead_log_that_is_taken_away_takes_nothing_with_it(
    tmp_path: Path, replaced: bool
) -> None:
    async def scenario() -> None:
        async with store_at(folder) as store:
            for number in range(1, 6):
                await store.record([panic(number)])
            wal.unlink()
            if replaced:
                wal.write_bytes(b"")
            await store.record([panic(6)])
            await until(lambda: state(store) == "ok")
            await store.record([panic(7)])
            shutil.copytree(folder, tmp_path / "killed")

    folder = tmp_path / "store"
    wal = folder / f"{FILE_NAME}-wal"
    asyncio.run(scenario())
    for each in (tmp_path / "killed", folder):
        held = records(each)
        assert of_devices(held) == list(range(1, 8))
        assert "-wal was deleted or replaced" in about_the_store(held)[0].observation.text


def test_a_fault_that_still_stood_is_restored_at_the_next_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record(
                [routine(1, point=STORE_POINT, kind=Kind.FAULT, subkind=Subkind.STORE)]
            )
        async with store_at(tmp_path):
            pass
        async with store_at(tmp_path):
            pass

    asyncio.run(scenario())
    told = about_the_store(records(tmp_path))
    assert [r.observation.qualifier for r in told] == ["new", "restore"]
