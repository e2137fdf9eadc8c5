import asyncio
import threading
import time
from pathlib import Path

import pytest

import buffer.disk
import buffer.evictions
import buffer.recovery
from buffer.log import EventLog
from buffer.store import Store
from buffer.writer_thread import Steps
from events.errors import StoreError, StoreFull
from events.model import Instant, Observation, Scalar
from events.replication import Lane
from protocols.levels import Memory, stored_level, unwatched
from sync.log import Log
from tests.buffer.logs import MIB, check_chain
from tests.buffer.stores import (
    OTHER,
    STATION,
    about_the_store,
    of_devices,
    panic,
    pragma,
    records,
    routine,
    store_at,
    until,
)


def test_a_store_is_a_log_and_a_memory(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    log: Log = store  # the type checker compares every method
    memory: Memory = store
    assert log.heads() == ()
    assert memory.last_record() is None


def test_what_record_returned_for_is_on_disk(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(1), panic(2)])
            await store.record([])
            async with asyncio.TaskGroup() as group:
                for number in range(3, 100):
                    group.create_task(store.record([routine(number)]))
            (head,) = store.heads()
            assert (head.first, head.head, head.volatile) == (1, 99, False)

    asyncio.run(scenario())
    found = records(tmp_path)
    assert of_devices(found) == list(range(1, 100))  # in the order in which they were reported
    assert [r.urgent for r in found[:3]] == [False, True, False]
    assert all(r.stamp.boot_id and r.stamp.monotonic_us > 0 for r in found)


def test_urgent_is_a_matter_of_kind_or_of_the_points_setting(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            for point, kind in (
                ("a", "tamper"),
                ("a", "alarm"),
                ("a", "fault"),
                ("lift/1", "status"),
            ):
                await store.record([Observation(point=point, kind=kind, qualifier="restore")])

    asyncio.run(scenario())
    assert [r.urgent for r in records(tmp_path)] == [True, True, False, True]


def test_watchers_hear_of_every_append_until_undone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            heard: list[int] = []
            undo = store.watch(lambda: heard.append(store.heads()[0].head))
            await store.record([routine(1)])
            await store.record([routine(2)])
            undo()
            undo()
            await store.record([routine(3)])
            assert heard == [1, 2]

    asyncio.run(scenario())


def test_lanes_are_read_through_the_store(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(1), panic(2), routine(3)])
            log_id = store.heads()[0].log_id
            urgent = await store.read(log_id, Lane.URGENT, 0, limit_bytes=1000)
            assert ([e.seq for e in urgent.entries], urgent.through) == ([2], 3)
            main = await store.read(log_id, Lane.MAIN, 0, limit_bytes=10_000, bare_through=2)
            assert [e.body is None for e in main.entries] == [False, True, False]
            with pytest.raises(KeyError):
                await store.read("another", Lane.MAIN, 0, limit_bytes=1000)

    asyncio.run(scenario())


def test_an_alarm_is_read_before_what_else_was_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(1), panic(2), routine(3)])
            log_id = store.heads()[0].log_id
            done: list[Lane] = []

            async def read(lane: Lane) -> None:
                await store.read(log_id, lane, 0, limit_bytes=10_000)
                done.append(lane)

            async with asyncio.TaskGroup() as tasks:
                for lane in (Lane.MAIN, Lane.MAIN, Lane.URGENT):
                    tasks.create_task(read(lane))
            assert done == [Lane.URGENT, Lane.MAIN, Lane.MAIN]

    asyncio.run(scenario())


def _interval(store: Store) -> dict[str, Scalar]:
    now = Instant(monotonic=5.0, wall=1_800_000_000.0)
    interval = unwatched(store, point="p", source="s", level=True, now=now).details
    assert interval["to"] == "2027-01-15T08:00:00.000Z"
    assert interval["to_monotonic_us"] == 5_000_000
    return interval


def test_memory_answers_after_a_restart_and_follows_the_run(tmp_path: Path) -> None:
    async def first() -> None:
        async with store_at(tmp_path) as store:
            assert store.last_record() is None
            assert _interval(store)["why"] == ("first-start")
            await store.record([panic(1, raw=b"one", source="gpio")])
            assert stored_level(store, "hall/panic", "alarm", "panic") is True
            assert store.last_record() is None  # the last moment of the run before this one

    async def second() -> None:
        async with store_at(tmp_path) as store:
            last = store.last_record()
            assert last is not None
            assert last.observation.value == 1
            assert store.last_raw("gpio") == b"one"
            assert stored_level(store, "hall/panic", "alarm", "panic") is True
            await store.record([panic(2, qualifier="restore")])
            assert stored_level(store, "hall/panic", "alarm", "panic") is False
            assert _interval(store)["why"] == "killed"

    asyncio.run(first())
    asyncio.run(second())


def test_marks_of_stations_survive_a_clean_stop(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(n) for n in range(10)])
            log_id = store.heads()[0].log_id
            store.acknowledge(STATION, log_id, Lane.MAIN, 4)
            store.acknowledge(STATION, log_id, Lane.URGENT, 99)  # no more than there is
            store.acknowledge(STATION, "a log that was withdrawn", Lane.MAIN, 9)
            store.acknowledge(OTHER, log_id, Lane.MAIN, 10)
        async with store_at(tmp_path) as store:
            status = store.status()
            assert {(m["station"], m["lane"]): m["stored"] for m in status["marks"]} == {
                (STATION, "main"): 4,
                (STATION, "urgent"): 10,
                (OTHER, "main"): 10,
            }
            assert status["oldest_unsent"] == 5

    asyncio.run(scenario())


def test_status_says_how_old_the_oldest_unsent_event_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.unsent.LOOK_EVERY_S", 0.01)

    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            assert store.status()["oldest_unsent_s"] is None
            await store.record([routine(1)])
            await asyncio.sleep(0.3)
            await store.record([routine(2)])
            await until(lambda: store.status()["oldest_unsent_s"] >= 0.3)
            store.acknowledge(STATION, store.heads()[0].log_id, Lane.MAIN, 1)
            await until(lambda: store.status()["oldest_unsent_s"] < 0.3)
            store.acknowledge(STATION, store.heads()[0].log_id, Lane.MAIN, 2)
            assert store.status()["oldest_unsent_s"] is None

    asyncio.run(scenario())


def test_delivered_events_make_room_first_and_alarms_never_for_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Full of alarms: others are refused, alarms go on; a station comes back; everything goes on."""
    monkeypatch.setattr(buffer.recovery, "RETRY_FIRST_S", 0.01)
    monkeypatch.setattr(buffer.recovery, "RETRY_MAX_S", 0.05)

    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            log_id = store.heads()[0].log_id
            await alarms_until_others_are_refused(store)
            assert store.heads()[0].first == 1
            stored = store.heads()[0].head
            assert store.status()["state"] == "full"
            await store.record([panic(1)])
            assert [head.volatile for head in store.heads()] == [False]
            store.acknowledge(OTHER, log_id, Lane.MAIN, stored)  # not a required one
            with pytest.raises(StoreFull):
                await store.record([routine(0)])
            assert store.heads()[0].first == 1
            assert store.status()["refused"] >= 2
            store.acknowledge(STATION, log_id, Lane.MAIN, stored // 2)
            await until(lambda: store.status()["state"] == "ok")
            assert store.heads()[0].first > 1
            restored = store.latest("store", "fault", "store")
            assert restored is not None
            assert restored.qualifier == "restore"
            assert restored.details["refused"] == store.status()["refused"]
            assert store.status()["bytes"] <= MIB

    asyncio.run(scenario())
    told = about_the_store(records(tmp_path))
    assert [r.observation.qualifier for r in told][:2] == ["new", "restore"]


async def alarms_until_others_are_refused(store: Store) -> None:
    for _ in range(1000):
        await store.record([panic(n, text="x" * 100) for n in range(20)])
        try:
            await store.record([routine(0)])
        except StoreFull:
            return
    raise AssertionError("the bound holds nothing back")


def test_undelivered_events_make_room_by_class_and_the_gaps_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer.evictions, "FIRST_AFTER_S", 0.05)
    monkeypatch.setattr(buffer.evictions, "AGAIN_AFTER_S", 0.05)

    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            log_id = store.heads()[0].log_id
            for start in range(0, 6000, 50):
                kinds = ["measurement", "status", "fault"]
                seen = [routine(start + n, kind=kinds[n % 3], text="x" * 100) for n in range(50)]
                await store.record([*seen, panic(start)])
                assert store.status()["bytes"] <= MIB
            assert store.status()["state"] == "ok"
            assert store.status()["evicted"] > 1000
            await until(lambda: store.latest("store", "fault", "evicted") is not None)
            reading = await store.read(log_id, Lane.MAIN, 0, limit_bytes=1 << 24)
            check_chain(log_id, reading)
            assert {gap.why for gap in reading.gaps} == {"evicted"}
            urgent = await store.read(log_id, Lane.URGENT, 0, limit_bytes=1 << 24)
            assert len(urgent.entries) == 120
            told = store.latest("store", "fault", "evicted")
            assert told is not None
            assert told.qualifier in {"new", "still"}
            store.acknowledge(STATION, log_id, Lane.MAIN, store.heads()[0].head)

            def ended() -> bool:
                told = store.latest("store", "fault", "evicted")
                return told is not None and told.qualifier == "restore"

            await until(ended)

    asyncio.run(scenario())


def test_a_long_outage_of_the_station_is_a_ring_of_delivered_events(tmp_path: Path) -> None:
    """With a station that keeps up, the log turns over many times within its bound."""

    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            log_id = store.heads()[0].log_id
            for start in range(0, 20_000, 100):
                await store.record([routine(start + n, text="x" * 100) for n in range(100)])
                store.acknowledge(STATION, log_id, Lane.MAIN, store.heads()[0].head - 150)
                assert store.status()["bytes"] <= MIB
            head = store.heads()[0]
            assert head.head == 20_000
            assert head.first > 10_000

    asyncio.run(scenario())


def test_the_states_of_trimmed_events_are_known_at_the_next_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            await store.record([panic(1)])
            for start in range(0, 6000, 100):
                await store.record([routine(start + n, text="x" * 100) for n in range(100)])
                log_id = store.heads()[0].log_id
                store.acknowledge(STATION, log_id, Lane.MAIN, store.heads()[0].head)
            assert store.heads()[0].first > 1
            await kill(store)
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            seen = store.latest("hall/panic", "alarm", "panic")
            assert seen is not None
            assert seen.value == 1

    async def kill(store: Store) -> None:
        """Close the file without writing anything down first."""

        def steps(log: EventLog) -> Steps[None]:
            yield
            log.close()

        store._disk.memory.take_checkpoint()
        store._disk._marks_changed = False
        await store._disk.writer.run(steps)

    asyncio.run(scenario())


def test_a_cancelled_recorder_harms_nobody(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(store.record([routine(n)])) for n in range(50)]
                await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
            await store.record([routine(50)])

    asyncio.run(scenario())
    found = of_devices(records(tmp_path))
    assert set(range(1, 50, 2)) | {50} <= set(found)
    assert len(found) == len(set(found))


def test_producers_wait_while_too_much_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buffer.writer.QUEUE_EVENTS_MAX", 10)

    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            most = 0
            async with asyncio.TaskGroup() as group:
                for number in range(200):
                    group.create_task(store.record([routine(number)]))
                await asyncio.sleep(0)
                most = store._disk.writer._queued_events
            assert most == 10
            assert store.heads()[0].head == 200
            assert store._disk.writer._queued_events == store._disk.writer._queued_bytes == 0

    asyncio.run(scenario())


def test_tail_gives_decoded_events(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(n) for n in range(1, 21)])
            events = await store.tail(5, 3)
            assert [(e.seq, e.record.observation.value) for e in events] == [
                (6, 6),
                (7, 7),
                (8, 8),
            ]
            assert await store.tail(20, 3) == []
            assert len(await store.tail(0, 1000)) == 20

    asyncio.run(scenario())


def test_a_writer_that_hangs_is_seen_and_an_idle_one_is_not_accused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(1)])
            await asyncio.sleep(0.2)
            assert time.monotonic() - store.answered_at() < 0.1
            hang = threading.Event()

            def steps(log: EventLog) -> Steps[None]:
                yield
                hang.wait(20)

            async with asyncio.TaskGroup() as group:
                group.create_task(store._disk.writer.run(steps))
                await asyncio.sleep(0.1)
                waiting = group.create_task(store.record([panic(2)]))
                await asyncio.sleep(0.2)
                assert time.monotonic() - store.answered_at() >= 0.25
                assert not waiting.done()
                hang.set()
            assert time.monotonic() - store.answered_at() < 0.1

    asyncio.run(scenario())


def test_closing_gives_up_on_a_writer_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer.disk, "CLOSE_S", 0.1)
    hang = threading.Event()

    async def scenario() -> None:
        def steps(log: EventLog) -> Steps[None]:
            yield
            hang.wait(20)

        async with asyncio.TaskGroup() as group:
            async with store_at(tmp_path) as store:
                group.create_task(store._disk.writer.run(steps))
                await asyncio.sleep(0.05)
            hang.set()

    started = time.monotonic()
    asyncio.run(scenario())
    assert time.monotonic() - started < 5


def test_a_bug_in_the_writer_ends_the_store_and_every_waiter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda given: told.append(given.exc_type))

    broken: list[Store] = []

    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            broken.append(store)

            def steps(log: EventLog) -> Steps[None]:
                yield
                raise ZeroDivisionError

            with pytest.raises(RuntimeError, match="writer has ended"):
                await store._disk.writer.run(steps)
            await asyncio.sleep(20)

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(scenario())
    assert caught.group_contains(RuntimeError, match="writer thread has ended")
    broken[0]._disk.writer._thread._thread.join()
    assert told == [ZeroDivisionError]


def test_errors_of_the_body_come_out_as_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path) as store:
            await store.record([routine(1)])
            raise LookupError("of the gateway")

    with pytest.raises(LookupError, match="of the gateway"):
        asyncio.run(scenario())
    assert of_devices(records(tmp_path)) == [1]


def test_a_snapshot_refuses_to_overwrite(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "there").write_text("dear")
        async with store_at(tmp_path) as store:
            await store.record([routine(1)])
            with pytest.raises(StoreError, match="exists"):
                await store.snapshot(tmp_path / "there")
            with pytest.raises(StoreError):
                await store.snapshot(tmp_path / "no" / "such" / "folder")
            assert store.status()["state"] == "ok"
            assert await pragma(store, "locking_mode") == "exclusive"
        assert (tmp_path / "there").read_text() == "dear"

    asyncio.run(scenario())
