"""The connections of one gateway: which count, and which carries a lane."""

from dataclasses import dataclass, field

from events.replication import HOLD_S, Hello, Lane
from sync.progress import Progress
from sync.sink import Sink

CONNECTIONS_MAX = 32  # of one gateway: paths, lanes, and some that have not died yet
ALIVE_S = HOLD_S + 2.0  # heard within it: was still connected


@dataclass(slots=True, eq=False)
class Connection:
    """One DEALER as the router sees it. `greeted` is the newest hello that was acted on."""

    route: bytes
    key: str
    gateway: str
    sink: Sink
    heard: float
    greeted: Hello | None = None
    committed_at: float = 0.0  # when the ledger had done its newest commit

    def serves(self, lane: Lane) -> bool:
        return self.greeted is not None and self.greeted.lane is lane


@dataclass(slots=True, eq=False)
class Gateway:
    """One enrolled gateway, in order of arrival of its connections."""

    name: str
    progress: Progress = field(default_factory=Progress)
    connections: dict[bytes, Connection] = field(default_factory=dict)

    def superseded(self, newest: Connection) -> list[Connection]:
        """Return the older connections for the path and lane of a greeted one."""
        hello = newest.greeted
        return [
            other
            for other in self.connections.values()
            if other is not newest
            and other.greeted is not None
            and hello is not None
            and (other.greeted.path, other.greeted.lane) == (hello.path, hello.lane)
        ]

    def to_activate(self, lane: Lane) -> dict[Connection, bool]:
        """Return which connections must begin or cease to carry the lane: one does, as it did."""
        serving = [each for each in self.connections.values() if each.serves(lane)]
        active = [each for each in serving if each.sink.active]
        chosen = active[0] if active else serving[-1] if serving else None
        return {each: each is chosen for each in serving if each.sink.active != (each is chosen)}


def is_clone(old: Connection, new: Connection, now: float) -> bool:
    """Tell whether two machines use one key: another boot, while the first was still connected."""
    if old.greeted is None or new.greeted is None:
        return False
    return old.greeted.boot_id != new.greeted.boot_id and now - old.heard < ALIVE_S
