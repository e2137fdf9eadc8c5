"""Commits that share a transaction, fail, or wait: none harms another."""

import asyncio
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import StoreError
from events.model import Origin
from station import schema
from station.store import Store
from station.writer import COPY_DUE_BYTES, EVENTS_BEFORE_URGENT, Work
from tests.station.gateway_log import GatewayLog, record
from tests.station.ledger import NOW, gathering, listed, states, with_store


def test_jobs_that_fail_do_not_take_their_neighbours_with_them(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO gateway (name) VALUES ('half-done')")
        connection.execute("SELECT * FROM no_such_table")

    def defective(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO gateway (name) VALUES ('half-done')")
        raise AttributeError("defect")

    async def work(store: Store) -> None:
        async def fails(job: Work, kind: type[Exception], match: str) -> str:
            with pytest.raises(kind, match=match):
                await store._writer.run(job)
            return "failed"

        async with asyncio.TaskGroup() as group:
            failing = [
                group.create_task(fails(broken, StoreError, "no_such_table")),
                group.create_task(fails(defective, AttributeError, "defect")),
                group.create_task(fails(broken, StoreError, "no_such_table")),
            ]
            good = store.commit("g1", log.main(1, 1), NOW)
        assert good.result().stored == 1
        assert [task.result() for task in failing] == ["failed"] * 3
        assert "half-done" not in await store.known()

    with_store(tmp_path, work)


places = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),  # two histories of one log
        st.integers(1, 600),
        st.integers(0, 300),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=30)
@given(ranges=places, early=st.lists(st.integers(1, 600), max_size=20))
def test_no_way_of_cutting_a_log_stores_an_event_twice(
    tmp_path_factory: pytest.TempPathFactory,
    ranges: list[tuple[str, int, int]],
    early: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    logs = HISTORIES
    expected: set[tuple[int, bytes]] = set()

    async def deliver(store: Store) -> None:
        for seq in early:
            await store.commit("g1", logs["a"].early(seq), NOW)
            expected.add((seq, logs["a"].chain_at(seq)))
        for number, (history, first, length) in enumerate(ranges):
            log, last = logs[history], min(600, first + length)
            wanted = [(seq, log.chain_at(seq)) for seq in range(first, last + 1)]
            commit = replace(log.main(first, last), restart=True, history=number)
            result = await store.commit("g1", commit, NOW)
            assert result.stored == len(set(wanted) - expected)
            assert result.known == len(set(wanted) & expected)
            expected.update(wanted)

    with_store(folder, deliver)
    with closing(schema.open_reader(folder)[0]) as connection:
        stored = connection.execute("SELECT seq, chain FROM event").fetchall()
    assert sorted(stored) == sorted(expected)
    shutil.rmtree(folder)


def _history(qualifier: str) -> GatewayLog:
    log = GatewayLog()
    for _ in range(600):
        log.append(record(qualifier=qualifier))
    return log


HISTORIES = {"a": _history("new"), "b": _history("restore")}


def test_commits_of_one_transaction_see_what_the_ones_before_them_left(tmp_path: Path) -> None:
    memory, disk = GatewayLog("memory", volatile=True), GatewayLog("disk")
    memory.append(record(urgent=True, qualifier="new", monotonic_s=1.0))
    disk.append(record(urgent=True, qualifier="new", monotonic_s=1.0, origin=Origin("memory", 1)))
    disk.append(record(qualifier="restore", monotonic_s=2.0))
    disk.append(record(qualifier="new", monotonic_s=3.0, urgent=True))

    async def work(store: Store) -> None:
        async with gathering(store):
            waiting: list[asyncio.Future[Any]] = [
                asyncio.ensure_future(each)
                for each in (
                    store.commit("g1", memory.early(1), NOW),
                    store.commit("g1", disk.main(1, 2), NOW),
                    store.commit("g1", disk.early(3), NOW),
                    store.commit("g1", disk.main(1, 3), NOW),
                    store.copies("g1", "disk", 1, 3),
                )
            ]
        first, second, third, again, copies = [await each for each in waiting]
        assert (first.stored, second.stored, second.known, third.stored) == (1, 1, 1, 1)
        assert (again.stored, again.known) == (0, 3)
        assert [entry.seq for entry in copies] == [1, 3]

    with_store(tmp_path, work)
    assert states(tmp_path)["door", "alarm", "panic"] == ("new", 2)  # the urgent lane goes first


def test_an_alarm_goes_alone_before_what_waits_and_a_flood_is_cut(tmp_path: Path) -> None:
    """A second alarm that comes meanwhile takes a main commit with it, so that the flood goes on."""
    trace: list[str] = []
    second = threading.Event()

    def job(name: str) -> Callable[[sqlite3.Connection], None]:
        return lambda _: trace.append(name)

    def alarm(_: sqlite3.Connection) -> None:
        trace.append("alarm 1")
        second.wait(10.0)

    async def work(store: Store) -> None:
        submit = store._writer.submit
        await submit(lambda connection: connection.set_trace_callback(trace.append))
        async with gathering(store):
            answers = [submit(job(f"flood {part}"), events=1000) for part in range(3)]
            answers.append(submit(alarm, events=1, urgent=True))
        answers.append(submit(job("alarm 2"), events=1, urgent=True))
        second.set()
        await asyncio.gather(*answers)

    with_store(tmp_path, work)
    transactions = "|".join(trace).split("BEGIN IMMEDIATE")
    named = [re.findall("(?:alarm|flood) [0-9]", each) for each in transactions]
    assert [each for each in named if each] == [
        ["alarm 1"],
        ["alarm 2", "flood 0"],
        ["flood 1", "flood 2"],
    ]


def test_a_transaction_is_cut_short_for_an_alarm(tmp_path: Path) -> None:
    """It ends after the job at which the alarm came; what it did not come to keeps its order."""
    trace: list[str] = []
    begun, alarmed = threading.Event(), threading.Event()

    def job(name: str) -> Callable[[sqlite3.Connection], str]:
        def work(_: sqlite3.Connection) -> str:
            trace.append(name)
            return name

        return work

    def wait(_: sqlite3.Connection) -> None:
        trace.append("flood 1")
        begun.set()
        alarmed.wait(10.0)

    async def work(store: Store) -> None:
        submit = store._writer.submit
        await submit(lambda connection: connection.set_trace_callback(trace.append))
        async with gathering(store):
            answers = [submit(job("flood 0"), events=EVENTS_BEFORE_URGENT - 1)]
            answers.append(submit(wait, events=1))
            answers += [submit(job(f"flood {part}"), events=1) for part in (2, 3)]
        await asyncio.to_thread(begun.wait, 10.0)
        answers.append(submit(job("alarm 1"), events=1, urgent=True))
        alarmed.set()
        assert await asyncio.gather(*answers) == [
            "flood 0", None, "flood 2", "flood 3", "alarm 1",
        ]  # fmt: skip

    with_store(tmp_path, work)
    transactions = "|".join(trace).split("BEGIN IMMEDIATE")
    named = [re.findall("(?:alarm|flood) [0-9]", each) for each in transactions]
    assert [each for each in named if each] == [
        ["flood 0", "flood 1"],
        ["alarm 1"],
        ["flood 2", "flood 3"],
    ]


def test_a_stream_of_alarms_lets_the_others_go_on(tmp_path: Path) -> None:
    """However many alarms come, each transaction of the others gets its share done."""
    trace: list[str] = []
    answers: list[asyncio.Future[None]] = []

    async def work(store: Store) -> None:
        loop, submit = asyncio.get_running_loop(), store._writer.submit

        def alarm(_: sqlite3.Connection) -> None:
            trace.append("alarm")

        def flood(_: sqlite3.Connection) -> None:
            trace.append("flood")
            sent = threading.Event()

            def send() -> None:
                answers.append(submit(alarm, events=1, urgent=True))
                sent.set()

            loop.call_soon_threadsafe(send)
            sent.wait(10.0)

        async with gathering(store):
            flooding = [submit(flood, events=EVENTS_BEFORE_URGENT // 2) for _ in range(6)]
        await asyncio.gather(*flooding)
        await asyncio.gather(*answers)

    with_store(tmp_path, work)
    assert trace == ["flood"] * 2 + (["alarm"] * 2 + ["flood"] * 2) * 2 + ["alarm"] * 2


def test_the_write_ahead_log_is_copied_between_commits(tmp_path: Path) -> None:
    """No commit has to do it: the log begins anew long before SQLite would see to that."""
    log = GatewayLog()
    for seq in range(1, 201):
        log.append(record(f"z{seq % 9}", value="x" * 4000))

    async def work(store: Store) -> int:
        largest = 0
        for number in range(30):
            await store.commit(f"g{number}", log.main(1, 200), NOW)
            largest = max(largest, (tmp_path / "station.db-wal").stat().st_size)
        return largest

    largest = with_store(tmp_path, work)
    assert largest < 2 * COPY_DUE_BYTES
    assert (tmp_path / "station.db").stat().st_size > 30 * 200 * 4000
    assert len(listed(tmp_path)) == 30 * 200
