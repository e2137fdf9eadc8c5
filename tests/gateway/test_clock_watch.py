import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.model import ClockQuality, Instant, Stamp
from gateway.clock_watch import STEP_S, ClockWatch

UNSET, FREE, SYNCHRONISED = ClockQuality.UNSET, ClockQuality.FREE, ClockQuality.SYNCHRONISED
WALL_S = 1_790_000_000.0
DAY_S = 86_400.0


def at(monotonic: float, clock: ClockQuality = FREE, *, ahead_s: float = 0.0) -> Instant:
    wall = None if clock is UNSET else WALL_S + monotonic + ahead_s
    return Instant(monotonic=monotonic, wall=wall, clock=clock)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (at(1, UNSET), at(2, FREE), "the clock was set"),
        (at(1, UNSET), at(2, SYNCHRONISED), "the clock was set and is steered"),
        (at(1, FREE), at(2, SYNCHRONISED), "the clock is steered"),
        (at(1, SYNCHRONISED), at(2, FREE), "nobody steers the clock now"),
        (at(1), at(2, ahead_s=DAY_S), "the clock was set forward by 86400.000 s"),
        (at(1), at(2, SYNCHRONISED, ahead_s=-1.5), "the clock was set back by 1.500 s and is steered"),
        (at(1), at(2, UNSET), "the clock is not set any more"),
    ],
)  # fmt: skip
def test_each_change_is_told_once(before: Instant, after: Instant, words: str) -> None:
    watch = ClockWatch(before, None)
    assert watch.look(before) is None
    assert watch.look(after) is None  # a first look may have been held up
    change = watch.look(after)
    assert change is not None
    assert change == watch.look(after)  # until it is told
    watch.tell(change)
    assert watch.look(after) is None
    seen = change.observation("gateway")
    assert (seen.kind, seen.subkind, seen.point, seen.text) == (
        "information", "clock", "gateway", words,
    )  # fmt: skip
    offsets = (seen.details.get("offset_before_us"), seen.details.get("offset_us"))
    assert offsets == tuple(
        None if now.wall is None else round((now.wall - now.monotonic) * 1e6)
        for now in (before, after)
    )


@given(st.lists(st.floats(-STEP_S / 2.1, STEP_S / 2.1), max_size=20))
def test_a_clock_that_is_read_unevenly_was_not_set(jitter_s: list[float]) -> None:
    watch = ClockWatch(at(0), None)
    looks = [watch.look(at(n + 1.0, ahead_s=ahead_s)) for n, ahead_s in enumerate(jitter_s)]
    assert looks == [None] * len(jitter_s)


def test_a_hold_up_between_two_readings_is_no_step() -> None:
    watch = ClockWatch(at(0), None)
    assert [watch.look(at(n, ahead_s=5.0 if n == 3 else 0.0)) for n in range(1, 8)] == [None] * 7


def test_a_station_s_word_is_not_the_clock_of_the_machine() -> None:
    watch = ClockWatch(Instant(monotonic=1.0), None)
    for second in range(2, 5):
        assert watch.look(Instant(monotonic=second, wall=WALL_S + second)) is None


def test_what_changed_while_the_program_was_down_is_told() -> None:
    last = Stamp(monotonic_us=50_000_000, boot_id="b")
    watch = ClockWatch(at(60, SYNCHRONISED), last)
    assert watch.look(at(61, SYNCHRONISED)) is None
    change = watch.look(at(62, SYNCHRONISED))
    assert change is not None
    assert (change.before.clock, change.after.clock) == (UNSET, SYNCHRONISED)
