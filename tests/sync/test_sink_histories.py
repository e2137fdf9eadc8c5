"""Batches that are malformed or of another history: named, and nothing of either lost."""

import pytest

from events.chain import genesis
from events.errors import LogRewound
from events.replication import Entry, Fetch, Gap, Lane
from sync.ledger import Commit
from sync.messages import MalformedMessage
from sync.progress import Progress
from sync.verify import MissingCopy, Place, Unanchored, check_urgent, judge_main
from tests.sync.fakes import OneLog
from tests.sync.sink_rig import QUIET, Station, chained
from tests.sync.world import GATEWAY, STATION, World


def test_a_folder_put_back_without_a_reboot_is_not_told_to_forget_its_own_events() -> None:
    station = Station()
    fetch = station.open()[0]
    station.hear(station.batch(fetch, *station.entries(1, 2, 3, 4, 5)))
    station.one = OneLog("disk")
    for n in range(9):  # it went on by itself, beyond what the station holds
        station.one.append(b"event %d" % n if n < 2 else b"other %d" % n, urgent=False)
    station.begin()
    fetch = station.hear(station.hello(instance="another"))[1]
    assert (fetch.after, fetch.stored) == (5, 0)
    again = station.hear(station.batch(fetch, *station.entries(6, 7, 8, 9)))[0]
    assert (again.after, again.stored) == (0, 0)
    after = station.hear(station.batch(again, *station.entries(*range(1, 10))))
    assert after[-1].stored == 9


def test_another_history_after_a_place_of_ours_is_a_rewound_log() -> None:
    ours, theirs = chained(b"a", b"b"), chained(b"a", b"B", b"c")
    place = Place(seq=2, chain=ours[1].chain, anchored=False)
    with pytest.raises(LogRewound):
        judge_main(place, theirs[2:], (), bare_through=0, copies={})


def test_a_copy_of_another_history_is_no_copy() -> None:
    ours, theirs = chained(b"a", b"b"), chained(b"a", b"B")
    place = Place(seq=1, chain=ours[0].chain, anchored=False)
    bare = Entry(2, theirs[1].chain, None)
    with pytest.raises(MissingCopy):
        judge_main(place, [bare], (), bare_through=2, copies={(2, ours[1].chain): b"b"})


@pytest.mark.parametrize("numbers", [(2, 1), (1, 1), (0,)])
def test_numbers_out_of_order_are_malformed(numbers: tuple[int, ...]) -> None:
    entries = [Entry(n, bytes(16), b"x") for n in numbers]
    place = Place(seq=0, chain=genesis("x"), anchored=False)
    with pytest.raises(MalformedMessage):
        judge_main(place, entries, (), bare_through=0, copies={})
    with pytest.raises(MalformedMessage):
        check_urgent(0, entries, 9)


def test_an_urgent_event_without_body_or_beyond_its_batch_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        check_urgent(0, [Entry(1, bytes(16), None)], 1)
    with pytest.raises(MalformedMessage):
        check_urgent(0, [Entry(3, bytes(16), b"x")], 2)


def cloned_world(kept: int, cloned: int) -> tuple[World, OneLog]:
    """A card is copied at `cloned`, the original goes on to `kept`, then the copy takes over."""
    world = World(7, trouble=QUIET)
    world.connect_all()
    copy = OneLog("disk")
    for n in range(kept):
        body = b"event %d" % n
        if n < cloned:
            copy.append(body, urgent=n % 3 == 0)
        world.log.append(body, urgent=n % 3 == 0)
    world.restart_gateway()
    world.run(10)
    assert world.complete()
    assert world.notices == []
    world.log.logs[0] = copy
    return world, copy


@pytest.mark.parametrize("new", [0, 1, 10, 40])
def test_a_restored_card_is_named_and_both_histories_are_kept(new: int) -> None:
    world, copy = cloned_world(kept=30, cloned=20)
    for n in range(new):
        copy.append(b"other %d" % n, urgent=n % 2 == 0)
    world.restart_gateway()
    wanted = {("disk", entry.seq, entry.chain) for entry, _ in copy.rows}
    rows = world.ledger.held(GATEWAY).rows
    assert world.run(60, until=lambda: wanted <= rows.keys())
    assert len(rows) == 30 + new
    world.run(5)
    assert {str(notice.reason) for notice in world.notices} == {"log-rewound"}
    assert world.ledger.held(GATEWAY).suspects == []
    world.notices.clear()
    world.log.acknowledged.clear()
    copy.append(b"and on it goes", urgent=True)
    world.restart_gateway()
    world.run(5)
    assert world.log.acknowledged == {(STATION, "disk", lane): len(copy.rows) for lane in Lane}
    assert world.notices == []


def ahead(*, restarted: bool) -> tuple[Station, Fetch]:
    """Urgent events 1, 3 and 5 went ahead; then one of the programs, or both, start anew."""
    station = Station(Lane.URGENT)
    (fetch,) = station.open()
    station.hear(station.batch(fetch, *station.entries(1, 3, 5), through=5))
    if restarted:
        station.progress = Progress()
    station.begin()
    return station, station.hear(station.hello(instance="two"))[1]


def other_history(station: Station, *, kept: int, count: int) -> None:
    """The card is another copy: the same up to `kept`, then urgent events up to `count`."""
    copy = OneLog("disk")
    for entry, urgent in station.one.rows[:kept]:
        copy.append(entry.body or b"", urgent=urgent)
    for n in range(count - kept):
        copy.append(b"other %d" % n, urgent=True)
    station.one = copy


@pytest.mark.parametrize("restarted", [False, True])
def test_the_urgent_lane_goes_on_once_the_gateway_shows_its_newest_event(restarted: bool) -> None:
    station, fetch = ahead(restarted=restarted)
    assert (fetch.after, fetch.stored) == (4, 0)
    (again,) = station.hear(station.batch(fetch, *station.entries(5), through=5))
    assert again.after == 5
    assert station.progress.logs["disk"].urgent == 5
    assert station.ledger.held("gw").twice == 0  # the event that it showed is not stored again


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("count", [4, 5, 12])
def test_the_urgent_lane_reads_all_again_where_its_cursor_is_of_another_history(
    count: int, restarted: bool
) -> None:
    station, fetch = ahead(restarted=restarted)
    other_history(station, kept=2, count=count)
    numbers = range(fetch.after + 1, count + 1)
    (again,) = station.hear(station.batch(fetch, *station.entries(*numbers)))
    assert (again.after, again.stored) == (0, 0)
    wanted = station.entries(1, *range(3, count + 1))
    (last,) = station.hear(station.batch(again, *wanted))
    held = station.ledger.held("gw").rows.keys()
    assert {("disk", entry.seq, entry.chain) for entry in wanted} <= held
    assert (last.after, last.stored) == (count, 0)  # the main lane has yet to see its history


def test_an_urgent_commit_of_a_history_that_ended_lifts_no_cursor() -> None:
    """It was under way while the main lane began anew: what lies before it was never read."""
    world, copy = cloned_world(kept=30, cloned=20)
    for n in range(5):
        copy.append(b"other %d" % n, urgent=True)
    world.restart_gateway()
    progress = world.gateway.progress.logs["disk"]
    assert world.run(60, until=lambda: progress.epoch == 1)
    for history, lifted in ((0, False), (1, True)):
        entry = copy.append(b"late", urgent=True)
        commit = Commit(
            log_id="disk",
            lane=Lane.URGENT,
            entries=(entry,),
            through=entry.seq,
            chain=b"",
            head=entry.seq,
            history=history,
        )
        world.ledger.commit_now(GATEWAY, commit)
        progress.committed(commit, progress.run)
        cursor = world.ledger.held(GATEWAY).cursors["disk"]
        assert [each == entry.seq for each in (progress.urgent, cursor.urgent)] == [lifted] * 2


def test_a_gap_after_a_place_of_ours_has_to_continue_our_history() -> None:
    ours, theirs = bytes([1]) * 16, bytes([2]) * 16
    place = Place(seq=5, chain=ours, anchored=False)

    def judged(place: Place, before: bytes) -> int:
        gap = Gap(6, 9, theirs, "evicted", before)
        return judge_main(place, [], [gap], bare_through=0, copies={}).through

    assert judged(place, ours) == 9
    with pytest.raises(LogRewound):
        judged(place, theirs)
    with pytest.raises(Unanchored):
        judged(place, b"")
    assert judged(Place(seq=5, chain=ours, anchored=False, verified=True), b"") == 9
    assert judged(Place(seq=0, chain=genesis("disk"), anchored=False), b"") == 9


def test_a_clone_is_told_to_forget_nothing_that_only_it_has() -> None:
    world, copy = cloned_world(kept=30, cloned=20)
    world.log.acknowledged.clear()
    for n in range(15):
        copy.append(b"other %d" % n, urgent=True)
    world.restart_gateway()
    # `World.check_mark` holds every acknowledgement against the clone's own history.
    assert world.run(60, until=lambda: len(world.ledger.held(GATEWAY).rows) == 45)
