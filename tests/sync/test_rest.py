"""Few gateways never wait; many wait longer the more they are, and never for more than a second."""

from hypothesis import given
from hypothesis import strategies as st

from sync.rest import RATE_FREE, REST_MAX_S, Rest


def waits(rate: float, seconds: float = 8.0) -> float:
    """Return how long a gateway waits at most where small batches come at a steady rate."""
    rest = Rest()
    return max([rest.after(n / rate) for n in range(round(rate * seconds))][-50:])


def crowd(gateways: int, seconds: float = 20.0) -> float:
    """Return the small batches a second when each gateway always has something new."""
    rest, count = Rest(), 0
    asked = [n / gateways * 0.1 for n in range(gateways)]
    while min(asked) < seconds:
        n = min(range(gateways), key=asked.__getitem__)
        now = asked[n]
        count += now >= seconds / 2
        asked[n] = now + 0.02 + rest.after(now)
    return count / (seconds / 2)


def test_few_small_batches_wait_for_nothing() -> None:
    assert waits(RATE_FREE * 0.9) == 0.0


def test_the_wait_grows_with_the_rate_up_to_its_bound() -> None:
    found = [waits(rate) for rate in (150, 300, 500, 800, 3000)]
    assert found == sorted(found)
    assert 0.0 < found[0] < found[1]
    assert 0.97 * REST_MAX_S < found[-1] <= REST_MAX_S


def test_it_is_over_seconds_after_the_crowd() -> None:
    rest = Rest()
    for n in range(5000):
        rest.after(n / 1000)
    assert rest.after(5.0) >= REST_MAX_S / 2
    assert rest.after(8.0) == 0.0


def test_a_hundred_busy_gateways_settle_far_below_what_they_would_send() -> None:
    assert 200 < crowd(100) < 400  # 5,000 without a rest


def test_who_was_asked_together_is_spread_over_the_round() -> None:
    rest = Rest()
    for _ in range(1000):
        rest.after(1.0)
    asked = [rest.after(1.0) for _ in range(1000)]
    for tenth in range(10):
        begin = REST_MAX_S * (0.5 + tenth * 0.05)
        assert 80 < sum(begin <= each < begin + REST_MAX_S * 0.05 for each in asked) < 120


@given(st.lists(st.floats(-10.0, 10.0)))
def test_no_clock_makes_it_leave_its_bounds(steps: list[float]) -> None:
    rest, now = Rest(), 100.0
    for step in steps:
        now += step
        assert 0.0 <= rest.after(now) <= REST_MAX_S
