"""What waits to be stored: changes in order, of measurements the newest.

The store may be slow, or refuse. What was refused is offered again later, ahead of anything newer
of the same condition; other conditions pass it meanwhile. Of one condition only one observation is
under way at a time: were it refused and the next one stored, an old alarm would be recorded behind
its own restore.

Nothing urgent is lost on that account: when `WAITING_MAX` of it wait, the bus is not polled. What
is not urgent never stops the polling, since a store that refuses it still takes alarms: of a
condition that was refused, or of any once `WAITING_MAX` wait, the newest one stays. It says how
many are missing before it.
"""

from collections import deque
from collections.abc import Iterable

import msgspec

from events.kinds import Kind, is_urgent
from events.model import POSSIBLE_REPEAT, Condition, Observation, condition

WAITING_MAX = (
    512  # urgent ones, and others; at most one answer's points, or conditions, come on top
)
IN_FLIGHT_MAX = 128  # handed out and not yet settled
ROUTINE_IN_FLIGHT_MAX = (
    64  # the rest is for urgent ones: outcomes come in order, a slow one blocks
)
RETRY_S = 1.0
UNRECORDED = "unrecorded_changes"

_Queue = deque[tuple[int, Observation]]  # with the place among all that ever came


class Outbox:
    """Observations on their way to the store, settled in the order in which they were handed out.

    unrecorded: how many gave way to a newer one of their condition, and are recorded nowhere.
    """

    def __init__(self, urgent_points: frozenset[str] = frozenset()) -> None:
        self.unrecorded = 0
        self._urgent_points = urgent_points
        self._waiting: dict[Condition, _Queue] = {}  # none is empty
        self._in_flight: _Queue = deque()
        self._under_way: set[Condition] = set()  # the conditions of what is in flight
        self._held: dict[Condition, float] = {}  # when what was refused is offered again
        self._waiting_urgent = 0
        self._waiting_routine = 0
        self._in_flight_routine = 0
        self._serial = 0

    @property
    def full(self) -> bool:
        """Tell whether to stop looking at the world until the store has caught up."""
        in_flight = len(self._in_flight) - self._in_flight_routine
        return self._waiting_urgent + in_flight >= WAITING_MAX

    def put(self, observations: Iterable[Observation]) -> None:
        """Add observations. A measurement replaces a waiting one of the same condition."""
        for observation in observations:
            self._serial += 1
            self._add(self._serial, observation)

    def _add(self, serial: int, observation: Observation) -> None:
        key = condition(observation)
        queue = self._waiting.pop(key, deque())
        before = len(queue)
        newest = observation
        if self._keeps_newest(key):
            newest = self._replace([each for _, each in queue], observation)
            queue = deque()
        elif _replaceable(observation):
            newest = _accounting(observation, [each for _, each in queue if _replaceable(each)])
            queue = deque(each for each in queue if not _replaceable(each[1]))
        queue.append((serial, newest))
        self._waiting[key] = queue
        self._count_waiting(key, len(queue) - before)

    def drain(self, now_s: float) -> list[Observation]:
        """Hand out what may go now, oldest first."""
        if not self._waiting or len(self._in_flight) >= IN_FLIGHT_MAX:
            return []
        ready = sorted(
            (queue[0][0], key)
            for key, queue in self._waiting.items()
            if key not in self._under_way and self._held.get(key, now_s) <= now_s
        )
        return [self._hand_out(key) for _, key in ready if self._has_room(key)]

    def _hand_out(self, key: Condition) -> Observation:
        queue = self._waiting[key]
        serial, observation = queue.popleft()
        if not queue:
            del self._waiting[key]
        self._count_waiting(key, -1)
        self._in_flight.append((serial, observation))
        self._in_flight_routine += not self._is_urgent(key)
        self._under_way.add(key)
        return observation

    def stored(self, count: int) -> None:
        """Note that the oldest `count` that were handed out are on disk."""
        for _, observation in self._settled(count):
            self._held.pop(condition(observation), None)

    def dropped(self, count: int, now_s: float) -> None:
        """Note that the oldest `count` that were handed out were refused; offer them again."""
        for serial, observation in self._settled(count):
            key = condition(observation)
            self._held[key] = now_s + RETRY_S
            queue = self._waiting.get(key)
            if queue is None or self._is_urgent(key):
                self._put_back(serial, observation)
                continue
            last, newest = queue[-1]
            older = [observation, *(each for _, each in queue)][:-1]
            self._count_waiting(key, 1 - len(queue))
            self._waiting[key] = deque([(last, self._replace(older, newest))])

    def restart(self) -> None:
        """Offer what was never settled once more: the line ended before anybody said what became of it."""
        for serial, observation in self._settled(len(self._in_flight)):
            flags = (*observation.flags, POSSIBLE_REPEAT)
            self._put_back(serial, msgspec.structs.replace(observation, flags=flags))

    def next_release(self) -> float | None:
        """Return when something that was refused may be offered again, if there is room for it."""
        times = [
            at_s
            for key, at_s in self._held.items()
            if key in self._waiting and key not in self._under_way and self._has_room(key)
        ]
        return min(times, default=None)

    def _settled(self, count: int) -> list[tuple[int, Observation]]:
        oldest = [self._in_flight.popleft() for _ in range(min(count, len(self._in_flight)))]
        for _, observation in oldest:
            key = condition(observation)
            self._under_way.discard(key)
            self._in_flight_routine -= not self._is_urgent(key)
        return oldest

    def _put_back(self, serial: int, observation: Observation) -> None:
        """Have an observation wait ahead of those of its condition that came after it."""
        key = condition(observation)
        queue = self._waiting.setdefault(key, deque())
        for place, (newer_serial, newer) in enumerate(queue):
            if _replaceable(observation) and _replaceable(newer):
                queue[place] = (newer_serial, _accounting(newer, [observation]))
                return
        queue.appendleft((serial, observation))
        self._count_waiting(key, 1)

    def _keeps_newest(self, key: Condition) -> bool:
        routine = not self._is_urgent(key)
        return routine and (key in self._held or self._waiting_routine >= WAITING_MAX)

    def _replace(self, older: list[Observation], newest: Observation) -> Observation:
        self.unrecorded += len(older)
        return _accounting(newest, older, missing=len(older))

    def _has_room(self, key: Condition) -> bool:
        if len(self._in_flight) >= IN_FLIGHT_MAX:
            return False
        return self._is_urgent(key) or self._in_flight_routine < ROUTINE_IN_FLIGHT_MAX

    def _is_urgent(self, key: Condition) -> bool:
        point, kind, *_ = key
        return is_urgent(kind, configured=point in self._urgent_points)

    def _count_waiting(self, key: Condition, change: int) -> None:
        if self._is_urgent(key):
            self._waiting_urgent += change
        else:
            self._waiting_routine += change


def _accounting(newest: Observation, older: list[Observation], missing: int = 0) -> Observation:
    """Return an observation that tells of `missing` before it, and of what the older ones told."""
    for each in (*older, newest):
        told = each.details.get(UNRECORDED)
        missing += told if isinstance(told, int) else 0
    if not missing:
        return newest
    return msgspec.structs.replace(newest, details={**newest.details, UNRECORDED: missing})


def _replaceable(observation: Observation) -> bool:
    return observation.kind == Kind.MEASUREMENT and not observation.changed
