from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.kinds import Kind, Qualifier, Subkind
from events.model import Instant, Observation
from protocols.contact_id.answers import ANSWERS_MAX
from protocols.contact_id.config import Receiver, ReceiverPoint
from protocols.contact_id.receiver import WAITING_MAX, ReceiverLink
from protocols.contact_id.repeats import DOUBT_S, RESTART_S
from protocols.ports import SerialPort
from tests.protocols.contact_id.book import Book

PANIC = b"5011 181234E12001005\x14"
FIRE = b"5011 181234E11001005\x14"
HEARTBEAT = b"1011           @    \x14"
ACK = b"\x06"


class Bench:
    """A link with its clock, its line and its book; nothing is stored until `store` is called."""

    def __init__(self, book: Book | None = None, **settings: Any) -> None:
        self.book = book or Book()
        settings = {"format": "mlr2", "silence_s": 0, **settings}
        self.link = ReceiverLink(
            Receiver(id="r1", port=SerialPort(path="/dev/x"), **settings), self.book
        )
        self.now = 1000.0
        self.waiting: list[Observation] = []
        self.sent = b""
        self.link.start(self._instant())

    def hear(self, data: bytes) -> bytes:
        self.link.receive(data, self._instant())
        return self._drain()

    def wait(self, seconds: float) -> bytes:
        """Let time pass, with every deadline on the way met exactly."""
        end = self.now + seconds
        answer = b""
        while (due := self.link.deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.link.timeout(self._instant())
            answer += self._drain()
        self.now = end
        return answer

    def store(self, count: int | None = None) -> bytes:
        done = self.waiting[:count]
        del self.waiting[: len(done)]
        self.book.write(done)
        self.link.stored(len(done), self._instant())
        return self._drain()

    def refuse(self, count: int) -> bytes:
        del self.waiting[:count]
        self.link.dropped(count, self._instant())
        return self._drain()

    def accept(self, data: bytes) -> None:
        self.hear(data)
        assert self.store() == ACK

    def reopen(self) -> None:
        self.waiting.clear()
        self.link.start(self._instant())

    def _instant(self) -> Instant:
        return Instant(monotonic=self.now)

    def _drain(self) -> bytes:
        self.waiting += self.link.observations()
        return self.link.to_send()


def test_a_message_becomes_an_observation_with_everything_it_said() -> None:
    bench = Bench()
    bench.accept(PANIC)
    (event,) = bench.book.stored
    assert (event.point, event.kind, event.subkind) == ("r1/1234/005", "alarm", "panic")
    assert event.address == {
        "receiver": "01",
        "line": "1",
        "account": "1234",
        "partition": "01",
        "zone": "005",
    }
    assert event.native is not None
    assert (event.native.scheme, event.native.code, event.native.text) == (
        "contact-id",
        "1120",
        "Panic",
    )
    assert event.native.fields == {
        "format": "sur-gard-mlr2",
        "message_type": "18",
        "group": "01",
    }
    assert (event.source, event.raw, event.flags) == ("r1", PANIC, ())


def test_configured_points_are_found_by_account_zone_and_partition() -> None:
    points = (
        ReceiverPoint(id="any", account="1234", zone="005"),
        ReceiverPoint(id="second", account="1234", zone="005", partition="02"),
        ReceiverPoint(id="janitor", account="1234", zone="005", address="user"),
    )
    bench = Bench(point=points)
    bench.accept(PANIC)
    bench.accept(PANIC.replace(b"01005", b"02005"))
    bench.accept(PANIC.replace(b"E120", b"R401"))
    bench.accept(PANIC.replace(b"1234", b"12BF"))
    assert [event.point for event in bench.book.stored] == [
        "any",
        "second",
        "janitor",
        "r1/12bf/005",
    ]
    assert bench.book.stored[2].qualifier == Qualifier.NEW  # R401: closed, armed


def test_nothing_is_acknowledged_before_it_is_stored() -> None:
    bench = Bench()
    assert bench.hear(PANIC) == b""
    assert bench.wait(3.999) == b""
    assert bench.store() == ACK


def test_four_seconds_are_in_time_and_not_a_moment_more() -> None:
    bench = Bench()
    bench.hear(PANIC)
    bench.now += 4.0
    assert bench.store() == ACK
    late = Bench()
    late.hear(PANIC)
    late.now += 4.000001
    assert late.store() == b""
    assert late.wait(100) == b""
    assert len(late.book.stored) == 1


def test_a_message_that_cannot_be_stored_is_met_with_silence_and_its_repeat_is_new() -> None:
    bench = Bench()
    bench.hear(PANIC)
    assert bench.refuse(1) == b""
    assert bench.wait(4) == b""
    bench.hear(PANIC)
    assert bench.store() == ACK
    assert [event.flags for event in bench.book.stored] == [()]


def test_a_dropped_message_does_not_lend_its_place_to_the_next_one() -> None:
    bench = Bench()
    bench.hear(PANIC)
    bench.wait(4)
    bench.hear(FIRE)
    bench.refuse(1)
    assert bench.store(1) == ACK
    assert [event.subkind for event in bench.book.stored] == ["fire"]


def test_an_answer_never_follows_one_that_was_withheld_while_that_is_still_awaited() -> None:
    bench = Bench()
    bench.hear(PANIC)
    bench.hear(FIRE)
    assert bench.refuse(1) == b""
    assert bench.store() == b""  # the receiver would take it for the panic
    assert bench.hear(HEARTBEAT) == b""
    assert bench.wait(4) == b""
    assert bench.hear(HEARTBEAT) == ACK


def test_a_receiver_that_asks_again_sooner_than_expected_is_answered_at_once() -> None:
    bench = Bench()
    bench.hear(PANIC)
    bench.refuse(1)
    bench.wait(2)
    bench.hear(PANIC)
    assert bench.store() == ACK


def test_answers_come_in_order_and_a_heartbeat_does_not_overtake() -> None:
    bench = Bench()
    bench.hear(PANIC)
    assert bench.hear(HEARTBEAT) == b""
    bench.hear(FIRE)
    assert bench.store(1) == ACK + ACK
    assert bench.store(1) == ACK


@pytest.mark.parametrize("seconds", [0.0, 4.0, 14.999, 15.0])
def test_the_next_identical_message_within_the_window_is_acknowledged_and_not_stored(
    seconds: float,
) -> None:
    bench = Bench()
    bench.accept(PANIC)
    bench.wait(seconds)
    assert bench.hear(PANIC) == ACK
    assert bench.waiting == []
    assert bench.link.totals()["repeats"] == 1


@pytest.mark.parametrize(
    ("seconds", "flags"),
    [(15.001, ("possible_repeat",)), (DOUBT_S, ("possible_repeat",)), (DOUBT_S + 0.001, ())],
)
def test_after_the_window_it_is_stored_again_and_says_so_while_there_is_doubt(
    seconds: float, flags: tuple[str, ...]
) -> None:
    bench = Bench()
    bench.accept(PANIC)
    bench.wait(seconds)
    bench.accept(PANIC)
    assert [event.flags for event in bench.book.stored] == [(), flags]


def test_the_window_is_not_extended_by_repeats() -> None:
    bench = Bench()
    bench.accept(PANIC)
    bench.wait(10)
    assert bench.hear(PANIC) == ACK
    bench.wait(10)
    bench.accept(PANIC)
    assert len(bench.book.stored) == 2


def test_any_other_message_between_makes_it_new() -> None:
    bench = Bench()
    for message in (PANIC, FIRE, PANIC):
        bench.accept(message)
    assert [event.flags for event in bench.book.stored] == [(), (), ()]


@pytest.mark.parametrize("between", [HEARTBEAT, b"\xff\xff\x14", b"zz\x14", b"5011 18123"])
def test_a_heartbeat_or_a_broken_frame_between_is_doubt(between: bytes) -> None:
    bench = Bench()
    bench.accept(PANIC)
    bench.hear(between)
    bench.wait(5)
    bench.accept(PANIC)
    assert [event.flags for event in bench.book.stored] == [(), ("possible_repeat",)]


def test_a_message_never_acknowledged_is_a_repeat_however_late_and_whatever_came_between() -> None:
    bench = Bench()
    bench.hear(PANIC)
    bench.wait(10)
    assert bench.store() == b""  # late
    bench.hear(HEARTBEAT)
    bench.wait(500)
    assert bench.hear(PANIC) == ACK
    assert bench.waiting == []
    assert len(bench.book.stored) == 1


def test_repeats_of_a_message_that_waits_for_the_disk_are_one_message() -> None:
    bench = Bench()
    bench.hear(PANIC)
    for _ in range(5):
        assert bench.wait(4) == b""
        assert bench.hear(PANIC) == b""
    assert len(bench.waiting) == 1
    bench.wait(3)
    assert bench.store() == ACK  # within the time of the newest copy, and once


def test_a_repeat_that_crossed_a_late_acknowledgement_is_not_answered_twice() -> None:
    bench = Bench()
    bench.hear(PANIC)
    bench.wait(3.95)
    assert bench.store() == ACK
    bench.wait(0.06)
    assert bench.hear(PANIC) == b""
    bench.wait(4)
    assert bench.hear(PANIC) == ACK


def test_after_a_restart_the_last_stored_message_is_recognised() -> None:
    bench = Bench()
    bench.hear(PANIC)
    bench.store()
    again = Bench(bench.book)
    again.wait(20)
    assert again.hear(PANIC) == ACK
    assert again.waiting == []
    assert again.hear(PANIC) == ACK
    again.accept(FIRE)
    again.accept(PANIC)
    assert [event.flags for event in bench.book.stored] == [(), (), ()]


def test_after_a_restart_the_window_counts_from_the_first_byte() -> None:
    book = Book()
    Bench(book).accept(PANIC)
    again = Bench(book)
    again.wait(20)
    again.hear(b"\x00")
    again.wait(15.001)
    again.accept(PANIC)
    assert [event.flags for event in book.stored] == [(), ("possible_repeat",)]


def test_long_after_a_restart_an_identical_message_is_doubt() -> None:
    book = Book()
    Bench(book).accept(PANIC)
    again = Bench(book)
    again.wait(RESTART_S + 0.001)
    again.accept(PANIC)
    assert [event.flags for event in book.stored] == [(), ("possible_repeat",)]


def test_a_heartbeat_before_it_after_a_restart_is_doubt_but_the_broken_first_line_is_not() -> None:
    book = Book()
    Bench(book).accept(PANIC)
    tail_first = Bench(book)
    tail_first.hear(PANIC[7:])
    assert tail_first.hear(PANIC) == ACK
    glued = Bench(book)
    assert glued.hear(PANIC[7:-1] + PANIC) == ACK
    after_heartbeat = Bench(book)
    after_heartbeat.hear(HEARTBEAT)
    after_heartbeat.accept(PANIC)
    assert [event.flags for event in book.stored] == [(), ("possible_repeat",)]


def test_a_message_whose_storing_is_unknown_is_doubt() -> None:
    bench = Bench()
    bench.hear(PANIC)
    bench.reopen()
    bench.accept(PANIC)
    assert bench.book.stored[0].flags == ("possible_repeat",)


def test_what_was_not_drained_before_the_line_was_lost_is_still_reported() -> None:
    bench = Bench()
    bench.link.receive(PANIC, Instant(monotonic=bench.now))
    bench.link.start(Instant(monotonic=bench.now))
    assert bench.hear(PANIC) == b""
    assert len(bench.waiting) == 1
    assert bench.store() == ACK


def test_a_doubt_outlives_a_disk_that_refused_it() -> None:
    bench = Bench()
    bench.accept(PANIC)
    bench.wait(20)
    bench.hear(PANIC)
    bench.refuse(1)
    bench.wait(4)
    bench.accept(PANIC)
    assert [event.flags for event in bench.book.stored] == [(), ("possible_repeat",)]


def test_an_unreadable_message_is_acknowledged_and_kept_after_its_third_repeat() -> None:
    bench = Bench()
    odd = b"5011 181234Q12001005\x14"
    for _ in range(3):
        assert bench.hear(odd) == b""
        assert bench.waiting == []
        bench.wait(4)
    assert bench.hear(odd) == b""
    assert bench.store() == ACK
    (event,) = bench.book.stored
    assert (event.point, event.kind, event.subkind) == ("r1", "information", "unknown")
    assert (event.raw, event.flags) == (odd, ("unreadable",))
    assert event.text == odd[:-1].decode()
    bench.wait(4)
    assert bench.hear(odd) == ACK  # our acknowledgement was lost: it is known by now
    assert bench.waiting == []


def test_a_message_that_was_only_damaged_on_the_way_is_never_kept_as_unreadable() -> None:
    bench = Bench()
    for place in (6, 8, 10):
        damaged = bytearray(PANIC)
        damaged[place] = 0x7F
        assert bench.hear(bytes(damaged)) == b""
    bench.accept(PANIC)
    assert [event.subkind for event in bench.book.stored] == ["panic"]


def test_what_the_receiver_says_of_itself_stands_at_its_own_point() -> None:
    bench = Bench()
    bench.accept(b"0011 AC FAIL\x14")
    (event,) = bench.book.stored
    assert (event.point, event.kind, event.text) == ("r1", "status", "0011 AC FAIL")
    bench.accept(b"S011[#1234|NBA01]\x14")
    assert bench.book.stored[1].kind == "information"


@pytest.mark.parametrize(
    ("tag", "heartbeat", "answer"),
    [
        ("mlr2", HEARTBEAT, b"\x06"),
        ("system3", b"101000           @    \x14", b"\x06"),
        ("685", b"\n11 OKAY @ \r", b"\r"),
    ],
)
def test_a_link_test_is_answered_at_once(tag: str, heartbeat: bytes, answer: bytes) -> None:
    assert Bench(format=tag).hear(heartbeat) == answer


def test_silence_is_a_fault_after_exactly_its_time_and_ends_with_a_checked_message() -> None:
    bench = Bench(silence_s=90)
    bench.wait(60)
    bench.hear(HEARTBEAT)
    bench.wait(89.999)
    assert bench.waiting == []
    bench.wait(0.001)
    (fault,) = bench.waiting
    assert (fault.point, fault.kind, fault.subkind, fault.qualifier) == (
        "r1",
        Kind.FAULT,
        Subkind.COMMUNICATION,
        Qualifier.NEW,
    )
    assert bench.store() == b""
    bench.hear(b"noise\x14")
    bench.wait(1000)
    assert bench.waiting == []
    assert bench.hear(PANIC) == b""
    assert [one.qualifier for one in bench.waiting] == [Qualifier.RESTORE, Qualifier.NEW]
    assert bench.store(1) == b""
    assert bench.store(1) == ACK


def test_a_silence_known_from_before_the_restart_ends_with_the_first_message() -> None:
    bench = Bench(silence_s=90)
    bench.wait(90)
    bench.store()
    again = Bench(bench.book, silence_s=90)
    again.hear(HEARTBEAT)
    assert [one.qualifier for one in again.waiting] == [Qualifier.RESTORE]


def test_a_fault_that_could_not_be_stored_is_reported_again() -> None:
    bench = Bench(silence_s=90)
    bench.wait(90)
    for _ in range(3):
        assert len(bench.waiting) == 1
        bench.refuse(1)
        bench.wait(10)
    bench.store()
    bench.wait(1000)
    assert len(bench.book.stored) == 1
    assert bench.link.silent


def test_a_flood_while_the_disk_hangs_stays_bounded_and_unacknowledged() -> None:
    bench = Bench()
    for number in range(1000):
        bench.hear(b"5011 181234E1200%04d\x14" % number)
        bench.hear(HEARTBEAT)
    assert len(bench.waiting) == WAITING_MAX
    assert bench.sent == b""
    assert len(bench.store()) <= ANSWERS_MAX
    bench.wait(4)
    bench.accept(b"5011 181234E12000999\x14")


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([PANIC, FIRE, HEARTBEAT]))))
def test_any_bytes_in_any_order_raise_nothing_and_acknowledge_nothing_unstored(
    pieces: list[bytes],
) -> None:
    bench = Bench(strip_parity=True)
    answered = b""
    heartbeats = 0
    for piece in pieces:
        answered += bench.hear(piece)
        heartbeats = bench.link.totals()["heartbeats"]
        assert len(answered) <= heartbeats
        bench.wait(1)
