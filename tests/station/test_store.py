import asyncio
import random
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import StoreError
from events.kinds import Kind, Qualifier
from events.model import ClockQuality, Instant, Origin, Stamp
from events.replication import Gap, Lane
from station import schema
from station.announcements import Announcement
from station.store import Store
from station.writer import COPY_DUE_BYTES, Work
from sync.ledger import LACKING_MAX, Commit, Cursor, Lacking
from tests.station.gateway_log import BOOT, WALL_S, GatewayLog, record
from tests.station.ledger import CLOCK, NOW, gathering, listed, states, with_store


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
        lacking = (Lacking(3, 4, "evicted"), Lacking(6, 8, "evicted"))
        for _ in range(2):
            result = await store.commit("g1", log.main(1, 10, gaps=[gap]), NOW)
            assert (result.lacking, result.lacking_count) == (lacking, 5)
        report = (await store.logs({}))["g1"]
        assert (report.log_id, report.seq, report.head, report.missing) == ("log-1", 10, 10, 5)
        shown = [(gap.first, gap.last, gap.why) for gap in report.gaps]
        assert shown == [(3, 4, "evicted"), (6, 8, "evicted")]

    with_store(tmp_path, work)
    assert sorted(event["seq"] for event in listed(tmp_path)) == [1, 2, 5, 9, 10]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 600), st.integers(0, 40)), max_size=12),
    st.integers(1, 600),
    st.integers(0, 599),
)
def test_what_a_gap_lacks_is_exactly_what_is_not_held(
    runs: list[tuple[int, int]], first: int, length: int
) -> None:
    last = min(600, first + length)
    held = {seq for begin, more in runs for seq in range(begin, min(600, begin + more) + 1)}

    log = GatewayLog()
    for _ in range(600):
        log.append(record(urgent=True))
    gap = Gap(first, last, log.chain_at(last), "evicted")
    with TemporaryDirectory() as folder:

        async def commits(store: Store) -> None:
            if held:
                await store.commit("g1", log.early(*sorted(held)), NOW)
            result = await store.commit("g1", log.main(1, 600, gaps=[gap]), NOW)
            lacking = [each for each in range(first, last + 1) if each not in held]
            assert result.lacking_count == len(lacking)
            told = [n for each in result.lacking for n in range(each.first, each.last + 1)]
            assert told == lacking[: len(told)]
            assert len(result.lacking) == LACKING_MAX or told == lacking

        with_store(Path(folder), commits)


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
        for history, first, length in ranges:
            log, last = logs[history], min(600, first + length)
            wanted = [(seq, log.chain_at(seq)) for seq in range(first, last + 1)]
            commit = replace(log.main(first, last), restart=True)
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
