"""Telling what was thrown away to make room: one event for many, and one when all is told.

The gaps themselves are in the log, written with the deletion. This is for people: a fault that
begins with the first eviction, is repeated with the newest counts, and ends when every required
station has been told of the gaps.

A station that passes such a gap would go on showing what came before it: "all is well" for an alarm
that stands. So the newest event of each condition that went is recorded once more, with its first
place as its origin, as soon as a station is past that place. A station that was restored from a
backup lacks in the same way what had been trimmed since.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from buffer.bound import Room
from buffer.clock import Clock
from buffer.degraded import STORE_POINT, Voice
from buffer.disk import Disk
from buffer.entries import Pending, pending
from buffer.eviction import Evicted
from buffer.log import EventLog
from buffer.memory import again_of, readable
from buffer.writer_thread import Steps
from events.errors import StoreError
from events.kinds import Kind, Qualifier, Subkind
from events.model import Origin, Scalar
from events.replication import Lane, LogHead

FIRST_AFTER_S: Final = 1.0  # a pass is many steps
AGAIN_AFTER_S: Final = 60.0
RETRY_S: Final = 5.0
LOOK_EVERY_S: Final = 1.0
LOOK_AT_ONCE: Final = 256
PORTION: Final = 16  # records of one append


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
        self._tell_at = 0.0
        self._owed: set[int] = set()  # numbers of newest events that went, and are to come again
        self._look_from: int | None = 0  # where to look for them next, None: nowhere
        self._log_id = ""
        self._changed = asyncio.Event()

    def note(self, evicted: Evicted) -> None:
        """Take what one step threw away."""
        self.total += evicted.count
        self._untold = _joined(self._untold, evicted)
        self._changed.set()

    def look(self) -> None:
        """Look whether the stations have been told: a mark moved."""
        if self._look_from is not None or self._owed or self._told is not None:
            self._changed.set()

    def rewound(self) -> None:
        """Look what a station lacks that holds less than it once did, or from its beginning."""
        self._look_from = 1
        self._changed.set()

    async def run(self) -> None:
        """Tell, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._writable():
                loop.call_later(RETRY_S, self._changed.set)
                continue
            try:
                if self._untold is not None and loop.time() >= self._tell_at:
                    await asyncio.sleep(FIRST_AFTER_S)
                    await self._tell()
                await self._record_again()
                await self._end()
                if self._owed or self._told is not None:
                    await asyncio.sleep(LOOK_EVERY_S)
            except StoreError:
                self._tell_at = loop.time() + RETRY_S
                loop.call_later(RETRY_S, self._changed.set)

    @property
    def _told(self) -> Mapping[str, Scalar] | None:
        """Return what people were told of while the fault stands, None if it does not."""
        last = self._disk.memory.latest(STORE_POINT, Kind.FAULT, Subkind.EVICTED)
        return None if last is None or last.qualifier == Qualifier.RESTORE else last.details

    async def _tell(self) -> None:
        evicted, head = self._untold, self._disk.head
        if evicted is None or head is None:
            return
        self._untold = None
        told = self._told or {}
        same = told.get("log_id") == head.log_id
        text = (
            f"{evicted.count} undelivered events, numbers {evicted.first} to {evicted.last}, "
            "had to make room in the store"
        )
        event = self._voice.evicted(
            Qualifier.STILL if told else Qualifier.NEW,
            text,
            self._clock.now(),
            log_id=head.log_id,
            first=min(evicted.first, _number(told, "first")) if same else evicted.first,
            last=max(evicted.last, _number(told, "last")),
            **evicted.counts,
        )
        try:
            await self._disk.append([event], Room.RESERVE)
        except StoreError:
            self._untold = _joined(self._untold, evicted)
            raise
        self._look_from = self._look_from or 0
        loop = asyncio.get_running_loop()
        self._tell_at = loop.time() + AGAIN_AFTER_S
        loop.call_later(AGAIN_AFTER_S, self._changed.set)

    async def _end(self) -> None:
        """Say that every required station knows, once it does."""
        if self._told is None or self._untold is not None:
            return
        through = _number(self._told, "last")
        if self._disk.marks.by_all(Lane.MAIN) < through:
            return
        text = "every required station has been told which events had to make room"
        event = self._voice.evicted(Qualifier.RESTORE, text, self._clock.now(), last=through)
        await self._disk.append([event], Room.RESERVE)

    async def _record_again(self) -> None:
        """Record the newest events that went and that a station is past, in portions."""
        head, marks = self._disk.head, self._disk.marks
        if head is None:
            return
        if head.log_id != self._log_id:
            self._log_id, self._owed = head.log_id, set()
        if self._look_from is not None:
            await self._look_for_owed(head, self._look_from)
        due: dict[bool, list[Pending]] = {True: [], False: []}
        for seq, body in self._disk.memory.numbered(self._owed):
            record = readable(body)
            if record is not None and marks.holds_for_any(seq, urgent=record.urgent):
                origin = again_of(record, head.log_id) or Origin(head.log_id, seq)
                again = pending(
                    record.observation, record.stamp, urgent=record.urgent, origin=origin
                )
                due[record.urgent].append(again)
        for urgent, items in due.items():
            for start in range(0, len(items), PORTION):
                room = Room.RESERVE if urgent else Room.NORMAL
                await self._disk.append(items[start : start + PORTION], room)
        self._owed &= {seq for seq, _ in self._disk.memory.numbered(self._owed)}

    async def _look_for_owed(self, head: LogHead, first: int) -> None:
        """Find the conditions of which a required station will not learn the newest state.

        first: from this number on; 0: from what is not delivered, or made room, whichever is lower.
        """
        self._look_from = None
        if not first:
            first = self._disk.marks.by_all(Lane.MAIN) + 1
            if self._told is not None and self._told.get("log_id") == head.log_id:
                first = min(first, _number(self._told, "first"))
        newest = [seq for seq, _ in self._disk.memory.numbered(range(first, head.head + 1))]
        try:
            self._owed |= await self._disk.writer.run(partial(_gone, newest))
        except StoreError:
            self._look_from = first
            raise


def _gone(numbers: Sequence[int], log: EventLog) -> Steps[set[int]]:
    """Return those that the log does not hold any more."""
    gone = set()
    for index, seq in enumerate(numbers):
        if index % LOOK_AT_ONCE == 0:
            yield
        if log.body(seq) is None:
            gone.add(seq)
    return gone


def _number(details: Mapping[str, Scalar], name: str) -> int:
    value = details.get(name)
    return value if isinstance(value, int) else 0


def _joined(one: Evicted | None, other: Evicted) -> Evicted:
    return other if one is None else one.joined(other)
