"""What waits to be stored: changes in order, of measurements the newest.

The store may be slow, or refuse. Nothing is lost on that account: what was refused is offered
again later, ahead of anything newer of the same point; other points pass it meanwhile. Of one
point only one observation is under way at a time: were it refused and the next one stored, an old
alarm would be recorded behind its own restore.
"""

from collections import deque
from collections.abc import Iterable

import msgspec

from events.kinds import Kind
from events.model import POSSIBLE_REPEAT, Observation

WAITING_MAX = 512  # from here on the bus is not polled, so at most one answer's points come on top
IN_FLIGHT_MAX = 128  # handed out and not yet settled
RETRY_S = 1.0


class Outbox:
    """Observations on their way to the store, settled in the order in which they were handed out."""

    def __init__(self) -> None:
        self._waiting: dict[int, Observation] = {}
        self._newest: dict[str, int] = {}  # point → its waiting measurement
        self._in_flight: deque[Observation] = deque()
        self._under_way: set[str] = set()  # the points of what is in flight
        self._held: dict[str, float] = {}  # point → when what was refused is offered again
        self._serial = 0

    @property
    def full(self) -> bool:
        """Tell whether to stop looking at the world until the store has caught up."""
        return len(self._waiting) + len(self._in_flight) >= WAITING_MAX

    def put(self, observations: Iterable[Observation]) -> None:
        """Add observations. A measurement replaces a waiting one of the same point."""
        for observation in observations:
            self._serial += 1
            if _replaceable(observation):
                older = self._newest.get(observation.point)
                if older is not None:
                    del self._waiting[older]
                self._newest[observation.point] = self._serial
            self._waiting[self._serial] = observation

    def drain(self, now_s: float) -> list[Observation]:
        """Hand out what may go now, oldest first."""
        if not self._waiting:
            return []
        chosen: list[int] = []
        room = IN_FLIGHT_MAX - len(self._in_flight)
        for serial, observation in self._waiting.items():
            if len(chosen) >= room:
                break
            point = observation.point
            if point not in self._under_way and self._held.get(point, now_s) <= now_s:
                self._under_way.add(point)
                chosen.append(serial)
        return [self._hand_out(serial) for serial in chosen]

    def _hand_out(self, serial: int) -> Observation:
        observation = self._waiting.pop(serial)
        if self._newest.get(observation.point) == serial:
            del self._newest[observation.point]
        self._in_flight.append(observation)
        return observation

    def stored(self, count: int) -> None:
        """Note that the oldest `count` that were handed out are on disk."""
        for observation in self._settled(count):
            self._held.pop(observation.point, None)

    def dropped(self, count: int, now_s: float) -> None:
        """Note that the oldest `count` that were handed out were refused; offer them again."""
        refused = self._settled(count)
        for observation in refused:
            self._held[observation.point] = now_s + RETRY_S
        self._put_back(refused)

    def restart(self) -> None:
        """Offer what was never settled once more: the line ended before anybody said what became of it."""
        doubtful = [
            msgspec.structs.replace(observation, flags=(*observation.flags, POSSIBLE_REPEAT))
            for observation in self._in_flight
        ]
        self._in_flight.clear()
        self._under_way.clear()
        self._put_back(doubtful)

    def next_release(self) -> float | None:
        """Return when something that was refused may be offered again, if there is room for it."""
        if not self._held or len(self._in_flight) >= IN_FLIGHT_MAX:
            return None
        times = [
            self._held[observation.point]
            for observation in self._waiting.values()
            if observation.point in self._held
        ]
        return min(times, default=None)

    def _settled(self, count: int) -> list[Observation]:
        oldest = [self._in_flight.popleft() for _ in range(min(count, len(self._in_flight)))]
        self._under_way -= {observation.point for observation in oldest}
        return oldest

    def _put_back(self, observations: list[Observation]) -> None:
        newer = self._waiting
        superseded = set(self._newest)
        self._waiting, self._newest = {}, {}
        self.put(
            observation
            for observation in observations
            if not (_replaceable(observation) and observation.point in superseded)
        )
        self.put(newer.values())


def _replaceable(observation: Observation) -> bool:
    return observation.kind == Kind.MEASUREMENT and not observation.changed
