"""What a contact reported, on its way to the disk.

Each condition waits for itself alone: its reports stay in order, and none
waits for another's, so that an alarm is not held up by a status that cannot be stored now.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from events.errors import StoreError
from events.model import POSSIBLE_REPEAT, Condition, Observation, Scalar, condition
from protocols.drivers.base import Report

RETRY_S = 1.0
CLOSE_WITHIN_S = 2.0
WAITING_MAX = 64
"""Reports that one condition may have waiting.

Beyond it the oldest are dropped in pairs, a beginning and its end, so that what remains still ends
in the true state. It takes a store that is out of order for as long as a contact needs to change
64 times. The report after them carries their account: how many, and from when until when.
"""

CHANGES = "unrecorded_changes"
FROM_US = "unrecorded_from_us"  # first edges of the first and the last of them, monotonic;
TO_US = "unrecorded_to_us"  # absent where none of them had an edge
_ACCOUNT = (CHANGES, FROM_US, TO_US)


def _with_account(observation: Observation, dropped: Iterable[Observation]) -> Observation:
    """Return an observation that also accounts for those that were dropped before it.

    What these had accounted for themselves is in it, and so is what the observation already had.
    """
    changes = 0
    edges_us: list[int] = []
    for each in (*dropped, observation):
        account = [each.details.get(name) for name in _ACCOUNT]
        count, *interval_us = [value for value in account if isinstance(value, int)] or [0]
        changes += count
        edges_us += interval_us
        if each is not observation:
            changes += 1
            edges_us += [] if each.edge_us is None else [each.edge_us]
    details: dict[str, Scalar] = {**observation.details, CHANGES: changes}
    if edges_us:
        details |= {FROM_US: min(edges_us), TO_US: max(edges_us)}
    return msgspec.structs.replace(observation, details=details)


def _doubtful(batch: list[Observation]) -> Iterator[Observation]:
    """Yield observations, newest first, that may be stored already."""
    for observation in reversed(batch):
        flags = observation.flags
        if POSSIBLE_REPEAT not in flags:
            flags = (*flags, POSSIBLE_REPEAT)
        yield msgspec.structs.replace(observation, flags=flags)


class Outbox:
    """Reports waiting for the store. Keeps what was not stored when its line is lost."""

    def __init__(self) -> None:
        self.retries = 0
        self.dropped = 0
        self.reported = 0
        self._waiting: dict[Condition, deque[Observation]] = {}
        self._sending: dict[Condition, asyncio.Task[None]] = {}
        self._begin: Callable[[Condition], None] | None = None

    def open(self, report: Report, tasks: asyncio.TaskGroup) -> None:
        """Send from now on through `report`, in `tasks`; what still waits goes first."""

        def begin(key: Condition) -> None:
            self._sending[key] = tasks.create_task(self._send(key, report))

        self._begin = begin
        self._sending.clear()
        for key, waiting in self._waiting.items():
            if waiting:
                begin(key)

    async def close(self) -> None:
        """Send nothing more. What is on its way has a moment to arrive; the rest stays."""
        self._begin = None
        if self._sending:
            await asyncio.wait(self._sending.values(), timeout=CLOSE_WITHIN_S)
        for task in self._sending.values():
            task.cancel()

    def put(self, observations: Iterable[Observation]) -> None:
        """Take observations in the order in which they happened."""
        for observation in observations:
            key = condition(observation)
            waiting = self._waiting.setdefault(key, deque())
            waiting.append(observation)
            while len(waiting) > WAITING_MAX:
                dropped = (waiting.popleft(), waiting.popleft())
                waiting[0] = _with_account(waiting[0], dropped)
                self.dropped += len(dropped)
            if key not in self._sending and self._begin is not None:
                self._begin(key)

    async def _send(self, key: Condition, report: Report) -> None:
        waiting = self._waiting[key]
        while waiting:
            batch = list(waiting)
            waiting.clear()
            try:
                await report(batch)
            except StoreError:
                self.retries += 1
                waiting.extendleft(reversed(batch))
                await asyncio.sleep(RETRY_S)
            except BaseException:  # the line ended before anybody said what became of the batch
                waiting.extendleft(_doubtful(batch))
                raise
            else:
                self.reported += len(batch)
        del self._sending[key]
