"""A store's memory for tests: what was stored, in order, and what it remembers of it."""

from collections.abc import Sequence

from events.model import Observation, Record


class Book:
    """Holds observations like a store does, and answers like one after a restart."""

    def __init__(self) -> None:
        self.stored: list[Observation] = []

    def write(self, observations: Sequence[Observation]) -> None:
        self.stored += observations

    def latest(self, point: str, kind: str, subkind: str) -> Observation | None:
        for one in reversed(self.stored):
            if (one.point, one.kind, one.subkind) == (point, kind, subkind):
                return one
        return None

    def last_raw(self, source: str) -> bytes | None:
        for one in reversed(self.stored):
            if one.source == source and one.raw:
                return one.raw
        return None

    def last_record(self) -> Record | None:
        return None

    @property
    def boot_id(self) -> str:
        return "boot"
