"""What the ledger holds after commits: each event once, as it came, and what is missing."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.errors import StoreError
from events.kinds import Qualifier
from events.model import Origin
from events.replication import Gap, Lane
from station import schema
from station.announcements import Announcement
from station.store import Store
from sync.ledger import LACKING_MAX, Commit, Cursor, Lacking
from tests.station.gateway_log import GatewayLog, record
from tests.station.ledger import NOW, listed, states, with_store


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
        assert held == Cursor(
            main=6, chain=log.chain_at(6), urgent=8, ahead=7, ahead_chain=log.chain_at(7)
        )

    with_store(tmp_path, work)

    async def reopened(store: Store) -> None:
        held = (await store.cursors("g1", ["log-1"]))["log-1"]
        assert held == Cursor(
            main=6, chain=log.chain_at(6), urgent=8, ahead=7, ahead_chain=log.chain_at(7)
        )

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
        assert held == Cursor(main=1, chain=new.chain_at(1), urgent=0, history=1)

    with_store(tmp_path, work)
    assert listed(tmp_path)[-1]["late"] is False
    assert states(tmp_path)["door", "alarm", "panic"] == ("new", 10)


def test_a_commit_of_a_history_that_ended_moves_no_cursor(tmp_path: Path) -> None:
    """Both lanes had a commit under way when the log began anew, and these come after it."""
    old, new = GatewayLog(), GatewayLog()
    for n in range(12):
        old.append(record(urgent=n % 2 == 1))
    for n in range(12):
        new.append(record(urgent=n % 2 == 1, boot_id="boot-2"))

    async def work(store: Store) -> None:
        await store.commit("g1", old.main(1, 7), NOW)
        await store.commit("g1", replace(new.main(1, 7), restart=True), NOW)
        with pytest.raises(StoreError, match="a history that ended"):
            await store.commit("g1", replace(old.main(8, 9), after=7), NOW)
        late = await store.commit("g1", new.early(12), NOW)  # read after a place of the old one
        assert late.stored == 1
        expected = Cursor(main=7, chain=new.chain_at(7), history=1)
        assert await store.cursors("g1", ["log-1"]) == {"log-1": expected}
        await store.commit("g1", replace(new.early(8, 10), history=1), NOW)
        expected = replace(expected, urgent=10, ahead=10, ahead_chain=new.chain_at(10))
        assert await store.cursors("g1", ["log-1"]) == {"log-1": expected}
        rest = replace(new.main(8, 12), history=1, after=7)
        assert (await store.commit("g1", rest, NOW)).known == 3

    with_store(tmp_path, work)

    async def reopened(store: Store) -> None:
        again = replace(old.main(1, 3), restart=True, history=1)
        assert (await store.commit("g1", again, NOW)).known == 3
        assert (await store.commit("g1", again, NOW)).known == 3  # nobody heard of the first
        held = (await store.cursors("g1", ["log-1"]))["log-1"]
        assert held == Cursor(main=3, chain=old.chain_at(3), history=2)
        with pytest.raises(StoreError, match="begun anew meanwhile"):
            await store.commit("g1", replace(again, history=0), NOW)

    with_store(tmp_path, reopened)


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
