"""What is delivered and old goes, the file gets shorter, and nobody waits for it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from buffer import log as log_module
from buffer import store as store_module
from buffer.bound import Bound, Room, cost_bytes
from buffer.entries import Pending, pending
from buffer.eviction import Evicted
from buffer.log import VACUUM_PAGES, EventLog
from buffer.schema import PAGE_BYTES
from buffer.writer_thread import Append, Group, Job, WriterThread
from events.errors import StoreError
from events.model import Stamp
from events.replication import Lane
from tests.buffer.logs import MIB, alarm, copy_states, item, observation, open_log, read
from tests.buffer.stores import STATION, routine, store_at

SECOND_US = 1_000_000


def at(number: int, wall_us: int | None) -> Pending:
    return pending(
        observation(number),
        Stamp(monotonic_us=number, boot_id="0" * 32, wall_us=wall_us),
        urgent=False,
    )


def blown_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> EventLog:
    """Return a log of which nearly everything is free pages."""
    monkeypatch.setattr(log_module, "VACUUM_FROM_PAGES", 64)
    log = open_log(folder)
    log.append([item(number, text="x" * 700) for number in range(1, 2001)])
    copy_states(log)
    while log.trim(log.head.head):
        pass
    log.fold()
    return log


@pytest.mark.parametrize(
    ("walls", "through"),
    [
        ([1, 2, 3], 3),
        ([1, 2, 9], 2),
        ([9, 1, 2], 0),
        ([1, None, 2, None, 9, 1], 3),
        ([None, None, None], 0),
        ([5, 4, 6], 0),  # not before the fifth microsecond
    ],
)
def test_events_are_old_up_to_the_first_that_is_not(
    tmp_path: Path, walls: list[int | None], through: int
) -> None:
    log = open_log(tmp_path)
    log.append([at(number, wall) for number, wall in enumerate(walls, 1)])
    assert log.older_than(5) == through
    log.close()


def test_only_what_is_delivered_goes_by_its_age(tmp_path: Path) -> None:
    async def work() -> None:
        async with store_at(tmp_path) as store:
            for number in range(1, 9):
                await store.record([routine(number)])
            log_id = store.heads()[0].log_id
            future_us = round((store._clock.now().wall or 0) + 60) * SECOND_US

            def copy(log: EventLog) -> Any:
                yield
                copy_states(log)

            await store._disk.writer.run(copy)
            await store._disk.trim_older_than(future_us)
            assert [event.record.observation.value for event in await store.tail(0, 99)] == list(
                range(1, 9)
            )
            store.acknowledge(STATION, log_id, Lane.MAIN, 5)
            await store._disk.trim_older_than(future_us - 3600 * SECOND_US)
            assert len(await store.tail(0, 99)) == 8
            await store._disk.trim_older_than(future_us)
            assert [event.record.observation.value for event in await store.tail(0, 99)] == [
                6,
                7,
                8,
            ]

    asyncio.run(work())


def test_what_is_kept_for_so_long_goes_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "KEEP_LOOK_EVERY_S", 0.05)

    async def work() -> None:
        async with store_at(tmp_path) as store:
            for number in range(1, 9):
                await store.record([routine(number)])
            store.acknowledge(STATION, store.heads()[0].log_id, Lane.MAIN, 8)
        kept = store_at(tmp_path)
        kept._keep_s = 0.0
        async with kept:
            async with asyncio.timeout(20):
                while (found := await kept.tail(0, 99))[0].seq < 8:  # noqa: ASYNC110 - said nowhere
                    await asyncio.sleep(0.02)
            assert [event.seq for event in found] == [8]  # the newest stays

    asyncio.run(work())


def test_free_pages_are_given_back_in_portions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = blown_up(tmp_path, monkeypatch)
    before, steps = log._rows.page_count(), 0
    size, due = log.file_bytes, log.vacuum_due
    while not log.vacuum_enough:
        log.vacuum()
        steps += 1
        assert 0 < before - log._rows.page_count() <= VACUUM_PAGES + 1  # and a pointer map
        before = log._rows.page_count()
    log.fold()
    assert (due, log.vacuum_due) == (True, False)
    assert steps > 10
    assert log.file_bytes < size - steps * VACUUM_PAGES * PAGE_BYTES // 2
    assert log.quick_check() == []
    assert [entry.seq for entry in read(log, Lane.MAIN).entries] == [2000]
    log.close()


class _Nobody:
    """Takes answers that nobody waits for."""

    def deliver_group(self, group: Group) -> None: ...
    def deliver_job(self, job: Job) -> None: ...
    def deliver_evicted(self, evicted: Evicted) -> None: ...
    def deliver_trouble(self, error: StoreError) -> None: ...
    def deliver_end(self) -> None: ...


def test_an_alarm_waits_for_one_portion_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blown_up(tmp_path, monkeypatch).close()
    done: list[str] = []
    original_vacuum, original_append = EventLog.vacuum, EventLog.append

    async def work() -> None:
        loop = asyncio.get_running_loop()
        stored = loop.create_future()
        thread = WriterThread(Bound(64 * MIB), _Nobody())

        def vacuum(log: EventLog) -> None:
            done.append("vacuum")
            if len(done) == 3:  # it comes in while a portion is under way
                items = [alarm(1)]
                room = Append(items, Room.RESERVE, [], cost_bytes(items), stored)
                thread.put([room])
                done.append("asked")
            original_vacuum(log)

        def append(log: EventLog, *given: Any) -> int:
            done.append("stored")
            return original_append(log, *given)

        monkeypatch.setattr(EventLog, "vacuum", vacuum)
        monkeypatch.setattr(EventLog, "append", append)
        thread._log = open_log(tmp_path)
        thread._loop = loop
        while "stored" not in done:
            thread._drain(block=False)
            thread._turn()
        thread._close()

    asyncio.run(work())
    assert done[:5] == ["vacuum", "vacuum", "vacuum", "asked", "stored"]


def test_what_is_written_is_counted(tmp_path: Path) -> None:
    async def work() -> None:
        async with store_at(tmp_path) as store:
            before = store.status()["written_bytes"]
            for number in range(20):
                await store.record([routine(number)])
            status = store.status()
            assert status["written_bytes"] - before >= 20 * PAGE_BYTES
            assert PAGE_BYTES <= status["written_per_event_bytes"] < 100 * PAGE_BYTES
            assert status["written_per_day_bytes"] is None  # too early to say

    asyncio.run(work())
