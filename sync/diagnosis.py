"""From what the lanes of a path report to one word about the path, told once for each change."""

from dataclasses import dataclass, field

from events.replication import Lane
from sync.peers import PathFault

SETTLE_S = 2.0  # a change is told when it has lasted so long


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneState:
    """What one connection of a path is like. Neither up nor with a fault: not known yet."""

    up: bool = False
    fault: PathFault | None = None
    text: str = ""


TRYING = LaneState()
UP = LaneState(up=True)


@dataclass(slots=True)
class PathWatch:
    """Both lanes of one path. A path is up when both are; a fault of either is the path's."""

    told: LaneState | None = None
    _lanes: dict[Lane, LaneState] = field(default_factory=dict)
    _since: float = 0.0

    def report(self, lane: Lane, state: LaneState, now: float) -> None:
        before = self.state()
        self._lanes[lane] = state
        if self.state() != before:
            self._since = now

    def lost(self, lane: Lane) -> bool:
        """Tell whether this lane of the path is known not to work."""
        return self._lanes.get(lane, TRYING).fault is not None

    def state(self) -> LaneState:
        """Return the path's state now."""
        states = [self._lanes.get(lane, TRYING) for lane in Lane]
        for state in states:
            if state.fault is not None:
                return state
        return UP if all(state.up for state in states) else TRYING

    def change(self, now: float) -> LaneState | None:
        """Return the state when it differs from the one that was told, and has settled."""
        due = self.deadline()
        if due is None or now < due:
            return None
        self.told = self.state()
        return self.told

    def deadline(self) -> float | None:
        """Return when `change` will have something to tell."""
        state = self.state()
        if state in (self.told, TRYING):
            return None
        return self._since + SETTLE_S
