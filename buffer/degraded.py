"""A time in which the store cannot write: what is kept in memory, and who waits for it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from buffer.entries import Pending, pending
from buffer.marks import StationMarks
from buffer.memory import Memory
from buffer.set_aside import SetAside
from buffer.volatile import Held, VolatileLog
from events.errors import StoreError
from events.kinds import Kind, Qualifier, Subkind
from events.model import Instant, Observation, Origin, Scalar, Stamp, condition
from events.replication import Lane

STORE_POINT = "store"
INITIAL = "initial"  # a level found at the start


@dataclass(eq=False, slots=True)
class _Waiter:
    seq: int
    done: asyncio.Future[None]


class Degraded:
    """Urgent events in a volatile log, until they are delivered or the disk takes them.

    error: why the store cannot write, in its newest form.
    refused: how many events that are not urgent were not taken.
    attempts: how often recovery was tried.
    """

    def __init__(self, error: StoreError, since: Instant, required: frozenset[str]) -> None:
        self.error = error
        self.since = since
        self.refused = 0
        self.kept = 0
        self.attempts = 0
        self.log = VolatileLog()
        self._marks = StationMarks(required)
        self._moved = 0  # numbers up to here are on the disk
        self._stored: frozenset[bytes] = frozenset()
        self._waiters: list[_Waiter] = []
        self._messages: dict[
            str, int
        ] = {}  # source, one per line → its newest event with raw bytes

    def keep(self, item: Pending) -> int:
        """Put a record into memory and return its number. Raises `StoreFull`."""
        seq = self.log.append(item)
        self.kept += 1
        seen = item.record.observation
        if seen.raw and seen.source:
            self._messages[seen.source] = seq
        return seq

    def awaits(self, source: str) -> bool:
        """Tell whether the newest message of a source is in memory only."""
        seq = self._messages.get(source)
        return seq is not None and not self._is_durable(seq)

    async def wait_durable(self, seq: int) -> None:
        """Return when a required station holds urgent event `seq`, or the disk does."""
        if self._is_durable(seq):
            return
        waiter = _Waiter(seq, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            await waiter.done
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def acknowledge(self, station: str, lane: Lane, stored: int) -> None:
        """Note that a station holds a lane of the volatile log up to `stored`."""
        self._marks.claim(station, lane, min(stored, self.log.head.head))
        self._wake()
        released = 0
        for held in self.log.held():
            if not self._marks.holds_for_all(held.seq, urgent=held.item.record.urgent):
                break
            released = held.seq
        self.log.release(released)

    def undelivered(self) -> list[Held]:
        """Return what neither the disk nor every required station holds."""
        return [
            held
            for held in self.log.held(self._moved)
            if held.item.body not in self._stored
            and not self._marks.holds_for_all(held.seq, urgent=held.item.record.urgent)
        ]

    def recall(self, memory: Memory) -> None:
        """Leave out levels of the start that the log, which could not be read then, holds already.

        The station may have got them from here, as news; the log does not get them twice.
        """
        for held in self.undelivered():
            seen = held.item.record.observation
            last = memory.latest(*condition(seen))
            was = last is not None and last.qualifier != Qualifier.RESTORE
            if INITIAL in seen.flags and was == (seen.qualifier != Qualifier.RESTORE):
                self._stored |= {held.item.body}

    def stored(self, bodies: set[bytes]) -> None:
        """Leave out events that the disk turned out to hold: only the answer was lost."""
        self._stored |= bodies

    def moved(self, through: int) -> None:
        """Note that the disk holds what was undelivered up to `through`."""
        self._moved = max(self._moved, through)
        self._wake()

    def end(self, error: StoreError | None) -> None:
        """Release who still waits; with an error if the events may be lost."""
        for waiter in self._waiters:
            if waiter.done.done():
                continue
            if error is None:
                waiter.done.set_result(None)
            else:
                waiter.done.set_exception(error)
        self._waiters.clear()

    def on_disk(self, held: Sequence[Held]) -> list[Pending]:
        """Return records as they go to the disk: with the place they first had."""
        return [
            pending(
                each.item.record.observation,
                each.item.record.stamp,
                urgent=each.item.record.urgent,
                origin=Origin(self.log.log_id, each.seq),
            )
            for each in held
        ]

    def _wake(self) -> None:
        for waiter in self._waiters:
            if self._is_durable(waiter.seq) and not waiter.done.done():
                waiter.done.set_result(None)

    def _is_durable(self, seq: int) -> bool:
        return seq <= self._moved or self._marks.holds_for_any(seq, urgent=True)


@dataclass(slots=True)
class Refusing:
    """A time in which the bound is reached: only urgent events are taken."""

    error: StoreError
    since: Instant
    refused: int = 0
    announced: bool = False


@dataclass(frozen=True, slots=True)
class Voice:
    """Makes the store's own events. `urgent` is the setting of the store's point."""

    stamp: Callable[[Instant], Stamp]
    urgent: bool

    def fault(self, error: StoreError, at: Instant, **details: Scalar) -> Pending:
        """Return the event that says that the store cannot take everything."""
        details = {"state": error.state, "hint": error.hint, **details}
        return _event(Qualifier.NEW, str(error), details, self.stamp(at), urgent=self.urgent)

    def restored(self, text: str, at: Instant, **details: Scalar) -> Pending:
        """Return the event that says that the store takes everything again."""
        return _event(Qualifier.RESTORE, text, details, self.stamp(at), urgent=self.urgent)

    def evicted(self, qualifier: Qualifier, text: str, at: Instant, **details: Scalar) -> Pending:
        """Return the event that says that undelivered events had to make room, or no longer."""
        return _event(
            qualifier,
            text,
            details,
            self.stamp(at),
            urgent=self.urgent,
            subkind=Subkind.EVICTED,
        )

    def salvaged(self, text: str, at: Instant, **details: Scalar) -> Pending:
        """Return the event that says that a file was salvaged and all of it delivered."""
        return _event(
            Qualifier.NEW,
            text,
            details,
            self.stamp(at),
            urgent=self.urgent,
            kind=Kind.INFORMATION,
        )

    def replaced(self, moved: SetAside, at: Instant) -> list[Pending]:
        """Return the events that say that a file was set aside and a new log began."""
        text = f"the store was set aside as {moved.path.name} and a new log began: {moved.why}"
        details: dict[str, Scalar] = {"state": moved.state, "file": str(moved.path)}
        return [
            _event(Qualifier.NEW, text, details, self.stamp(at), urgent=self.urgent),
            _event(Qualifier.RESTORE, text, details, self.stamp(at), urgent=self.urgent),
        ]


def _event(
    qualifier: Qualifier,
    text: str,
    details: dict[str, Scalar],
    stamp: Stamp,
    *,
    urgent: bool,
    kind: Kind = Kind.FAULT,
    subkind: Subkind = Subkind.STORE,
) -> Pending:
    return pending(
        Observation(
            point=STORE_POINT,
            kind=kind,
            subkind=subkind,
            qualifier=qualifier,
            source=STORE_POINT,
            text=text,
            details=details,
        ),
        stamp,
        urgent=urgent,
    )
