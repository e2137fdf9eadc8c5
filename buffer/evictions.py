"""Telling what was thrown away to make room: one event for many, and one when all is told.

The gaps themselves are in the log, written with the deletion. This is for people: a fault that
begins with the first eviction, is repeated with the newest counts, and ends when every required
station has been told of the gaps.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from buffer.bound import Room
from buffer.clock import Clock
from buffer.degraded import STORE_POINT, Voice
from buffer.disk import Disk
from buffer.eviction import Evicted
from events.errors import StoreError
from events.kinds import Kind, Qualifier, Subkind
from events.replication import Lane

FIRST_AFTER_S: Final = 1.0  # a pass is many steps
AGAIN_AFTER_S: Final = 60.0
RETRY_S: Final = 5.0


class Evictions:
    """The fault `evicted` at the point `store`. total: how many events went since the start."""

    def __init__(
        self, disk: Disk, clock: Clock, voice: Voice, *, writable: Callable[[], bool]
    ) -> None:
        self.total = 0
        self._disk = disk
        self._clock = clock
        self._voice = voice
        self._writable = writable
        self._untold: Evicted | None = None
        self._changed = asyncio.Event()

    def note(self, evicted: Evicted) -> None:
        """Take what one step threw away."""
        self.total += evicted.count
        self._untold = _joined(self._untold, evicted)
        self._changed.set()

    def look(self) -> None:
        """Look whether the stations have been told: a mark moved."""
        if self._stands is not None:
            self._changed.set()

    async def run(self) -> None:
        """Tell, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._untold is not None:
                await asyncio.sleep(FIRST_AFTER_S)
                await self._tell()
            else:
                await self._end()

    @property
    def _stands(self) -> int | None:
        """Return up to which number events went that people were told of, None if none."""
        last = self._disk.memory.latest(STORE_POINT, Kind.FAULT, Subkind.EVICTED)
        if last is None or last.qualifier == Qualifier.RESTORE:
            return None
        through = last.details.get("last")
        return through if isinstance(through, int) else 0

    async def _tell(self) -> None:
        evicted, head = self._untold, self._disk.head
        if evicted is None or head is None or not self._writable():
            await self._later(RETRY_S)
            return
        self._untold = None
        new = self._stands is None
        text = (
            f"{evicted.count} undelivered events, numbers {evicted.first} to {evicted.last}, "
            "had to make room in the store"
        )
        event = self._voice.evicted(
            Qualifier.NEW if new else Qualifier.STILL,
            text,
            self._clock.now(),
            log_id=head.log_id,
            first=evicted.first,
            last=max(evicted.last, self._stands or 0),
            **evicted.counts,
        )
        try:
            await self._disk.append([event], Room.RESERVE)
        except StoreError:
            self._untold = _joined(self._untold, evicted)
            await self._later(RETRY_S)
        else:
            await self._later(AGAIN_AFTER_S)

    async def _later(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        self._changed.set()

    async def _end(self) -> None:
        """Say that every required station knows, once it does."""
        through = self._stands
        if through is None or not self._writable():
            return
        if self._disk.marks.by_all(Lane.MAIN) < through:
            return
        text = "every required station has been told which events had to make room"
        event = self._voice.evicted(Qualifier.RESTORE, text, self._clock.now(), last=through)
        try:
            await self._disk.append([event], Room.RESERVE)
        except StoreError:
            return  # looked at again with the next mark


def _joined(one: Evicted | None, other: Evicted) -> Evicted:
    return other if one is None else one.joined(other)
