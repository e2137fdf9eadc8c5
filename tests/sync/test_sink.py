"""The station asks, checks, commits, acknowledges; and what it does about silence and faults."""

import msgspec
import pytest

from events.chain import genesis
from events.errors import StoreError
from events.replication import Entry, Fetch, Gap, Lane, LogHead, Refused, Welcome
from sync.messages import decode, encode
from sync.progress import Progress
from sync.reading import Store
from sync.rest import REST_MAX_S, SMALL_BYTES
from sync.sink import ANSWER_S, RETRY_S, SILENCE_S, SinkState
from tests.sync.sink_rig import Station


def test_hello_is_welcomed_and_read_from_the_ledgers_cursor() -> None:
    station = Station()
    fetches = station.open()
    assert fetches[0].after == 0
    assert [each.follows for each in fetches[1:]] == [each.id for each in fetches[:-1]]
    station.hear(station.batch(fetches[0], *station.entries(1, 2, 3)))
    station.progress = Progress()
    station.begin()
    assert station.open()[0].after == 3


def test_nothing_is_acknowledged_before_the_commit() -> None:
    station = Station()
    fetch, second = station.open()[:2]
    station.sink.receive(encode(station.batch(fetch, *station.entries(1, 2))), station.now)
    work = station.sink.work()
    assert isinstance(work, Store)
    assert all(decode(data).stored == 0 for data in station.sink.to_send())  # type: ignore[union-attr]
    station.ledger.commit_now("gw", work.commit)
    station.sink.committed(work, station.now, took_s=0.001)
    station.sink.receive(encode(station.batch(second, *station.entries(3))), station.now)
    assert max(decode(data).stored for data in station.sink.to_send()) == 2  # type: ignore[union-attr]


def test_the_next_batch_is_checked_while_the_one_before_it_is_committed() -> None:
    station = Station(head=6)
    first, second = station.open()[:2]
    station.sink.receive(encode(station.batch(first, *station.entries(1, 2))), station.now)
    station.sink.receive(encode(station.batch(second, *station.entries(3, 4))), station.now)
    one, two = station.sink.work(), station.sink.work()
    assert isinstance(one, Store)
    assert isinstance(two, Store)
    assert (one.commit.after, two.commit.after) == (0, 2)
    station.sink.failed(one, station.now)  # then what comes after it may not be held either
    with pytest.raises(StoreError):
        station.ledger.commit_now("gw", two.commit)
    station.sink.failed(two, station.now)
    station.time += RETRY_S
    station.sink.timeout(station.now)
    assert station.said()[0].after == 0


def test_a_commit_that_fails_is_asked_for_again_and_acknowledges_nothing() -> None:
    station = Station()
    fetch = station.open()[0]
    station.sink.receive(encode(station.batch(fetch, *station.entries(1, 2))), station.now)
    work = station.sink.work()
    assert work is not None
    station.sink.to_send()
    station.sink.failed(work, station.now)
    assert station.said() == []
    assert station.sink.deadline() == station.time + RETRY_S
    station.time += RETRY_S
    station.sink.timeout(station.now)
    again = station.said()
    assert (again[0].after, again[0].stored) == (0, 0)


def test_what_went_ahead_a_moment_ago_is_not_looked_up_again() -> None:
    station = Station(Lane.URGENT)
    (fetch,) = station.open()
    station.hear(station.batch(fetch, *station.entries(1, 3, 5), through=5))
    station.lane = Lane.MAIN
    station.begin()
    fetch = station.open()[0]
    batch = station.batch(fetch, *station.entries(1, 2, 3, 4, 5, bare=(1, 3, 5)))
    station.sink.receive(encode(batch), station.now)
    work = station.sink.work()
    assert isinstance(work, Store)
    assert (work.commit.confirmed, work.commit.through) == (3, 5)


def test_in_a_crowd_a_small_batch_is_followed_by_a_rest_of_a_second_at_most() -> None:
    station = Station(head=0)
    [fetch] = station.open()
    station.crowd()
    station.one.append(b"one", urgent=False)
    assert station.hear(station.batch(fetch, *station.entries(1))) == []
    assert station.held() == [1], "it is stored at once"
    until = station.sink.deadline()
    assert until is not None
    assert station.time + REST_MAX_S / 2 <= until <= station.time + REST_MAX_S
    station.time = until - 0.001
    station.sink.timeout(station.now)
    assert station.said() == []
    station.time = until
    station.sink.timeout(station.now)
    [asked] = station.said()
    assert (asked.after, asked.stored) == (1, 1)


def test_nothing_rests_that_is_urgent_or_large_or_not_the_last_of_a_backlog() -> None:
    urgent = Station(Lane.URGENT, head=1)
    [fetch] = urgent.open()
    urgent.crowd()
    [asked] = urgent.hear(urgent.batch(fetch, *urgent.entries(1)))
    assert asked.stored == 1

    large = Station(head=0)
    [fetch] = large.open()
    large.crowd()
    large.one.append(bytes(SMALL_BYTES), urgent=False)
    [asked] = large.hear(large.batch(fetch, *large.entries(1)))
    assert asked.stored == 1

    behind = Station(head=5)
    fetch, follower = behind.open()
    behind.crowd()
    [asked] = behind.hear(behind.batch(fetch, *behind.entries(1)))
    assert asked.follows == follower.id


def test_a_rest_ends_with_a_hello_that_tells_of_a_backlog_and_with_another_carrier() -> None:
    for disturb in ("backlog", "carrier"):
        station = Station(head=0)
        [fetch] = station.open()
        station.crowd()
        station.one.append(b"one", urgent=False)
        assert station.hear(station.batch(fetch, *station.entries(1))) == []
        if disturb == "backlog":
            station.one.append(b"two", urgent=False)
            assert [type(each) for each in station.hear(station.hello())] == [
                Welcome,
                Fetch,
                Fetch,
            ]
        else:
            station.sink.activate(station.now, active=False)
            [asked] = station.said()
            assert asked.limit_bytes == 0


def test_answers_to_fetches_that_are_not_open_are_ignored() -> None:
    station = Station()
    fetches = station.open()
    station.hear(station.batch(fetches[0], *station.entries(1, 2)))
    ignored = station.sink.ignored
    for late in (
        station.batch(fetches[0], *station.entries(1, 2)),
        station.batch(fetches[0], head=0),
        msgspec.structs.replace(station.batch(fetches[0]), id=999),
        msgspec.structs.replace(station.batch(fetches[1]), lane=Lane.URGENT),
        msgspec.structs.replace(station.batch(fetches[1]), log_id="other"),
    ):
        station.hear(late)
    assert station.sink.ignored == ignored + 5
    assert station.reasons() == []
    assert station.held() == [1, 2]


def test_an_answer_to_an_earlier_conversation_over_the_same_connection_is_ignored() -> None:
    """A key that was refused is enrolled again: the gateway says hello on the connection it has."""
    station = Station(Lane.URGENT)
    (fetch,) = station.open()
    (held,) = station.hear(station.batch(fetch, *station.entries(1, 3), through=3))
    station.sink.refuse("key-refused", "the key is not enrolled any more")
    station.begin()
    (again,) = station.open()
    station.hear(station.batch(held, *station.entries(5), through=5))
    assert (station.sink.ignored, station.held()) == (1, [1, 3])
    station.hear(station.batch(again, *station.entries(5), through=5))
    assert station.held() == [1, 3, 5]


def test_answers_are_taken_in_the_order_in_which_they_were_asked_for() -> None:
    station = Station()
    first, second = station.open()[:2]
    station.hear(station.batch(second, *station.entries(3, 4)))
    assert station.held() == []
    station.hear(station.batch(first, *station.entries(1, 2)))
    assert station.held() == [1, 2, 3, 4]


def test_an_unanswered_fetch_is_given_up_and_read_again() -> None:
    station = Station()
    station.open()
    station.time += ANSWER_S
    station.sink.timeout(station.now)
    assert station.said()[0].after == 0


def test_a_silent_gateway_is_lost_on_the_second() -> None:
    station = Station()
    station.open()
    station.time += SILENCE_S - 0.01
    station.sink.timeout(station.now)
    assert station.sink.state is SinkState.OPEN
    station.time += 0.01
    station.sink.timeout(station.now)
    assert (station.sink.state, station.sink.deadline()) == (SinkState.LOST, None)


def test_a_name_that_is_not_the_keys_is_refused() -> None:
    station = Station()
    (refused,) = station.hear(station.hello(name="other"))
    assert isinstance(refused, Refused)
    assert (refused.reason, station.sink.state) == ("identity-refused", SinkState.REFUSED)
    assert station.reasons() == ["identity-refused"]
    assert station.hear(station.hello()) == []


def test_no_common_version_is_refused_by_name() -> None:
    station = Station()
    (refused,) = station.hear(station.hello(protocol_min=4, protocol_max=5))
    assert isinstance(refused, Refused)
    assert refused.reason == "version-mismatch"
    assert station.reasons() == ["version-mismatch"]


def test_one_connection_keeps_its_lane_and_path() -> None:
    station = Station()
    station.open()
    assert station.hear(station.hello(lane=Lane.URGENT)) == []
    assert station.hear(station.hello(path="lte")) == []
    assert station.reasons() == ["malformed-message"] * 2


def test_a_copy_that_went_ahead_is_checked_not_sent_again() -> None:
    station = Station(Lane.URGENT)
    (fetch,) = station.open()
    station.hear(station.batch(fetch, *station.entries(1, 3, 5), through=5))
    assert station.held() == [1, 3, 5]
    station.lane = Lane.MAIN
    station.begin()
    fetch = station.open()[0]
    assert fetch.bare_through == 5
    station.hear(station.batch(fetch, *station.entries(1, 2, 3, 4, 5, bare=(1, 3, 5))))
    assert station.held() == [1, 2, 3, 4, 5]
    assert (station.ledger.held("gw").twice, station.reasons()) == (0, [])


def test_a_copy_that_is_not_held_is_asked_for_with_its_body() -> None:
    station = Station(Lane.URGENT)
    (fetch,) = station.open()
    station.hear(station.batch(fetch, *station.entries(1, 3, 5), through=5))
    lost = next(place for place in station.ledger.held("gw").rows if place[1] == 3)
    del station.ledger.held("gw").rows[lost]
    station.lane = Lane.MAIN
    station.progress = Progress()
    station.begin()
    fetch = station.open()[0]
    again = station.hear(station.batch(fetch, *station.entries(1, 2, 3, 4, 5, bare=(1, 3, 5))))
    assert (again[0].after, again[0].bare_through) == (0, 0)
    station.hear(station.batch(again[0], *station.entries(1, 2, 3, 4, 5)))
    assert (station.held(), station.reasons()) == ([1, 2, 3, 4, 5], [])


def test_a_declared_gap_is_stored_with_the_events() -> None:
    station = Station()
    fetch = station.open()[0]
    gap = Gap(1, 3, station.one.chain_at(3), "evicted")
    station.hear(station.batch(fetch, *station.entries(4, 5), gaps=(gap,)))
    held = station.ledger.held("gw")
    assert (station.held(), held.gaps, held.suspects) == ([4, 5], [("disk", gap)], [])
    assert held.cursors["disk"].main == 5
    (said,) = station.lacking
    assert said.text == "the gateway no longer has events 1 to 3: evicted"


def test_of_a_gap_only_what_is_not_held_is_named() -> None:
    """A log in memory drops what is delivered; the station got it over the urgent lane."""
    station = Station(Lane.URGENT)
    station.hear(station.batch(station.open()[0], *station.entries(1, 3), through=5))
    station.lane = Lane.MAIN
    station.begin()
    gap = Gap(1, 4, station.one.chain_at(4), "delivered")
    station.hear(station.batch(station.open()[0], *station.entries(5), gaps=(gap,)))
    assert station.held() == [1, 3, 5]
    (said,) = station.lacking
    assert said.text == "the gateway no longer has events 2 to 2: delivered, 4 to 4: delivered"


def test_a_gap_of_which_everything_is_held_is_no_news() -> None:
    station = Station(Lane.URGENT)
    station.hear(station.batch(station.open()[0], *station.entries(1), through=1))
    station.lane = Lane.MAIN
    station.begin()
    gap = Gap(1, 1, station.one.chain_at(1), "delivered")
    station.hear(station.batch(station.open()[0], *station.entries(2), gaps=(gap,)))
    assert (station.held(), station.reasons()) == ([1, 2], [])


def test_undeclared_holes_are_refused_three_times_then_named_and_passed() -> None:
    station = Station()
    fetches = station.open()
    for attempt in range(4):
        station.hear(station.batch(fetches[0], *station.entries(1, 2, 5)))
        if attempt < 3:
            assert (station.held(), station.reasons()) == ([], [])
            station.time += RETRY_S
            station.sink.timeout(station.now)
            fetches = station.said()
    assert (station.held(), station.reasons()) == ([1, 2, 5], ["log-gap"])
    assert [gap.why for _, gap in station.ledger.held("gw").gaps] == ["undeclared"]
    station.progress = Progress()
    station.begin()
    station.one.append(b"after", urgent=False)
    station.hear(station.batch(station.open()[0], *station.entries(6)))
    assert (station.held(), station.reasons()) == ([1, 2, 5, 6], [])


def test_an_event_that_does_not_fit_its_chain_is_kept_and_named() -> None:
    station = Station()
    fetch = station.open()[0]
    good = station.entries(1, 2, 3)
    poison = Entry(2, good[1].chain, b"\xc1 not what was chained")
    station.hear(station.batch(fetch, good[0], poison, good[2]))
    assert (station.held(), station.reasons()) == ([1, 2, 3], ["chain-mismatch"])
    assert station.ledger.held("gw").suspects == [("disk", 2)]


def test_unreadable_entries_are_named_and_asked_for_again_later() -> None:
    station = Station()
    fetch = station.open()[0]
    station.hear(msgspec.structs.replace(station.batch(fetch), entries=b"\xc1", through=2))
    assert station.reasons() == ["malformed-message"]
    assert station.said() == []
    station.time += RETRY_S
    station.sink.timeout(station.now)
    station.hear(station.batch(station.said()[0], *station.entries(1, 2)))
    assert station.held() == [1, 2]


def test_a_waiting_connection_only_proves_that_it_lives() -> None:
    station = Station()
    station.open()
    station.sink.activate(station.now, active=False)
    (fetch,) = station.said()
    assert fetch.limit_bytes == 0
    (again,) = station.hear(station.batch(fetch))
    assert again.limit_bytes == 0
    station.sink.activate(station.now, active=True)
    assert station.said()[0].limit_bytes > 0


def test_a_log_that_appears_does_not_disturb_the_reading_of_the_others() -> None:
    station = Station()
    fetches = station.open()
    memory = LogHead(log_id="memory", first=1, head=0, chain=genesis("memory"), volatile=True)
    welcome, new = station.hear(station.hello(logs=(station.one.head(), memory)))
    assert isinstance(welcome, Welcome)
    assert (new.log_id, new.after) == ("memory", 0)
    station.hear(station.batch(fetches[0], *station.entries(1, 2)))
    assert station.held() == [1, 2]
