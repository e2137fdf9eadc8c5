"""Batches that are malformed or of another history: named, and nothing of either lost."""

import pytest

from events.chain import genesis
from events.errors import LogRewound
from events.replication import Entry, Gap, Lane
from sync.messages import MalformedMessage
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
