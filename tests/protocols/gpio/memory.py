"""A store's memory that behaves, for tests of what happens at a start."""

from events.model import Observation, Record, Stamp, condition


class Remembered:
    """What an earlier run stored, newest last, and when it ended."""

    def __init__(self, *observations: Observation, ended_us: int | None = None) -> None:
        self._newest = {condition(seen): seen for seen in observations}
        self._all = observations
        self._ended_us = ended_us

    boot_id = "boot-2"

    def latest(self, point: str, kind: str, subkind: str) -> Observation | None:
        return self._newest.get((point, kind, subkind, ""))

    def last_raw(self, source: str) -> bytes | None:
        return None

    def last_record(self) -> Record | None:
        if not self._all:
            return None
        stamp = Stamp(monotonic_us=self._ended_us or 0, boot_id="boot-1", wall_us=None)
        return Record(stamp=stamp, observation=self._all[-1])
