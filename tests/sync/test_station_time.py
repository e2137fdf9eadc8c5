from hypothesis import given
from hypothesis import strategies as st

from events.model import ClockQuality, Instant, Stamp
from sync.station_time import Question, StationTime

WALL_S = 1_790_000_000.0


def stamp(wall_s: float | None, clock: ClockQuality = ClockQuality.FREE) -> Stamp:
    wall_us = None if wall_s is None else round(wall_s * 1_000_000)
    return Stamp(monotonic_us=1, boot_id="station", wall_us=wall_us, clock=clock)


@given(st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.floats(0.0, 3.0))
def test_the_error_is_never_more_than_it_says(
    there_s: float, back_s: float, late_s: float
) -> None:
    """Whichever of several hellos the answer is to."""
    question = Question()
    question.ask(Instant(monotonic=10.0))
    question.ask(Instant(monotonic=10.0 + late_s))  # said again
    answered = 10.0 + there_s
    come = max(answered, 10.0 + late_s) + back_s
    question.answer(stamp(WALL_S + answered), Instant(monotonic=come))
    told = question.take()
    assert told is not None
    assert abs(told.offset_s - WALL_S) <= told.error_s + 1e-5
    assert question.take() is None


def test_a_station_without_the_time_tells_none() -> None:
    question = Question()
    now = Instant(monotonic=10.0)
    for said in (stamp(None, ClockQuality.UNSET), stamp(WALL_S, ClockQuality.UNSET), stamp(None)):
        question.ask(now)
        question.answer(said, now)
        assert question.take() is None


def test_an_answer_that_nobody_asked_for_tells_nothing() -> None:
    question = Question()
    question.answer(stamp(WALL_S), Instant(monotonic=10.0))
    assert question.take() is None
    question.ask(Instant(monotonic=10.0))
    question.answer(stamp(WALL_S + 11.0), Instant(monotonic=12.0))
    question.answer(stamp(WALL_S + 99.0), Instant(monotonic=12.0))
    assert question.take() == StationTime(offset_s=WALL_S, error_s=1.0)
    question.ask(Instant(monotonic=20.0))
    question.forget()
    question.answer(stamp(WALL_S), Instant(monotonic=21.0))
    assert question.take() is None
