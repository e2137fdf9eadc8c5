"""Saying a thing once, and then how often: repeated notices become one event with a count."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

QUIET_S = 60.0
SUBJECTS_MAX = 1000  # strangers make up keys without end: the longest quiet one is dropped


@dataclass(slots=True)
class _Subject:
    said_at: float
    held_back: int = 0


class Limiter(Generic[K]):
    """Lets the first notice of a subject through at once, then one a minute with their number."""

    def __init__(self, *, quiet_s: float = QUIET_S) -> None:
        self._quiet_s = quiet_s
        self._subjects: OrderedDict[K, _Subject] = OrderedDict()
        self.dropped = 0

    def admit(self, subject: K, now: float, *, count: int = 1) -> int:
        """Return how many notices to speak of now; 0: none yet, they are counted."""
        known = self._subjects.get(subject)
        if known is not None and now < known.said_at + self._quiet_s:
            known.held_back += count
            return 0
        spoken = count + (known.held_back if known is not None else 0)
        self._subjects[subject] = _Subject(said_at=now)
        self._subjects.move_to_end(subject)
        if len(self._subjects) > SUBJECTS_MAX:
            _, dropped = self._subjects.popitem(last=False)
            self.dropped += dropped.held_back
        return spoken

    def __len__(self) -> int:
        return len(self._subjects)

    def __contains__(self, subject: K) -> bool:
        return subject in self._subjects

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
