"""What one driver may remember: the store's memory, and since when nobody watched this one line.

The store's newest record tells when the process last watched anything. A line that is lost for a
while in a living process was last watched when it was last up.
"""

from events.kinds import Kind, Subkind
from events.model import Instant, Observation, Record, Stamp
from protocols.levels import Memory


class Recollection:
    """A `protocols.levels.Memory` for one line."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._ended: Record | None = None

    @property
    def boot_id(self) -> str:
        return self._memory.boot_id

    def latest(self, point: str, kind: str, subkind: str) -> Observation | None:
        return self._memory.latest(point, kind, subkind)

    def last_raw(self, source: str) -> bytes | None:
        return self._memory.last_raw(source)

    def last_record(self) -> Record | None:
        return self._ended or self._memory.last_record()

    def ended(self, line: str, now: Instant) -> None:
        """Keep that nobody watches the line from `now` on, until its driver is up again."""
        self._ended = Record(
            stamp=Stamp(
                monotonic_us=int(now.monotonic * 1_000_000),
                boot_id=self._memory.boot_id,
                wall_us=None if now.wall is None else int(now.wall * 1_000_000),
                clock=now.clock,
            ),
            observation=Observation(
                point=line, kind=Kind.FAULT, subkind=Subkind.DRIVER, source=line
            ),
        )
