"""What one driver may remember: the store's memory, continued by what this run has stored since.

The store answers as of the start of the process. A driver that is started again later must compare
its levels with what was stored last, not with what was stored before the process began.
"""

from collections import OrderedDict
from collections.abc import Sequence

from events.kinds import Kind, Subkind
from events.model import Instant, Observation, Record, Stamp, condition
from protocols.levels import Memory

CONDITIONS_MAX = 20_000  # of one line; beyond, the ones longest unheard are left to the store
SOURCES_MAX = 1_000


class Recollection:
    """A `protocols.levels.Memory` that keeps up with one driver."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._latest: OrderedDict[tuple[str, str, str], Observation] = OrderedDict()
        self._raw: OrderedDict[str, bytes] = OrderedDict()
        self._ended: Record | None = None

    @property
    def boot_id(self) -> str:
        return self._memory.boot_id

    def latest(self, point: str, kind: str, subkind: str) -> Observation | None:
        return self._latest.get((point, kind, subkind)) or self._memory.latest(
            point, kind, subkind
        )

    def last_raw(self, source: str) -> bytes | None:
        return self._raw.get(source) or self._memory.last_raw(source)

    def last_record(self) -> Record | None:
        return self._ended or self._memory.last_record()

    def note(self, observations: Sequence[Observation]) -> None:
        """Keep up: these are stored now."""
        for observation in observations:
            key = condition(observation)
            self._latest[key] = observation
            self._latest.move_to_end(key)
            if observation.raw:
                self._raw[observation.source] = observation.raw
                self._raw.move_to_end(observation.source)
        while len(self._latest) > CONDITIONS_MAX:
            self._latest.popitem(last=False)
        while len(self._raw) > SOURCES_MAX:
            self._raw.popitem(last=False)

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
