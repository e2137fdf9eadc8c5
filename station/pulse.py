"""When the station itself stood still: stopped, frozen, starved of its processor."""

import asyncio

PERIOD_S = 0.25
LATE_S = 1.0  # a loop that is so late could hear nobody meanwhile


class Pulse:
    """Beats on the running loop and counts the time in which it did not. `close` it after use."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._slept_s = 0.0
        self._beat_at = self._loop.time()
        self._timer = self._loop.call_later(PERIOD_S, self._beat)

    def slept_s(self) -> float:
        """Return for how long the loop stood still since the last call.

        Right also when this is the first thing that runs after a stop.
        """
        self._measure()
        slept_s, self._slept_s = self._slept_s, 0.0
        return slept_s

    def close(self) -> None:
        self._timer.cancel()

    def _beat(self) -> None:
        self._measure()
        self._timer = self._loop.call_later(PERIOD_S, self._beat)

    def _measure(self) -> None:
        now = self._loop.time()
        late_s = now - self._beat_at - PERIOD_S
        if late_s >= LATE_S:
            self._slept_s += late_s
        self._beat_at = now
