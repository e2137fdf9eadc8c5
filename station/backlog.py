"""Announcements that wait for the ledger: a bounded queue that says what did not fit in."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from events.kinds import Qualifier, Subkind
from station.announcements import Announcement

WAITING_MAX = 10_000
BATCH_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was taken out of a backlog: announcements, and how many older ones were dropped."""

    waited: tuple[Announcement, ...]
    dropped: int

    @property
    def announcements(self) -> list[Announcement]:
        """What is to be stored: the number of those that were dropped, and the end of that, first.

        The two are stored together: once they can be, nothing is dropped any more.
        """
        return [*(_dropped(self.dropped) if self.dropped else []), *self.waited]


class Backlog:
    """Announcements in the order in which they came. When it is full the oldest are dropped.

    How many were is an announcement itself, and goes out before those that came after them.
    """

    def __init__(self) -> None:
        self._waiting: deque[Announcement] = deque()
        self._dropped = 0

    def __len__(self) -> int:
        return len(self._waiting) + (1 if self._dropped else 0)

    def add(self, announcements: Iterable[Announcement]) -> None:
        """Put announcements behind those that wait."""
        for announcement in announcements:
            self._waiting.append(announcement)
            self._keep_bound()

    def take(self) -> Batch:
        """Take the oldest out. Whoever cannot store them gives them to `put_back`."""
        count = min(len(self._waiting), BATCH_MAX)
        waited = tuple(self._waiting.popleft() for _ in range(count))
        dropped, self._dropped = self._dropped, 0
        return Batch(waited=waited, dropped=dropped)

    def put_back(self, batch: Batch) -> None:
        """Put what was taken before everything that came since."""
        self._waiting.extendleft(reversed(batch.waited))
        self._dropped += batch.dropped
        self._keep_bound()

    def _keep_bound(self) -> None:
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popleft()
            self._dropped += 1


def _dropped(count: int) -> list[Announcement]:
    what = "an announcement" if count == 1 else f"{count} announcements"
    text = f"{what} of this station could not be stored and did not fit into memory"
    return [
        Announcement(
            gateway="", subkind=Subkind.STORE, qualifier=qualifier, text=told, count=count
        )
        for qualifier, told in (
            (Qualifier.NEW, text),
            (Qualifier.RESTORE, f"the ledger takes announcements again; {text}"),
        )
    ]
