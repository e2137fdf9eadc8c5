import asyncio
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from events.errors import (
    StoreError,
)
from events.model import Stamp
from events.wire import WIRE_VERSION
from station import interpretation, schema
from station.store import Store
from tests.station.gateway_log import FixedClock, GatewayLog, record
from tests.station.ledger import NOW, gathering, listed, with_store

POISON = [
    b"",
    b"\xc1",
    b"not msgpack at all",
    b"\x92\x02\x80",  # a form from the future
    bytes([0x92, WIRE_VERSION, 0x80]),  # no fields
    b"\x91" * 5000,  # nested without end
]


def test_what_cannot_be_read_is_kept_raw_and_named_once(tmp_path: Path) -> None:
    log = GatewayLog()
    for body in POISON:
        log.append(body)
    log.append(record())
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, len(POISON) + 1), NOW))
    events = listed(tmp_path)
    kept = [bytes.fromhex(event["raw"]) for event in events if not event["readable"]]
    assert kept == POISON
    named = [event for event in events if event["log_id"] is None]
    assert [(event["kind"], event["subkind"]) for event in named] == [
        ("fault", "unreadable-event")
    ]
    assert named[0]["details"]["count"] == len(POISON)
    assert events[len(POISON)]["kind"] == "alarm"  # the queue goes on behind them


def test_a_flood_of_unreadable_events_is_named_once_a_minute_with_a_count(tmp_path: Path) -> None:
    clock = FixedClock()
    log = GatewayLog()
    for number in range(50):
        log.append(b"\xc1" + bytes([number]))

    async def work() -> None:
        async with Store(tmp_path, clock=clock) as store:
            for seq in range(1, 51):
                await store.commit("g1", log.main(seq, seq), clock.now())
            await store.settle(clock.now())
            clock.monotonic += 60.0
            await store.settle(clock.now())
            await store.settle(clock.now())

    asyncio.run(work())
    counts = [e["details"].get("count", 1) for e in listed(tmp_path) if e["log_id"] is None]
    assert counts == [1, 49]


def undo(connection: sqlite3.Connection) -> None:
    """End the transaction under the jobs beside this one: all of them fail."""
    connection.execute("ROLLBACK")


async def fails(store: Store, work: Callable[[], Awaitable[Any]]) -> None:
    """Let something fail because the transaction that it is in does."""
    async with gathering(store):
        jobs = [asyncio.ensure_future(each) for each in (work(), store._writer.run(undo))]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [isinstance(result, StoreError) for result in results] == [True, True]


def named_counts(folder: Path) -> list[int]:
    return [e["details"].get("count", 1) for e in listed(folder) if e["log_id"] is None]


def test_a_commit_that_is_undone_leaves_its_unreadable_events_to_be_named(tmp_path: Path) -> None:
    clock = FixedClock()
    log = GatewayLog()
    for number in range(6):
        log.append(b"\xc1" + bytes([number]))

    async def work() -> None:
        async with Store(tmp_path, clock=clock) as store:
            await fails(store, lambda: store.commit("g1", log.main(1, 2), clock.now()))
            await store.commit("g1", log.main(1, 2), clock.now())
            await fails(store, lambda: store.commit("g1", log.main(3, 5), clock.now()))
            await store.commit("g1", log.main(3, 5), clock.now())
            clock.monotonic += 60.0
            await fails(store, lambda: store.commit("g1", log.main(6, 6), clock.now()))
            await store.commit("g1", log.main(6, 6), clock.now())

    asyncio.run(work())
    assert named_counts(tmp_path) == [2, 4]


def test_a_count_that_could_not_be_stored_is_stored_later(tmp_path: Path) -> None:
    clock = FixedClock()
    log = GatewayLog()
    for number in range(5):
        log.append(b"\xc1" + bytes([number]))

    async def work() -> None:
        async with Store(tmp_path, clock=clock) as store:
            for seq in range(1, 6):
                await store.commit("g1", log.main(seq, seq), clock.now())
            clock.monotonic += 60.0
            await fails(store, lambda: store.settle(clock.now()))
            await store.settle(clock.now())
            await store.settle(clock.now())
        with pytest.raises(StoreError, match="closed"):
            await store.settle(clock.now())

    asyncio.run(work())
    assert named_counts(tmp_path) == [1, 4]


def test_a_cancelled_commit_still_counts_what_nobody_can_read(tmp_path: Path) -> None:
    clock = FixedClock()
    log = GatewayLog()
    for number in range(4):
        log.append(b"\xc1" + bytes([number]))

    async def work() -> None:
        async with Store(tmp_path, clock=clock) as store:
            await store.commit("g1", log.main(1, 1), clock.now())
            cut = asyncio.ensure_future(store.commit("g1", log.main(2, 4), clock.now()))
            await asyncio.sleep(0)
            cut.cancel()
            await store.ping()
            assert cut.cancelled()
            clock.monotonic += 60.0
            await store.settle(clock.now())

    asyncio.run(work())
    assert named_counts(tmp_path) == [1, 3]


class OfOneThread(OrderedDict[Any, Any]):
    """A dictionary that only the thread that made it may look into or change."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def _here(self) -> None:
        if threading.get_ident() != self._thread:
            raise RuntimeError("touched from another thread")

    def get(self, key: Any, default: Any = None) -> Any:
        self._here()
        return super().get(key, default)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._here()
        super().__setitem__(key, value)


def test_counts_of_unreadable_events_are_kept_on_the_loop_alone(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(b"\xc1")

    async def work(store: Store) -> None:
        store._unreadable._subjects = OfOneThread()
        await store.commit("g1", log.main(1, 1), NOW)
        await store.settle(NOW)
        assert "g1" in store._unreadable

    with_store(tmp_path, work)
    assert named_counts(tmp_path) == [1]


def test_absurd_numbers_in_a_record_do_not_stop_it(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record(monotonic_s=1e12, edge_us=2**63))
    log.append(record(value=2.0**70))
    log.append(record(value=float("nan")))
    log.append(record(value="x" * 50_000))
    log.append(record(value=True))
    log.append(record(point="door\x00\x1b[2J", kind="no such kind"))
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, 6), NOW))
    assert [event["seq"] for event in listed(tmp_path)] == [1, 2, 3, 4, 5, 6]


def refuses(folder: Path, condition: str, *, raises: str = "RAISE(ABORT, 'never')") -> None:
    """Make a ledger that refuses some rows for ever, as a defect of ours would."""
    with_store(folder, lambda store: store.ping())
    with closing(sqlite3.connect(folder / schema.FILE_NAME)) as connection:
        connection.execute(
            f"CREATE TRIGGER poison BEFORE INSERT ON event WHEN new.readable AND {condition}"
            f" BEGIN SELECT {raises}; END"
        )
        connection.commit()


@pytest.mark.parametrize("bad", [{3}, {1}, {8}, {2, 3, 7}, set(range(1, 9))])
def test_an_event_whose_row_is_refused_for_ever_holds_up_nobody(
    tmp_path: Path, bad: set[int]
) -> None:
    log = GatewayLog()
    for seq in range(1, 9):
        log.append(record("poison" if seq in bad else "door", monotonic_s=float(seq)))
    other = GatewayLog(log_id="other")
    other.append(record("gate"))
    refuses(tmp_path, "instr(new.body, 'poison')")

    async def work(store: Store) -> None:
        async with gathering(store):
            jobs = [
                asyncio.ensure_future(store.commit(*each, NOW))
                for each in (("g1", log.main(1, 8)), ("g2", other.main(1, 1)))
            ]
        stored = [result.stored for result in await asyncio.gather(*jobs)]
        assert stored == [8, 1]
        again = await store.commit("g1", log.main(1, 8), NOW)
        assert (again.stored, again.known) == (0, 8)
        assert (await store.cursors("g1", [log.log_id]))[log.log_id].main == 8

    with_store(tmp_path, work)
    events = listed(tmp_path)
    mine = [event for event in events if event["log_id"] == log.log_id]
    assert [event["seq"] for event in mine] == list(range(1, 9))
    assert {event["seq"] for event in mine if not event["readable"]} == bad
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as connection:
        kept = connection.execute("SELECT body FROM event WHERE NOT readable ORDER BY seq")
        assert [body for (body,) in kept] == [log.entries[seq - 1].body for seq in sorted(bad)]
    (named,) = [event for event in events if event["log_id"] is None]
    assert named["details"].get("count", 1) == len(bad)


def test_an_event_that_our_code_fails_on_is_kept_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = interpretation.best_time

    def fails_on_seven(stamp: Stamp, *others: Any) -> Any:
        if stamp.monotonic_us == 7_000_000:
            raise OverflowError("too large")
        return real(stamp, *others)

    monkeypatch.setattr("station.recording.best_time", fails_on_seven)
    log = GatewayLog()
    for seq in range(1, 11):
        log.append(record(monotonic_s=float(seq)))
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, 10), NOW))
    mine = [event for event in listed(tmp_path) if event["log_id"] == log.log_id]
    assert [event["seq"] for event in mine if not event["readable"]] == [7]
    assert len(mine) == 10


def test_a_disk_that_refuses_everything_is_not_taken_for_poison(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())
    refuses(tmp_path, "1", raises="load_extension('/nonexistent')")

    async def work(store: Store) -> None:
        with pytest.raises(StoreError):
            await store.commit("g1", log.main(1, 1), NOW)
        assert not (await store.cursors("g1", [log.log_id]))

    with_store(tmp_path, work)
    assert listed(tmp_path) == []
