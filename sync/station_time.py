"""What a station's clock says, as a gateway can learn it from the answer to a hello."""

from dataclasses import dataclass

from events.model import ClockQuality, Instant, Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class StationTime:
    """A station's wall time less our monotonic time.

    error_s: at most so much of it is the travel of the messages.
    """

    offset_s: float
    error_s: float


class Question:
    """Ties the station's stamp in an answer to the middle of the round trip.

    An answer may be to any hello that was said since the one before: the oldest of them bounds
    the error.
    """

    def __init__(self) -> None:
        self._asked: float | None = None
        self._told: StationTime | None = None

    def forget(self) -> None:
        """Begin on a fresh connection."""
        self._asked = self._told = None

    def ask(self, now: Instant) -> None:
        if self._asked is None:
            self._asked = now.monotonic

    def answer(self, stamp: Stamp, now: Instant) -> None:
        asked, self._asked = self._asked, None
        if asked is None or stamp.wall_us is None or stamp.clock == ClockQuality.UNSET:
            return  # a station that does not know the time tells none
        self._told = StationTime(
            offset_s=stamp.wall_us / 1_000_000 - (asked + now.monotonic) / 2,
            error_s=(now.monotonic - asked) / 2,
        )

    def take(self) -> StationTime | None:
        """Drain what the newest answer told, None if it told nothing."""
        told, self._told = self._told, None
        return told
