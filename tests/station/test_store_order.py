"""The ledger judges order and time: what is late, which state holds, when it was."""

import asyncio
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.kinds import Kind, Qualifier
from events.model import ClockQuality, Instant, Origin, Stamp
from events.replication import Gap
from station import schema
from station.announcements import Announcement
from station.store import Store
from tests.station.gateway_log import BOOT, WALL_S, GatewayLog, record
from tests.station.ledger import CLOCK, NOW, listed, states, with_store


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


def test_an_event_that_is_recorded_again_counts_from_its_first_place(tmp_path: Path) -> None:
    """It made room at the gateway: what the station holds is older, or newer, than that place."""
    log = GatewayLog()
    log.append(record("hall", qualifier="restore", monotonic_s=1.0))
    log.append(record("hall", qualifier="new", monotonic_s=2.0))  # in the gap
    log.append(record("door", qualifier="new", monotonic_s=3.0))  # in the gap
    log.append(record("door", qualifier="restore", monotonic_s=4.0))
    for point, seq in (("hall", 2), ("door", 3), ("hall", 2)):
        log.append(record(point, monotonic_s=float(seq), origin=Origin(log.log_id, seq)))
    gap = Gap(2, 3, log.chain_at(3), "evicted")

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 4, gaps=[gap]), NOW)
        assert states(tmp_path)["hall", "alarm", "panic"][0] == "restore"
        await store.commit("g1", log.main(5, 7), NOW)
        assert (await store.logs({}))["g1"].missing == 0

    with_store(tmp_path, work)
    assert [(each["seq"], each["late"]) for each in listed(tmp_path)] == [
        (1, False),
        (4, False),
        (5, False),
        (6, True),
    ]
    assert states(tmp_path)["hall", "alarm", "panic"][0] == "new"
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
