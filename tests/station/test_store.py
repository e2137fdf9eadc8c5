import asyncio
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import (
    StoreCorrupt,
    StoreError,
    StoreLocked,
    StoreNewer,
    StoreReadOnly,
    UnavailableError,
)
from events.kinds import Kind, Qualifier
from events.model import ClockQuality, Instant, Origin, Stamp
from events.replication import Gap, Lane
from events.wire import WIRE_VERSION
from station import schema
from station.announcements import Announcement
from station.listing import Listing
from station.store import Store
from sync.ledger import Commit, Cursor
from tests.station.gateway_log import BOOT, WALL_S, FixedClock, GatewayLog, record

CLOCK = FixedClock()
NOW = CLOCK.now()


def with_store(folder: Path, work: Callable[[Store], Awaitable[Any]]) -> Any:
    async def body() -> Any:
        async with Store(folder, clock=CLOCK) as store:
            return await work(store)

    return asyncio.run(body())


def listed(folder: Path) -> list[dict[str, Any]]:
    with closing(Listing(folder)) as listing:
        return list(listing.after(0, None, None))


def states(folder: Path) -> dict[tuple[str, str, str], tuple[str, int]]:
    with closing(schema.open_reader(folder)[0]) as connection:
        return {
            (point, kind, subkind): (qualifier, n)
            for point, kind, subkind, qualifier, n in connection.execute(
                "SELECT point, kind, subkind, qualifier, n FROM point_state"
                " JOIN condition ON condition.id = condition ORDER BY n"
            )
        }


def test_a_commit_made_twice_stores_each_event_once(tmp_path: Path) -> None:
    log = GatewayLog()
    for _ in range(5):
        log.append(record())

    async def work(store: Store) -> None:
        first = await store.commit("g1", log.main(1, 5), NOW)
        again = await store.commit("g1", log.main(1, 5), NOW)
        assert (first.stored, first.known) == (5, 0)
        assert (again.stored, again.known) == (0, 5)

    with_store(tmp_path, work)
    assert [(event["n"], event["seq"]) for event in listed(tmp_path)] == [
        (1, 1), (2, 2), (3, 3), (4, 4), (5, 5),
    ]  # fmt: skip


def test_bytes_and_chain_are_kept_as_they_came(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, 1), NOW))
    with closing(schema.open_reader(tmp_path)[0]) as connection:
        kept = connection.execute("SELECT chain, body FROM event").fetchall()
    assert kept == [(log.entries[0].chain, log.entries[0].body)]


def test_one_number_with_two_chain_values_is_two_histories(tmp_path: Path) -> None:
    ours, clone = GatewayLog(), GatewayLog()
    ours.append(record(qualifier="new"))
    clone.append(record(qualifier="restore"))

    async def work(store: Store) -> None:
        await store.commit("g1", ours.main(1, 1), NOW)
        assert (await store.commit("g1", clone.main(1, 1), NOW)).stored == 1
        assert (await store.commit("g1", ours.main(1, 1), NOW)).stored == 0
        assert (await store.commit("g1", clone.main(1, 1), NOW)).stored == 0

    with_store(tmp_path, work)
    assert [event["seq"] for event in listed(tmp_path)] == [1, 1]


def test_two_gateways_may_use_one_log_id(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 1), NOW)
        assert (await store.commit("g2", log.main(1, 1), NOW)).stored == 1

    with_store(tmp_path, work)
    assert [event["gateway"] for event in listed(tmp_path)] == ["g1", "g2"]


def test_cursors_are_those_of_the_last_commit_and_never_go_back(tmp_path: Path) -> None:
    log = GatewayLog()
    for seq in range(1, 9):
        log.append(record(urgent=seq in {4, 7}))

    async def work(store: Store) -> None:
        assert await store.cursors("g1", ["log-1"]) == {}
        await store.commit("g1", log.early(4, 7, through=8), NOW)
        await store.commit("g1", log.main(1, 6, skip=(4,)), NOW)
        await store.commit("g1", log.main(1, 3), NOW)
        await store.commit("g1", log.early(4), NOW)
        held = (await store.cursors("g1", ["log-1", "other"]))["log-1"]
        assert held == Cursor(main=6, chain=log.chain_at(6), urgent=8)

    with_store(tmp_path, work)

    async def reopened(store: Store) -> None:
        held = (await store.cursors("g1", ["log-1"]))["log-1"]
        assert held == Cursor(main=6, chain=log.chain_at(6), urgent=8)

    with_store(tmp_path, reopened)


def test_a_restarted_history_sets_both_cursors_back_and_is_not_late(tmp_path: Path) -> None:
    old, new = GatewayLog(), GatewayLog()
    for _ in range(9):
        old.append(record(qualifier="restore", monotonic_s=50.0))
    new.append(record(qualifier="new", boot_id="boot-2", monotonic_s=2.0))

    async def work(store: Store) -> None:
        await store.commit("g1", old.main(1, 9), NOW)
        await store.commit("g1", old.early(9), NOW)
        again = Commit(
            log_id="log-1",
            lane=Lane.MAIN,
            entries=tuple(new.entries),
            through=1,
            chain=new.chain_at(1),
            head=1,
            restart=True,
        )
        assert (await store.commit("g1", again, NOW)).stored == 1
        held = (await store.cursors("g1", ["log-1"]))["log-1"]
        assert held == Cursor(main=1, chain=new.chain_at(1), urgent=0)

    with_store(tmp_path, work)
    assert listed(tmp_path)[-1]["late"] is False
    assert states(tmp_path)["door", "alarm", "panic"] == ("new", 10)


def test_urgent_copies_are_given_back_with_their_bytes(tmp_path: Path) -> None:
    log = GatewayLog()
    for seq in range(1, 7):
        log.append(record(urgent=seq in {2, 5}))

    async def work(store: Store) -> None:
        await store.commit("g1", log.early(2, 5), NOW)
        await store.commit("g1", log.main(1, 1), NOW)
        found = await store.copies("g1", "log-1", 1, 6)
        assert list(found) == [log.entries[1], log.entries[4]]
        assert list(await store.copies("g1", "log-1", 3, 4)) == []
        assert list(await store.copies("g1", "no-such-log", 1, 9)) == []

    with_store(tmp_path, work)


def test_a_copy_of_a_volatile_event_is_the_event_that_is_held(tmp_path: Path) -> None:
    memory, disk = GatewayLog("memory", volatile=True), GatewayLog("disk")
    memory.append(record(urgent=True))
    disk.append(record(urgent=True, origin=Origin("memory", 1)))

    async def work(store: Store) -> None:
        await store.commit("g1", memory.early(1), NOW)
        copied = await store.commit("g1", disk.main(1, 1), NOW)
        assert (copied.stored, copied.known) == (0, 1)
        assert list(await store.copies("g1", "disk", 1, 1)) == disk.entries

    with_store(tmp_path, work)
    (event,) = listed(tmp_path)
    assert (event["log_id"], event["volatile"]) == ("memory", True)


def test_a_volatile_event_that_comes_after_its_copy_is_held_already(tmp_path: Path) -> None:
    memory, disk = GatewayLog("memory", volatile=True), GatewayLog("disk")
    memory.append(record(urgent=True))
    disk.append(record(urgent=True, origin=Origin("memory", 1)))

    async def work(store: Store) -> None:
        await store.commit("g1", disk.early(1), NOW)
        assert (await store.commit("g1", memory.early(1), NOW)).known == 1
        assert (await store.commit("g1", memory.early(1), NOW)).known == 1
        assert (await store.commit("g1", disk.main(1, 1), NOW)).known == 1

    with_store(tmp_path, work)
    (event,) = listed(tmp_path)
    assert (event["log_id"], event["origin"]) == ("disk", ["memory", 1])


def test_an_origin_that_names_itself_or_nonsense_is_an_event_like_any_other(
    tmp_path: Path,
) -> None:
    log = GatewayLog()
    log.append(record(origin=Origin("log-1", 1)))
    log.append(record(origin=Origin("", 5)))
    log.append(record(origin=Origin("x" * 5000, 1)))
    log.append(record(origin=Origin("log-9", 2**64 - 1)))
    log.append(record(origin=Origin("log-9", -3)))
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, 5), NOW))
    assert [event["seq"] for event in listed(tmp_path)] == [1, 2, 3, 4, 5]


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


async def fails(store: Store, work: Awaitable[Any]) -> None:
    """Let something fail because the transaction that it is in does."""
    before = store._writer.run(lambda _: None)  # while this one is worked on, the others gather
    jobs = (before, work, store._writer.run(undo))
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [isinstance(result, StoreError) for result in results] == [False, True, True]


def named_counts(folder: Path) -> list[int]:
    return [e["details"].get("count", 1) for e in listed(folder) if e["log_id"] is None]


def test_a_commit_that_is_undone_leaves_its_unreadable_events_to_be_named(tmp_path: Path) -> None:
    clock = FixedClock()
    log = GatewayLog()
    for number in range(6):
        log.append(b"\xc1" + bytes([number]))

    async def work() -> None:
        async with Store(tmp_path, clock=clock) as store:
            await fails(store, store.commit("g1", log.main(1, 2), clock.now()))
            await store.commit("g1", log.main(1, 2), clock.now())
            await fails(store, store.commit("g1", log.main(3, 5), clock.now()))
            await store.commit("g1", log.main(3, 5), clock.now())
            clock.monotonic += 60.0
            await fails(store, store.commit("g1", log.main(6, 6), clock.now()))
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
            await fails(store, store.settle(clock.now()))
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


def test_an_older_restore_that_comes_later_changes_no_state(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record(qualifier="restore", monotonic_s=1.0))
    log.append(record(qualifier="new", monotonic_s=2.0, urgent=True))

    async def work(store: Store) -> None:
        await store.commit("g1", log.early(2), NOW)
        await store.commit("g1", log.main(1, 2, skip=(2,)), NOW)

    with_store(tmp_path, work)
    assert [(e["seq"], e["late"]) for e in listed(tmp_path)] == [(2, False), (1, True)]
    assert states(tmp_path)["door", "alarm", "panic"] == ("new", 1)


def test_a_restore_makes_no_other_condition_of_the_same_kind_late(tmp_path: Path) -> None:
    log = GatewayLog()
    for code, qualifier in (("311", "new"), ("302", "restore")):
        log.append(
            record(
                kind=Kind.FAULT,
                subkind="battery",
                condition=code,
                qualifier=qualifier,
                urgent=True,
            )
        )

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(2, 2), NOW)
        await store.commit("g1", log.main(1, 2), NOW)

    with_store(tmp_path, work)
    assert [(e["condition"], e["late"]) for e in listed(tmp_path)] == [
        ("302", False),
        ("311", False),
    ]


def test_a_restore_ends_only_the_condition_that_it_names(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record(condition="302", qualifier="new"))
    log.append(record(condition="311", qualifier="new"))
    log.append(record(condition="302", qualifier="restore"))
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, 3), NOW))
    with closing(schema.open_reader(tmp_path)[0]) as connection:
        found = connection.execute(
            "SELECT condition.code, qualifier FROM point_state"
            " JOIN condition ON condition.id = point_state.condition ORDER BY 1"
        ).fetchall()
    assert found == [("302", "restore"), ("311", "new")]


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_confirmed_into_a_file_that_was_taken_away(
    tmp_path: Path, replaced: bool
) -> None:
    log = GatewayLog()
    log.append(record())
    log.append(record())

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 1), NOW)
        (tmp_path / schema.FILE_NAME).unlink()
        if replaced:
            (tmp_path / schema.FILE_NAME).write_bytes(b"")
        with pytest.raises(StoreError, match="deleted or replaced"):
            await store.commit("g1", log.main(2, 2), NOW)
        with pytest.raises(StoreError, match="deleted or replaced"):
            await store.ping()

    with_store(tmp_path, work)


lanes = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.sampled_from([Kind.ALARM, Kind.FAULT, Kind.MEASUREMENT]),
        st.sampled_from(list(Qualifier)),
        st.booleans(),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=40)
@given(events=lanes, seed=st.integers(0, 2**32), restarts=st.booleans())
def test_any_interleaving_of_the_lanes_ends_in_the_state_of_seq_order(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[str, Kind, Qualifier, bool]],
    seed: int,
    restarts: bool,
) -> None:
    folder = tmp_path_factory.mktemp("ledger")
    log = GatewayLog()
    expected: dict[tuple[str, str], str] = {}
    for point, kind, qualifier, urgent in events:
        log.append(
            record(
                point, kind=kind, subkind="", qualifier=qualifier, urgent=urgent,
                monotonic_s=len(log.entries) + 1.0,
            )
        )  # fmt: skip
        expected[point, kind.value] = qualifier.value
    steps = random.Random(seed)

    async def deliver() -> None:
        store = Store(folder, clock=CLOCK)
        await store.open()
        main, early = 0, 0
        urgent = sorted(log.urgent)
        while main < len(log.entries):
            if urgent[early:] and steps.random() < 0.5:
                take = urgent[early : early + steps.randint(1, 3)]
                early += len(take)
                await store.commit("g1", log.early(*take), NOW)
            else:
                last = min(len(log.entries), main + steps.randint(1, 4))
                held = [seq for seq in urgent[:early] if main < seq <= last]
                again = max(1, main - steps.randint(0, 2)) if main else 1
                bare = held if steps.random() < 0.7 else []
                await store.commit("g1", log.main(again, last, skip=bare), NOW)
                main = last
                early = max(early, sum(seq <= main for seq in urgent))
            if restarts and steps.random() < 0.2:
                await store.close()
                store = Store(folder, clock=CLOCK)
                await store.open()
        await store.close()

    asyncio.run(deliver())
    found = {(point, kind): state[0] for (point, kind, _), state in states(folder).items()}
    assert found == expected
    rows = listed(folder)
    assert sorted(row["seq"] for row in rows) == list(range(1, len(log.entries) + 1))
    assert [row["n"] for row in rows] == list(range(1, len(rows) + 1))
    shutil.rmtree(folder)


def test_across_logs_of_one_boot_the_monotonic_clock_decides(tmp_path: Path) -> None:
    memory, disk = GatewayLog("memory", volatile=True), GatewayLog("disk")
    disk.append(record(qualifier="restore", monotonic_s=5.0))
    memory.append(record(qualifier="new", monotonic_s=7.0, urgent=True))
    disk.append(record(qualifier="restore", monotonic_s=6.0))
    disk.append(record(qualifier="restore", monotonic_s=8.0))

    async def work(store: Store) -> None:
        await store.commit("g1", memory.early(1), NOW)
        await store.commit("g1", disk.main(1, 3), NOW)

    with_store(tmp_path, work)
    assert [event["late"] for event in listed(tmp_path)] == [False, True, True, False]
    assert states(tmp_path)["door", "alarm", "panic"][0] == "restore"


def test_a_newer_log_of_another_boot_goes_on_where_the_old_one_ended(tmp_path: Path) -> None:
    old, new = GatewayLog("old"), GatewayLog("new")
    for _ in range(5):
        old.append(record(qualifier="new", boot_id="boot-1", monotonic_s=900.0))
    new.append(record(qualifier="restore", boot_id="boot-2", monotonic_s=3.0))

    async def work(store: Store) -> None:
        await store.commit("g1", old.main(1, 4), NOW)
        await store.commit("g1", new.main(1, 1), NOW)
        await store.commit("g1", old.main(5, 5), NOW)

    with_store(tmp_path, work)
    assert [event["late"] for event in listed(tmp_path)][-2:] == [False, True]
    assert states(tmp_path)["door", "alarm", "panic"][0] == "restore"


def test_an_old_restore_that_was_salvaged_does_not_clear_a_newer_alarm(tmp_path: Path) -> None:
    new = GatewayLog("new")
    new.append(record(qualifier="new", boot_id="boot-2", monotonic_s=3.0))
    new.append(
        record(qualifier="restore", boot_id="boot-1", monotonic_s=800.0, origin=Origin("old", 77))
    )
    with_store(tmp_path, lambda store: store.commit("g1", new.main(1, 2), NOW))
    assert [event["late"] for event in listed(tmp_path)] == [False, True]
    assert states(tmp_path)["door", "alarm", "panic"][0] == "new"


def test_the_time_of_an_event_is_that_of_its_first_edge(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record(monotonic_s=10.0, edge_us=9_750_000))
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, 1), NOW))
    (event,) = listed(tmp_path)
    assert event["at"] == "2026-09-21T14:13:29.750Z"
    assert (event["clock"], event["at_basis"]) == ("synchronised", "gateway")


def test_an_unset_clock_is_corrected_from_the_hello_of_the_same_boot(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record(monotonic_s=10.0, clock=ClockQuality.UNSET))
    log.append(record(monotonic_s=10.0, clock=ClockQuality.UNSET, boot_id="boot-0"))
    hello = Stamp(monotonic_us=40_000_000, boot_id=BOOT)

    async def work(store: Store) -> None:
        store.hello("g1", hello, NOW)  # 40 s after that boot, at the station's now
        await store.commit("g1", log.main(1, 2), NOW)

    with_store(tmp_path, work)
    known, unknown = listed(tmp_path)
    assert NOW.wall == WALL_S + 1000
    assert (known["at"], known["at_basis"], known["clock"]) == (
        "2026-09-21T14:29:30.000Z", "station", "unset",
    )  # fmt: skip
    assert (unknown["at"], unknown["at_basis"]) == (unknown["received_at"], "received")


def test_a_hello_that_cannot_be_stored_comes_with_the_next_commit(tmp_path: Path) -> None:
    """Without it the events of that boot would have no place among those of others."""
    log = GatewayLog()
    log.append(record(boot_id="boot-9"))

    async def work(store: Store) -> None:
        connection = store._writer._connection
        assert connection is not None
        connection.execute("PRAGMA query_only = ON")
        store.hello("g1", Stamp(monotonic_us=1, boot_id="boot-9"), NOW)
        await store.ping()
        assert connection.execute("SELECT * FROM boot").fetchall() == []
        connection.execute("PRAGMA query_only = OFF")
        await store.commit("g1", log.main(1, 1), NOW)
        assert store._hellos == {}

    with_store(tmp_path, work)
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as reader:
        assert reader.execute("SELECT boot_id FROM boot").fetchall() == [("boot-9",)]


def test_gaps_are_kept_and_what_is_held_inside_them_is_not_missing(tmp_path: Path) -> None:
    log = GatewayLog()
    for seq in range(1, 11):
        log.append(record(urgent=seq == 5))
    gap = Gap(3, 8, log.chain_at(8), "evicted")

    async def work(store: Store) -> None:
        await store.commit("g1", log.early(5), NOW)
        await store.commit("g1", log.main(1, 10, gaps=[gap]), NOW)
        await store.commit("g1", log.main(1, 10, gaps=[gap]), NOW)
        report = (await store.logs())["g1"]
        assert (report.log_id, report.seq, report.head, report.missing) == ("log-1", 10, 10, 5)
        assert [(g.first, g.last, g.why) for g in report.gaps] == [(3, 8, "evicted")]

    with_store(tmp_path, work)
    assert sorted(event["seq"] for event in listed(tmp_path)) == [1, 2, 5, 9, 10]


def test_own_events_stand_in_the_same_list_without_a_place_in_a_log(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 1), NOW)
        lost = Announcement(
            gateway="g1",
            subkind="gateway-lost",
            qualifier=Qualifier.NEW,
            text="nothing heard for 90 s",
            silence=True,
        )
        assert await store.announce([lost], NOW) == [2]

    with_store(tmp_path, work)
    own = listed(tmp_path)[-1]
    assert (own["n"], own["gateway"], own["log_id"], own["seq"]) == (2, "g1", None, None)
    assert (own["kind"], own["subkind"], own["qualifier"]) == ("fault", "gateway-lost", "new")
    assert own["at"] == own["received_at"] is not None

    async def reopened(store: Store) -> None:
        known = (await store.known())["g1"]
        assert (known.seen, known.lost) == (True, True)

    with_store(tmp_path, reopened)


def test_jobs_that_fail_do_not_take_their_neighbours_with_them(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())

    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO gateway (name) VALUES ('half-done')")
        connection.execute("SELECT * FROM no_such_table")

    async def work(store: Store) -> None:
        async def fails() -> str:
            with pytest.raises(Exception, match="no_such_table"):
                await store._writer.run(broken)
            return "failed"

        async with asyncio.TaskGroup() as group:
            failing = [group.create_task(fails()) for _ in range(3)]
            good = group.create_task(store.commit("g1", log.main(1, 1), NOW))
        assert good.result().stored == 1
        assert [task.result() for task in failing] == ["failed"] * 3
        assert "half-done" not in await store.known()

    with_store(tmp_path, work)


CHILD = """
import asyncio, sys
from pathlib import Path
from buffer.clock import SystemClock
from station.store import Store
from tests.station.gateway_log import GatewayLog, record

async def main():
    clock = SystemClock()
    log = GatewayLog()
    async with Store(Path(sys.argv[1]), clock=clock) as store:
        held = (await store.cursors("g1", ["log-1"])).get("log-1")
        done = held.main if held else 0
        for seq in range(1, 100_000):
            log.append(record(monotonic_s=float(seq)))
            if seq > done and seq % 3 == 0:
                await store.commit("g1", log.main(done + 1, seq), clock.now())
                done = seq
                print(done, flush=True)

asyncio.run(main())
"""


def test_events_and_cursor_agree_after_a_kill_at_any_moment(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    seeded = random.Random(5)
    told = 0
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, cwd=root
        )
        assert child.stdout is not None
        with child.stdout:
            for _ in range(seeded.randint(1, 40)):
                told = int(child.stdout.readline())
            os.kill(child.pid, signal.SIGKILL)
            for line in child.stdout:
                told = int(line) if line.endswith(b"\n") else told
        child.wait()

        async def work(store: Store) -> int:
            return (await store.cursors("g1", ["log-1"]))["log-1"].main

        cursor = with_store(tmp_path, work)
        seqs = [event["seq"] for event in listed(tmp_path)]
        assert seqs == list(range(1, cursor + 1))
        assert cursor >= told  # what was acknowledged is held


def test_files_copied_in_the_middle_of_writing_hold_whole_commits(tmp_path: Path) -> None:
    live, copy = tmp_path / "live", tmp_path / "copy"
    log = GatewayLog()
    for seq in range(1, 301):
        log.append(record(monotonic_s=float(seq)))

    async def work(store: Store) -> None:
        for seq in range(1, 301, 3):
            await store.commit("g1", log.main(seq, seq + 2), NOW)
            if seq == 150 + 1:
                copy.mkdir()
                for file in live.glob("station.db*"):
                    shutil.copy(file, copy / file.name)

    with_store(live, work)

    async def copied(store: Store) -> Cursor:
        return (await store.cursors("g1", ["log-1"]))["log-1"]

    cursor = with_store(copy, copied)
    assert [event["seq"] for event in listed(copy)] == list(range(1, cursor.main + 1))
    assert cursor.chain == log.chain_at(cursor.main)


def test_a_second_station_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    async def work(_: Store) -> None:
        with pytest.raises(UnavailableError, match="already works on"):
            await Store(tmp_path, clock=CLOCK).open()

    with_store(tmp_path, work)


def test_a_lock_held_by_another_program_is_named_and_passes(tmp_path: Path) -> None:
    with_store(tmp_path, lambda store: store.known())
    other = sqlite3.connect(tmp_path / schema.FILE_NAME, isolation_level=None)
    log = GatewayLog()
    log.append(record())

    async def work(store: Store) -> None:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked):
            await store.commit("g1", log.main(1, 1), NOW)
        other.execute("ROLLBACK")
        assert (await store.commit("g1", log.main(1, 1), NOW)).stored == 1

    with closing(other):
        with_store(tmp_path, work)


def test_a_newer_form_is_refused_and_left_alone(tmp_path: Path) -> None:
    with_store(tmp_path, lambda store: store.known())
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {(schema.MAJOR + 1) * 1000}")
    with pytest.raises(StoreNewer, match="newer"):
        with_store(tmp_path, lambda store: store.known())
    with pytest.raises(StoreNewer):
        Listing(tmp_path)


def test_a_newer_minor_is_opened(tmp_path: Path) -> None:
    with_store(tmp_path, lambda store: store.known())
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {schema.MAJOR * 1000 + schema.MINOR + 1}")
        connection.execute("CREATE TABLE from_the_future (what TEXT)")
    assert with_store(tmp_path, lambda store: store.known()) == {}


@pytest.mark.parametrize("content", [b"garbage " * 1000, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_ledger_is_refused_and_left_alone(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / schema.FILE_NAME).write_bytes(content)
    with pytest.raises(StoreCorrupt):
        with_store(tmp_path, lambda store: store.known())
    assert (tmp_path / schema.FILE_NAME).read_bytes() == content


def test_somebody_elses_database_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / schema.FILE_NAME)) as connection:
        connection.execute("CREATE TABLE theirs (what TEXT)")
    with pytest.raises(StoreCorrupt, match="not a station's"):
        with_store(tmp_path, lambda store: store.known())


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreReadOnly, match="cannot write"):
        with_store(tmp_path / "file" / "data", lambda store: store.known())


def test_a_reader_neither_writes_nor_checkpoints(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 1), NOW)
        before = (
            (tmp_path / "station.db").read_bytes(),
            (tmp_path / "station.db-wal").stat().st_size,
        )
        assert len(listed(tmp_path)) == 1
        with (
            closing(schema.open_reader(tmp_path)[0]) as reader,
            pytest.raises(sqlite3.OperationalError),
        ):
            reader.execute("DELETE FROM event")
        after = (
            (tmp_path / "station.db").read_bytes(),
            (tmp_path / "station.db-wal").stat().st_size,
        )
        assert before == after

    with_store(tmp_path, work)


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from events.errors import StoreError
from station.store import Store
from tests.station.gateway_log import FixedClock, GatewayLog, record

async def main():
    clock = FixedClock()
    log = GatewayLog()
    for seq in range(1, 2001):
        log.append(record(point=f"zone-{seq}", value="x" * 400))
    async with Store(Path(sys.argv[1]), clock=clock) as store:
        await store.commit("g1", log.main(1, 10), clock.now())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
        failed = 0
        for seq in range(11, 2001, 10):
            try:
                await store.commit("g1", log.main(seq, seq + 9), clock.now())
            except StoreError as error:
                failed += 1
                assert store.trouble is error
                break
        held = (await store.cursors("g1", ["log-1"]))["log-1"]
        assert failed == 1 and held.main == seq - 1, (failed, held, seq)
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        done = await store.commit("g1", log.main(seq, 2000), clock.now())
        assert done.stored == 2001 - seq, done
        assert store.trouble is None
    print("recovered", flush=True)

asyncio.run(main())
"""


def test_a_disk_without_room_loses_nothing_and_is_taken_up_again(tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (child.stdout, child.stderr) == ("recovered\n", "")
    assert [event["seq"] for event in listed(tmp_path)] == list(range(1, 2001))
    assert [event["n"] for event in listed(tmp_path)] == list(range(1, 2001))


def test_a_reader_who_may_write_nothing_reads_what_a_stopped_station_left(tmp_path: Path) -> None:
    log = GatewayLog()
    log.append(record())
    with_store(tmp_path, lambda store: store.commit("g1", log.main(1, 1), NOW))
    tmp_path.chmod(0o555)
    for folder in tmp_path.parents:
        if not folder.name.startswith(("pytest-", "popen-")):
            break
        folder.chmod(0o755)
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        assert [event["seq"] for event in listed(tmp_path)] == [1]
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)
    assert {file.name for file in tmp_path.iterdir()} == {schema.FILE_NAME, "station.lock"}


def test_a_station_that_does_not_know_the_time_stores_all_the_same(tmp_path: Path) -> None:
    timeless = Instant(monotonic=5.0)
    log = GatewayLog()
    log.append(record(clock=ClockQuality.UNSET))
    lost = Announcement(
        gateway="g1", subkind="gateway-lost", qualifier=Qualifier.NEW, text="", silence=True
    )

    async def work(store: Store) -> None:
        store.hello("g1", Stamp(monotonic_us=1, boot_id=BOOT), timeless)
        await store.commit("g1", log.main(1, 1), timeless)
        await store.announce([lost], timeless)

    with_store(tmp_path, work)
    assert [(event["at"], event["received_at"]) for event in listed(tmp_path)] == [
        (None, None)
    ] * 2
