"""The gateway's half alone: what it says, when, and what it never says."""

from typing import Any

import pytest

from events.model import ClockQuality, Instant
from events.replication import HOLD_S, Batch, Fetch, Hello, Lane, LogHead, Refused, Welcome
from sync.messages import CONTROL_LENGTH_MAX, decode, decode_entries, encode, stamp
from sync.source import (
    FETCHES_OPEN_MAX,
    GREETING_RETRY_S,
    READ_RETRY_S,
    SILENCE_S,
    Mark,
    Source,
    SourceState,
)
from tests.sync.fakes import ListLog, OneLog


class Gateway:
    """A source over a log, with a hand that moves the clock."""

    def __init__(self, lane: Lane = Lane.MAIN, events: int = 0) -> None:
        self.log = ListLog(OneLog("disk"))
        for n in range(events):
            self.log.append(b"event %d" % n, urgent=n % 2 == 0)
        self.lane = lane
        self.time = 100.0
        self.source = Source(name="gw", program="t", boot_id="b", lane=lane, path="lan")
        self.source.connect(self.log.heads(), self.now)
        self.fetches = 0

    @property
    def now(self) -> Instant:
        return Instant(monotonic=self.time)

    def said(self) -> list[Any]:
        self.source.timeout(self.now)
        for request in self.source.wants():
            reading = self.log.read_now(
                request.log_id,
                request.lane,
                request.after,
                request.limit_bytes,
                request.bare_through,
            )
            self.source.read(request, reading, self.now)
            return self.said()
        return [decode(data) for data in self.source.to_send()]

    def hear(self, message: Any) -> list[Any]:
        self.source.receive(encode(message), self.now)
        return self.said()

    def welcome(self) -> None:
        message = Welcome(protocol=1, program="t", name="st", stamp=stamp(self.now, "s"))
        assert len(self.said()) == 1
        assert self.hear(message) == []

    def fetch(self, **given: Any) -> list[Any]:
        self.fetches += 1
        fields: dict[str, Any] = {
            "id": self.fetches,
            "lane": self.lane,
            "log_id": "disk",
            "after": 0,
            "stored": 0,
            "limit_bytes": 100_000,
        }
        return self.hear(Fetch(**fields | given))

    def append(self, *, urgent: bool = False) -> list[Any]:
        self.log.append(b"new", urgent=urgent)
        self.source.changed(self.log.heads(), self.now)
        return self.said()


def numbers(batch: Batch) -> list[int]:
    return [entry.seq for entry in decode_entries(batch)]


def test_hello_comes_first_and_again_until_it_is_answered() -> None:
    gateway = Gateway(events=3)
    (hello,) = gateway.said()
    assert isinstance(hello, Hello)
    assert (hello.name, hello.lane, hello.logs[0].head) == ("gw", Lane.MAIN, 3)
    assert gateway.source.deadline() == gateway.time + GREETING_RETRY_S
    gateway.time += GREETING_RETRY_S
    assert [type(message) for message in gateway.said()] == [Hello]


def test_nothing_is_sent_that_nobody_asked_for() -> None:
    gateway = Gateway(events=3)
    gateway.welcome()
    assert gateway.append(urgent=True) == []


def test_a_fetch_is_answered_with_what_comes_after() -> None:
    gateway = Gateway(events=5)
    gateway.welcome()
    (batch,) = gateway.fetch(after=2)
    assert (numbers(batch), batch.through, batch.head) == ([3, 4, 5], 5, 5)


def test_the_urgent_lane_skips_and_says_how_far_it_looked() -> None:
    gateway = Gateway(Lane.URGENT, events=6)
    gateway.welcome()
    (batch,) = gateway.fetch(after=1)
    assert (numbers(batch), batch.through) == ([3, 5], 6)


def test_a_fetch_with_nothing_to_answer_is_held_for_three_seconds() -> None:
    gateway = Gateway(events=2)
    gateway.welcome()
    assert gateway.fetch(after=2) == []
    assert gateway.source.deadline() == gateway.time + HOLD_S
    gateway.time += HOLD_S
    (batch,) = gateway.said()
    assert (batch.entries, batch.through, batch.head) == (b"", 2, 2)


def test_an_alarm_leaves_the_moment_it_is_stored() -> None:
    gateway = Gateway(Lane.URGENT, events=2)
    gateway.welcome()
    assert gateway.fetch(after=2) == []
    gateway.time += 1
    assert gateway.append() == []
    (batch,) = gateway.append(urgent=True)
    assert (numbers(batch), batch.through) == ([4], 4)


def test_fetches_that_follow_read_on_where_the_one_before_ended() -> None:
    gateway = Gateway(events=6)
    gateway.welcome()
    one = gateway.log.logs[0]
    size = 24 + len(one.rows[0][0].body or b"")
    first = gateway.fetch(limit_bytes=size)
    second = gateway.fetch(follows=1, limit_bytes=2 * size)
    third = gateway.fetch(follows=2)
    assert [numbers(batch) for batch in first + second + third] == [[1], [2, 3], [4, 5, 6]]
    assert gateway.fetch(follows=3) == []
    assert [numbers(batch) for batch in gateway.append()] == [[7]]


def test_a_fetch_whose_predecessor_never_came_is_let_go() -> None:
    gateway = Gateway(events=2)
    gateway.welcome()
    assert gateway.fetch(follows=77) == []
    gateway.time += HOLD_S
    assert gateway.said() == []


def test_a_doubled_fetch_is_answered_once_and_a_flood_is_bounded() -> None:
    gateway = Gateway(events=2)
    gateway.welcome()
    assert len(gateway.fetch(id=1)) == 1
    assert gateway.fetch(id=1) == []
    gateway.fetch(after=2)
    for _ in range(FETCHES_OPEN_MAX + 50):
        gateway.fetch(follows=gateway.fetches)
    gateway.time += HOLD_S
    assert len(gateway.said()) == FETCHES_OPEN_MAX
    assert gateway.source.ignored >= 50


def test_only_stored_acknowledges_and_never_beyond_our_head() -> None:
    gateway = Gateway(events=5)
    gateway.welcome()
    gateway.fetch(after=4)
    assert gateway.source.marks() == []
    gateway.fetch(after=5, stored=3)
    gateway.fetch(after=5, stored=3)
    gateway.fetch(after=5, stored=2)
    gateway.fetch(after=9, stored=9)  # said of another history
    assert gateway.source.marks() == [Mark(log_id="disk", lane=Lane.MAIN, stored=3)]


def test_a_station_that_holds_more_than_we_have_is_answered_at_once() -> None:
    gateway = Gateway(events=5)
    gateway.welcome()
    (batch,) = gateway.fetch(after=9)
    assert (batch.entries, batch.head) == (b"", 5)


def test_a_fetch_for_a_sign_of_life_reads_nothing() -> None:
    gateway = Gateway(events=5)
    gateway.welcome()
    assert gateway.fetch(limit_bytes=0) == []
    gateway.time += HOLD_S
    (batch,) = gateway.said()
    assert (batch.entries, batch.head) == (b"", 5)


def test_a_log_that_cannot_be_read_is_tried_again_while_the_fetch_is_held() -> None:
    gateway = Gateway(events=1)
    gateway.welcome()
    gateway.source.receive(
        encode(Fetch(id=1, lane=Lane.MAIN, log_id="disk", after=0, stored=0, limit_bytes=9)),
        gateway.now,
    )
    (request,) = gateway.source.wants()
    gateway.source.unreadable(request, gateway.now)
    assert gateway.source.wants() == []
    assert gateway.source.deadline() == gateway.time + READ_RETRY_S
    gateway.time += READ_RETRY_S
    (batch,) = gateway.said()
    assert numbers(batch) == [1]


def test_silence_is_noticed_on_the_second() -> None:
    gateway = Gateway()
    gateway.welcome()
    gateway.time += SILENCE_S - 0.01
    gateway.said()
    states = [gateway.source.state]
    gateway.time += 0.01
    gateway.said()
    states.append(gateway.source.state)
    assert states == [SourceState.UP, SourceState.SILENT]
    assert gateway.source.deadline() is None
    assert gateway.fetch() == []


def test_a_refusal_is_kept_and_ends_the_conversation() -> None:
    gateway = Gateway()
    refusal = Refused(reason="version-mismatch", text="too old")
    gateway.said()
    assert gateway.hear(refusal) == []
    assert (gateway.source.state, gateway.source.refusal) == (SourceState.REFUSED, refusal)


def test_a_version_that_was_not_offered_is_a_refusal() -> None:
    gateway = Gateway()
    gateway.said()
    gateway.hear(Welcome(protocol=9, program="t", name="st", stamp=stamp(gateway.now, "s")))
    assert gateway.source.state is SourceState.REFUSED


def test_a_log_that_comes_or_goes_is_told_and_its_fetches_go_with_it() -> None:
    gateway = Gateway(events=1)
    gateway.welcome()
    gateway.log.logs.append(OneLog("memory", volatile=True))
    gateway.source.changed(gateway.log.heads(), gateway.now)
    (hello,) = gateway.said()
    assert [(log.log_id, log.volatile) for log in hello.logs] == [
        ("disk", False),
        ("memory", True),
    ]
    assert gateway.fetch(log_id="memory") == []
    del gateway.log.logs[1]
    gateway.source.changed(gateway.log.heads(), gateway.now)
    assert [type(message) for message in gateway.said()] == [Hello]
    gateway.time += HOLD_S
    assert gateway.said() == []


def test_a_late_reading_for_an_earlier_connection_is_not_sent() -> None:
    gateway = Gateway(events=1)
    gateway.welcome()
    gateway.source.receive(
        encode(Fetch(id=1, lane=Lane.MAIN, log_id="disk", after=0, stored=0, limit_bytes=9)),
        gateway.now,
    )
    (request,) = gateway.source.wants()
    gateway.source.connect(gateway.log.heads(), gateway.now)
    gateway.source.to_send()
    gateway.source.read(request, gateway.log.read_now("disk", Lane.MAIN, 0, 9, 0), gateway.now)
    assert gateway.source.to_send() == []


def test_growth_during_a_reading_is_not_forgotten() -> None:
    gateway = Gateway(Lane.URGENT)
    gateway.welcome()
    gateway.append()
    gateway.source.receive(
        encode(Fetch(id=1, lane=Lane.URGENT, log_id="disk", after=0, stored=0, limit_bytes=9)),
        gateway.now,
    )
    (request,) = gateway.source.wants()
    reading = gateway.log.read_now("disk", Lane.URGENT, 0, 9, 0)
    gateway.log.append(b"alarm", urgent=True)
    gateway.source.changed(gateway.log.heads(), gateway.now)
    gateway.source.read(request, reading, gateway.now)
    (batch,) = gateway.said()
    assert numbers(batch) == [2]


@pytest.mark.parametrize("data", [b"", b"\xc1", bytes(CONTROL_LENGTH_MAX)])
def test_malformed_messages_are_counted_and_prove_no_life(data: bytes) -> None:
    gateway = Gateway()
    gateway.welcome()
    gateway.time += SILENCE_S
    gateway.source.receive(data, gateway.now)
    assert gateway.source.malformed == 1
    gateway.said()
    assert gateway.source.state is SourceState.SILENT


def test_a_log_offered_beyond_the_limit_is_left_out() -> None:
    heads = [LogHead(log_id=str(n), first=1, head=0, chain=bytes(16)) for n in range(20)]
    source = Source(name="gw", program="t", boot_id="b", lane=Lane.MAIN, path="lan")
    source.connect(heads, Instant(monotonic=1.0))
    (hello,) = [decode(data) for data in source.to_send()]
    assert isinstance(hello, Hello)
    assert [log.log_id for log in hello.logs] == [str(n) for n in range(8)]


def test_a_better_clock_is_told_on_a_live_connection_and_disturbs_nothing() -> None:
    gateway = Gateway(events=3)
    gateway.source.greet_again(gateway.now)
    assert [type(said) for said in gateway.said()] == [Hello, Hello]
    message = Welcome(protocol=1, program="t", name="st", stamp=stamp(gateway.now, "s"))
    assert gateway.hear(message) == []
    assert gateway.source.station_time() is None  # a station that does not know the time
    assert len(gateway.fetch()) == 1
    gateway.fetch(after=3)
    gateway.source.greet_again(gateway.now)
    (hello,) = gateway.said()
    assert isinstance(hello, Hello)
    gateway.time += 0.5
    now = Instant(monotonic=gateway.time, wall=1.8e9, clock=ClockQuality.FREE)
    gateway.hear(Welcome(protocol=1, program="t", name="st", stamp=stamp(now, "s")))
    told = gateway.source.station_time()
    assert told is not None
    assert (told.error_s, told.offset_s) == (0.25, 1.8e9 - gateway.time + 0.25)
    assert gateway.source.state is SourceState.UP
    assert gateway.append()[0].through == 4  # the fetch that was open still is
