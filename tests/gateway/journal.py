"""A store in a list, with a memory of what an earlier run left, and a disk that can go away."""

from collections.abc import Sequence

from events.errors import StoreReadOnly
from events.kinds import Kind
from events.model import Observation, Record, Stamp, condition


class Journal:
    def __init__(self, earlier: Sequence[Observation] = (), *, boot_id: str = "boot-1") -> None:
        self.earlier = tuple(earlier)
        self.boot_id = boot_id
        self.stored: list[Observation] = []
        self.broken = False
        self.attempts = 0

    async def record(self, observations: Sequence[Observation]) -> None:
        self.attempts += 1
        if self.broken:
            raise StoreReadOnly("no writes", hint="look at the card")
        self.stored.extend(observations)

    def latest(self, point: str, kind: str, subkind: str) -> Observation | None:
        known = [*self.earlier, *self.stored]
        found = [seen for seen in known if condition(seen) == (point, kind, subkind, "")]
        return found[-1] if found else None

    def last_raw(self, source: str) -> bytes | None:
        known = [*self.earlier, *self.stored]
        found = [seen.raw for seen in known if seen.source == source and seen.raw]
        return found[-1] if found else None

    def last_record(self) -> Record | None:
        if not self.earlier:
            return None
        stamp = Stamp(monotonic_us=5, boot_id="boot-0", wall_us=1_790_000_000_000_000)
        return Record(stamp=stamp, observation=self.earlier[-1])

    def faults(self) -> list[tuple[str, str, str]]:
        """Return point, subkind and qualifier of every stored fault."""
        return [
            (seen.point, seen.subkind, seen.qualifier)
            for seen in self.stored
            if seen.kind == Kind.FAULT
        ]


def fault(point: str, subkind: str, *, text: str = "boom", reason: str = "") -> Observation:
    return Observation(
        point=point,
        kind=Kind.FAULT,
        subkind=subkind,
        text=text,
        details={"reason": reason} if reason else {},
    )
