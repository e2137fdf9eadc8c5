"""Sizes follow measured time: small on a slow link, large on a fast one, never out of bounds."""

from hypothesis import given
from hypothesis import strategies as st

from sync.pace import (
    COMMIT_LIMIT_BYTES_MIN,
    FLIGHT_BYTES_MAX,
    LIMIT_BYTES_MAX,
    LIMIT_BYTES_MIN,
    WINDOW_MAX,
    Pace,
)


def drain(rate: float, round_trip_s: float, batches: int = 60) -> Pace:
    """Fetch over a link of `rate` bytes a second, with as many open as the pace asks for."""
    pace, now, free = Pace(), 0.0, 0.0
    opens: list[tuple[int, float, float]] = []
    for _ in range(batches):
        while len(opens) < pace.window:
            free = max(free, now + round_trip_s / 2) + pace.limit_bytes / rate
            opens.append((pace.limit_bytes, now, free + round_trip_s / 2))
        size, asked, arrives = opens.pop(0)
        now = max(now, arrives)
        pace.answered(size, asked, now, more=True)
        pace.committed(size, 0.001)
    return pace


def test_the_first_fetch_is_small() -> None:
    assert Pace().limit_bytes == LIMIT_BYTES_MIN


def test_a_fast_link_gets_large_batches() -> None:
    assert drain(100e6, 0.0005).limit_bytes == LIMIT_BYTES_MAX


def test_a_batch_takes_a_fifth_of_a_second_at_most_on_a_slow_link() -> None:
    pace = drain(32_000, 0.05)
    assert pace.limit_bytes / 32_000 <= 0.25
    assert pace.window * pace.limit_bytes / 32_000 <= 1.0  # what an alarm may have to wait for


def test_the_first_answers_over_a_slow_link_are_not_taken_for_a_fast_one() -> None:
    for batches in range(1, 10):
        pace = drain(32_000, 0.05, batches)
        assert pace.window * pace.limit_bytes / 32_000 <= 1.0


def test_a_long_round_trip_does_not_throttle() -> None:
    pace = drain(10e6, 0.2)
    assert pace.window * pace.limit_bytes / 0.2 >= 5e6


def test_slow_commits_make_batches_smaller_but_not_for_the_flush_alone() -> None:
    pace = drain(100e6, 0.0005)
    for _ in range(20):
        pace.committed(pace.limit_bytes, 0.5)
    assert pace.limit_bytes == COMMIT_LIMIT_BYTES_MIN
    for _ in range(20):
        pace.committed(pace.limit_bytes, 0.001)
    assert pace.limit_bytes == LIMIT_BYTES_MAX
    pace.committed(100, 0.5)
    assert pace.limit_bytes == LIMIT_BYTES_MAX


@given(
    st.lists(
        st.tuples(
            st.integers(0, LIMIT_BYTES_MAX * 2),
            st.floats(0, 100),
            st.floats(0, 10),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_nothing_measured_leads_out_of_bounds(steps: list[tuple[int, float, float, bool]]) -> None:
    pace, now = Pace(), 0.0
    for size, elapsed, took, more in steps:
        now += elapsed / 2
        pace.answered(size, now - elapsed, now, more=more)
        pace.committed(size, took)
        assert LIMIT_BYTES_MIN <= pace.limit_bytes <= LIMIT_BYTES_MAX
        assert 1 <= pace.window <= WINDOW_MAX
        assert pace.window * pace.limit_bytes <= FLIGHT_BYTES_MAX
