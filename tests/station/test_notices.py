from hypothesis import given
from hypothesis import strategies as st

from station.notices import SUBJECTS_MAX, Limiter


@given(st.lists(st.tuples(st.floats(0, 40), st.sampled_from("abc"), st.integers(1, 5))))
def test_every_notice_is_spoken_of_exactly_once(notices: list[tuple[float, str, int]]) -> None:
    limiter: Limiter[str] = Limiter(quiet_s=60.0)
    now, given_, spoken = 0.0, 0, 0
    for wait, subject, count in notices:
        now += wait
        spoken += sum(number for _, number in limiter.due(now))
        spoken += limiter.admit(subject, now, count=count)
        given_ += count
    spoken += sum(number for _, number in limiter.due(now + 60.0))
    assert spoken == given_


def test_the_first_is_spoken_of_at_once_and_the_next_after_a_minute() -> None:
    limiter: Limiter[str] = Limiter()
    assert limiter.admit("a", 0.0) == 1
    assert limiter.admit("a", 1.0) == 0
    assert limiter.admit("b", 1.0) == 1
    assert limiter.due(59.9) == []
    assert limiter.due(60.0) == [("a", 1)]
    assert limiter.admit("a", 119.9) == 0
    assert limiter.admit("a", 120.0) == 2


def test_strangers_without_end_take_no_memory_without_end() -> None:
    limiter: Limiter[int] = Limiter()
    for stranger in range(10 * SUBJECTS_MAX):
        limiter.admit(stranger, 0.0)
        limiter.admit(stranger, 0.0)
    assert len(limiter._subjects) == SUBJECTS_MAX
    assert limiter.dropped == 9 * SUBJECTS_MAX
