"""What stands is known to a station also where the event that said so is gone."""

import asyncio
import threading
from pathlib import Path

import pytest

import buffer.evictions
from buffer.log import EventLog
from buffer.store import Store
from buffer.writer_thread import Steps
from events.kinds import Qualifier
from events.model import Origin, Record
from events.replication import Lane
from events.wire import decode
from tests.buffer.logs import MIB
from tests.buffer.stores import STATION, panic, routine, store_at, until


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_AFTER_S", "AGAIN_AFTER_S", "LOOK_EVERY_S"):
        monkeypatch.setattr(buffer.evictions, name, 0.02)


async def read_all(store: Store, lane: Lane = Lane.MAIN, after: int = 0) -> list[Record]:
    """Read what a station would, and acknowledge it."""
    log_id = store.heads()[0].log_id
    reading = await store.read(log_id, lane, after, limit_bytes=1 << 24)
    store.acknowledge(STATION, log_id, lane, reading.through)
    return [decode(entry.body or b"") for entry in reading.entries]


def about(records: list[Record], point: str) -> list[Record]:
    return [record for record in records if record.observation.point == point]


async def flood(store: Store, events: int = 6000) -> None:
    for start in range(0, events, 50):
        await store.record([routine(start + n, kind="fault", text="x" * 150) for n in range(50)])


def ended(store: Store) -> bool:
    told = store.latest("store", "fault", "evicted")
    return told is not None and told.qualifier == Qualifier.RESTORE


def test_a_fault_that_stands_and_had_to_make_room_is_told_once_a_station_is_past_it(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            log_id = store.heads()[0].log_id
            await store.record([routine(1, point="pump", kind="fault", qualifier="restore")])
            assert len(about(await read_all(store), "pump")) == 1
            delivered = store.heads()[0].head
            await store.record([routine(2, point="pump", kind="fault", qualifier="new")])
            first = delivered + 1
            await flood(store)
            gone = await read_all(store, after=delivered)
            assert about(gone, "pump") == []
            through = store.heads()[0].head
            await until(lambda: ended(store))
            (again,) = about(await read_all(store, after=delivered), "pump")
            assert again.origin == Origin(log_id, first)
            assert (again.observation.value, again.observation.qualifier) == (2, "new")
            assert store.heads()[0].head > through
            held = store.latest("pump", "fault", "")
            assert held is not None
            assert held.value == 2

    asyncio.run(scenario())


def test_it_is_told_also_when_the_program_ended_before_it_could_be(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            await store.record([routine(2, point="pump", kind="fault")])
            await flood(store)
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            assert about(await read_all(store), "pump") == []
            await until(lambda: ended(store))
            assert [r.observation.value for r in about(await read_all(store), "pump")] == [2]

    asyncio.run(scenario())


def test_what_changed_meanwhile_stays_the_newest(tmp_path: Path) -> None:
    """A restore on its way to the disk must not be forgotten for the old event behind it."""
    go_on = threading.Event()

    def wait(_: EventLog) -> Steps[None]:
        yield
        go_on.wait(10.0)

    def restored(store: Store) -> bool:
        held = store.latest("pump", "fault", "")
        return held is not None and held.qualifier == "restore"

    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store, asyncio.TaskGroup() as tasks:
            await store.record([routine(2, point="pump", kind="fault")])
            await flood(store)
            evictions, head = store._evictions, store.heads()[0]
            await until(lambda: 1 in evictions._owed and evictions._look_from is None)
            tasks.create_task(store._disk.writer.run(wait))
            await asyncio.sleep(0.1)
            tasks.create_task(
                store.record([routine(3, point="pump", kind="fault", qualifier="restore")])
            )
            await asyncio.sleep(0)
            store._disk.acknowledge(STATION, Lane.MAIN, head.head)
            tasks.create_task(evictions._record_again())
            await asyncio.sleep(0)  # the old event is queued behind the restore
            go_on.set()
            evictions.look()
            await until(lambda: ended(store))
            assert restored(store)
            told = [r.observation.value for r in about(await read_all(store), "pump")]
            assert told[:2] == [3, 2]
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            assert restored(store)

    asyncio.run(scenario())


def test_a_station_that_was_put_back_is_told_what_was_trimmed_since(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            log_id = store.heads()[0].log_id
            await store.record([panic(1)])
            for _ in range(30):
                await flood(store, 200)
                await read_all(store, after=store.mark(STATION, log_id, Lane.MAIN))
            await until(lambda: store.heads()[0].first > 10)
            head = store.heads()[0].head
            store.acknowledge(STATION, log_id, Lane.MAIN, head - 1)  # the first word after its gap
            await until(lambda: store.heads()[0].head > head)
            (again,) = about(await read_all(store, Lane.URGENT, head), "hall/panic")
            assert again.origin is not None

    asyncio.run(scenario())


def test_what_was_told_again_and_went_too_comes_from_its_first_place(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with store_at(tmp_path, bound_bytes=MIB) as store:
            log_id = store.heads()[0].log_id
            await store.record([routine(2, point="pump", kind="fault")])
            for _ in range(2):
                await flood(store)
                after = store.mark(STATION, log_id, Lane.MAIN)
                assert about(await read_all(store, after=after), "pump") == []
                await until(lambda: ended(store))
                (again,) = about(
                    await read_all(store, after=store.mark(STATION, log_id, Lane.MAIN)), "pump"
                )
                assert again.origin == Origin(log_id, 1)
                store.acknowledge(STATION, log_id, Lane.MAIN, after)  # put back: it lacks both

    asyncio.run(scenario())
