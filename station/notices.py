"""Saying a thing once, and then how often: repeated notices become one event with a count."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

QUIET_S = 60.0
NEVER = float("-inf")
SUBJECTS_MAX = 1000  # strangers make up keys without end: the longest quiet one is dropped


@dataclass(slots=True)
class _Subject:
    said_at: float
    held_back: int = 0


class Limiter(Generic[K]):
    """Lets the first notice of a subject through at once, then one a minute with their number.

    Use it from one thread. Where speaking can fail, `take` first, then say how it went: `said`, or
    `hold` with what was taken.
    """

    def __init__(self, *, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._subjects: OrderedDict[K, _Subject] = OrderedDict()
        self.dropped = 0

    def admit(self, subject: K, now: float, *, count: int = 1) -> int:
        """Return how many notices to speak of now; 0: none yet, they are counted."""
        taken = self.take(subject, now)
        if taken is None:
            self.hold(subject, count)
            return 0
        self.said(subject, now)
        return count + taken

    def take(self, subject: K, now: float) -> int | None:
        """Take out what was held back of a subject that may be spoken of now; None: not yet."""
        known = self._subjects.get(subject)
        if known is None:
            return 0
        if now < known.said_at + self._quiet_s:
            return None
        taken, known.held_back = known.held_back, 0
        return taken

    def said(self, subject: K, now: float) -> None:
        """Let the quiet time of a subject begin: it was spoken of."""
        known = self._subjects.setdefault(subject, _Subject(said_at=now))
        known.said_at = now
        self._subjects.move_to_end(subject)
        self._keep_bound()

    def hold(self, subject: K, count: int, *, unsaid: bool = False) -> None:
        """Count notices that were not spoken of.

        unsaid: what `due` returned could not be spoken of after all; it is due again at once.
        """
        if not count:
            return
        known = self._subjects.setdefault(subject, _Subject(said_at=NEVER))
        known.held_back += count
        if unsaid:
            known.said_at = NEVER
        self._keep_bound()

    def _keep_bound(self) -> None:
        if len(self._subjects) > SUBJECTS_MAX:
            _, dropped = self._subjects.popitem(last=False)
            self.dropped += dropped.held_back

    def __len__(self) -> int:
        return len(self._subjects)

    def __contains__(self, subject: K) -> bool:
        return subject in self._subjects

    def forget(self, subject: K) -> None:
        """Treat a subject as new from here on; what was held back of it is dropped."""
        self._subjects.pop(subject, None)

    def flush(self) -> list[tuple[K, int]]:
        """Return everything that is held back, and treat every subject as new from here on."""
        held_back = [(subject, each.held_back) for subject, each in self._subjects.items()]
        self._subjects.clear()
        return [(subject, count) for subject, count in held_back if count]

    def due(self, now: float) -> list[tuple[K, int]]:
        """Return subjects whose held-back notices are to be spoken of now, with their number."""
        over = [
            (subject, known)
            for subject, known in self._subjects.items()
            if now >= known.said_at + self._quiet_s
        ]
        spoken = []
        for subject, known in over:
            if known.held_back:
                spoken.append((subject, known.held_back))
                self._subjects[subject] = _Subject(said_at=now)
                self._subjects.move_to_end(subject)
            else:
                del self._subjects[subject]
        return spoken
