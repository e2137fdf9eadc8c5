"""How much to ask for at once: sized by what link and ledger were measured to take.

A batch should take at most `LINK_S` on the link, so that an alarm that shares the link waits no
longer, and at most `COMMIT_S` to commit, for the same reason. What is in flight covers one round
trip and no more.
"""

from dataclasses import dataclass

LINK_S = 0.2
COMMIT_S = 0.02
LIMIT_BYTES_MIN = 4 * 1024
# About a thousand events: some milliseconds of either loop and ten of a commit. Twice as much was not
# faster on a loopback, and an alarm waited longer.
LIMIT_BYTES_MAX = 128 * 1024
# A commit that is slow for its one flush to the medium does not get faster by carrying less.
COMMIT_LIMIT_BYTES_MIN = 64 * 1024
FLIGHT_BYTES_MAX = 2 * 1024 * 1024
WINDOW_MAX = 14  # for long round trips; the gateway keeps 16 open at most

_SPAN_MIN_S = 1e-4
_RECENT = 0.3  # weight of the newest measurement


@dataclass(slots=True)
class Pace:
    """Sizes for one connection and lane. Bytes are counted as `limit_bytes` counts them."""

    link_limit: int = LIMIT_BYTES_MIN
    commit_limit: int = LIMIT_BYTES_MAX
    round_trip_s: float = 0.0
    rate: float = 0.0  # bytes a second on the link
    _answered_at: float = 0.0
    _measured: bool = False

    @property
    def limit_bytes(self) -> int:
        return min(self.link_limit, self.commit_limit)

    @property
    def window(self) -> int:
        """How many fetches may be open while there is a backlog."""
        if not self.rate:
            return 2
        limit = self.limit_bytes
        needed = 1 + round(self.rate * (self.round_trip_s + LINK_S) / limit)
        return max(2, min(needed, WINDOW_MAX, FLIGHT_BYTES_MAX // limit))

    def answered(self, size: int, asked_at: float, now: float, *, more: bool) -> None:
        """Learn from an answer that the gateway gave at once; `more`: it has more to give."""
        elapsed = now - asked_at
        if not self._measured:  # how much of it was the link and how much the batch, none can tell
            self.round_trip_s, self._answered_at, self._measured = elapsed, now, True
            return
        self.round_trip_s = min(self.round_trip_s, elapsed)
        # While several are open the link is busy without a pause: the time since the answer before.
        span = max(_SPAN_MIN_S, now - max(self._answered_at, asked_at + self.round_trip_s))
        self._answered_at = now
        if not more:
            return
        rate = size / span
        self.rate = rate if not self.rate else self.rate + _RECENT * (rate - self.rate)
        if span > LINK_S:
            self.link_limit = max(LIMIT_BYTES_MIN, self.link_limit // 2)
        elif span < LINK_S / 2:
            # Twice what was measured, not twice what was asked: answers to older, smaller fetches
            # are still under way.
            self.link_limit = min(LIMIT_BYTES_MAX, max(self.link_limit, size * 2))

    def committed(self, size: int, took_s: float) -> None:
        """Learn from a batch that was checked and committed."""
        if took_s > COMMIT_S and size > COMMIT_LIMIT_BYTES_MIN:
            shrunk = round(size * max(0.5, COMMIT_S / took_s))
            self.commit_limit = max(COMMIT_LIMIT_BYTES_MIN, min(self.commit_limit, shrunk))
        elif took_s < COMMIT_S / 2 and size >= self.commit_limit // 2:
            self.commit_limit = min(LIMIT_BYTES_MAX, self.commit_limit * 2)
