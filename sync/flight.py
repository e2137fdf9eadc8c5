"""What a station may have asked for at once, over all its connections.

Each fetch asks for no more than a share of what is still free. So one gateway alone is not
slowed, a thousand that come back together get less each, and none waits for another.
"""

from sync.pace import LIMIT_BYTES_MIN
from sync.rest import Rest

TOTAL_BYTES = 64 * 1024 * 1024
SHARE = 16  # of what is free, in one fetch
IDLE_BYTES = (
    16 * 1024
)  # asked for where nothing waits: as much as an event that comes then may need


class Flight:
    """Counts bytes of events that were asked for and are not committed yet.

    They stay below `total_bytes`, and `LIMIT_BYTES_MIN` more for each fetch that is open.
    rest: how long each is left alone while many send small batches.
    """

    def __init__(self, total_bytes: int = TOTAL_BYTES) -> None:
        self._total = total_bytes
        self.bytes = 0
        self.rest = Rest()
        self._fetches = 0

    def number(self) -> int:
        """Return the number of the next fetch.

        None is used twice while the station runs: a gateway whose key was refused and is enrolled
        again says hello on the connection that it has, and answers to the conversation before that
        may still be on their way.
        """
        self._fetches += 1
        return self._fetches

    def limit(self, wanted: int, *, behind: bool) -> int:
        """Return how many of the wanted bytes the next fetch may ask for."""
        share = max(LIMIT_BYTES_MIN, (self._total - self.bytes) // SHARE)
        return min(wanted, share if behind else min(share, IDLE_BYTES))
