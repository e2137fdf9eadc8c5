"""How far each station holds a log."""

from collections.abc import Mapping
from typing import Final

from events.replication import Lane

STATIONS_MAX: Final = 64


class StationMarks:
    """The newest claim of each station, per lane.

    A claim may go backwards: a station that was restored from an old backup holds less than it
    once did, and what it lacks must not be trimmed. A late claim only holds back more, until the
    next one.
    """

    def __init__(self, required: frozenset[str]) -> None:
        self._required = required
        self._marks: dict[tuple[str, Lane], int] = {}

    def load(self, marks: Mapping[tuple[str, Lane], int]) -> None:
        self._marks = dict(marks)

    def claim(self, station: str, lane: Lane, stored: int) -> bool:
        """Take a claim; tell whether it changes anything."""
        key = (station, lane)
        if self._marks.get(key) == stored or (
            key not in self._marks and len(self._marks) >= STATIONS_MAX * len(Lane)
        ):
            return False
        self._marks[key] = stored
        return True

    def all(self) -> dict[tuple[str, Lane], int]:
        return dict(self._marks)

    def of(self, station: str, lane: Lane) -> int:
        return self._marks.get((station, lane), 0)

    def by_all(self, lane: Lane) -> int:
        """Return up to where every required station holds the lane.

        Where none is required it is the station that holds most: what nobody has is not trimmed.
        """
        if not self._required:
            return self.by_any(lane)
        return min(self.of(station, lane) for station in self._required)

    def by_any(self, lane: Lane) -> int:
        """Return up to where at least one required station (or any, if none is) holds the lane."""
        stations = self._required or {station for station, _ in self._marks}
        return max((self.of(station, lane) for station in stations), default=0)

    def holds_for_any(self, seq: int, *, urgent: bool) -> bool:
        """Tell whether at least one required station holds an event."""
        return seq <= self.by_any(Lane.MAIN) or (urgent and seq <= self.by_any(Lane.URGENT))

    def holds_for_all(self, seq: int, *, urgent: bool) -> bool:
        """Tell whether every required station holds an event."""
        stations = self._required
        if not stations:
            return self.holds_for_any(seq, urgent=urgent)
        return all(
            seq <= self.of(station, Lane.MAIN) or (urgent and seq <= self.of(station, Lane.URGENT))
            for station in stations
        )
