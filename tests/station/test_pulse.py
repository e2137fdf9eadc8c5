import asyncio
import time

from station.pulse import LATE_S, PERIOD_S, Pulse


def test_time_in_which_the_loop_stood_still_is_counted_once() -> None:
    async def scenario() -> tuple[float, float, float]:
        pulse = Pulse()
        try:
            await asyncio.sleep(0.3)
            awake = pulse.slept_s()
            time.sleep(LATE_S + PERIOD_S + 0.3)  # noqa: ASYNC251 - the point of it
            at_once = pulse.slept_s()  # before the loop ran anything else
            await asyncio.sleep(0.6)
            return awake, at_once, pulse.slept_s()
        finally:
            pulse.close()

    awake, at_once, after = asyncio.run(scenario())
    assert awake == 0.0
    assert LATE_S <= at_once <= LATE_S + 10.0
    assert after == 0.0
