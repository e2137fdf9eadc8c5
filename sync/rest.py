"""How long a gateway is left alone after a small batch, so that its next one carries more.

A batch of one event costs the station about as much as one of ten. From few gateways each event is
fetched at once; when many send small batches at one time, the main lane of each waits a little.
"""

import math
from dataclasses import dataclass

REST_MAX_S = 1.0
SMALL_BYTES = 4 * 1024  # some twenty events: more of them would hardly make an event cheaper
RATE_FREE = 100.0  # small batches a second, of all gateways, for which nobody waits
RATE_FULL = 600.0  # from here on everybody waits for the longest

_SPAN_S = 0.5  # over which they are counted
_TURN = 0.618  # of a round further for each: who was asked together is spread over it


@dataclass(slots=True)
class Rest:
    """Shared by all connections of a station. Times are monotonic seconds.

    rate: small batches a second when the newest one came. Each rests for between half of what that
    rate asks for and the whole: gateways that came back together would all be asked together again.
    """

    rate: float = 0.0
    _counted_at: float = 0.0
    _turn: float = 0.0

    def after(self, now: float) -> float:
        """Count a small batch; return for how many seconds its gateway is not asked again."""
        elapsed = max(0.0, now - self._counted_at)
        self.rate = self.rate * math.exp(-elapsed / _SPAN_S) + 1 / _SPAN_S
        self._counted_at = now
        share = (self.rate - RATE_FREE) / (RATE_FULL - RATE_FREE)
        self._turn = (self._turn + _TURN) % 1.0
        return REST_MAX_S * min(1.0, max(0.0, share)) * (1.0 + self._turn) / 2
