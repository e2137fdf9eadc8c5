"""The one thread that touches the file.

Appends come in through a queue and are committed in groups, without a timer: each commit takes
what arrived during the previous one. Everything else (readings, snapshots, trimming, folding the
write-ahead log) runs in slices between commits.
"""

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from buffer.bound import GROUP_EVENTS_MAX, Bound, Room
from buffer.entries import Pending
from buffer.eviction import Evicted
from buffer.log import EventLog
from buffer.memory import Memory, readable
from buffer.notes import Marks, Notes
from buffer.set_aside import SetAside, open_log, set_aside
from buffer.snapshot import snapshot
from events.errors import StoreCorrupt, StoreError, StoreFull
from events.model import Record
from events.replication import LogHead

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Work in slices: each `next` is one that takes a few milliseconds at most."""

MAKE_ROOM_STEPS: Final = 64  # of eviction, while a producer and everybody behind it waits
EVICT_AGAIN_EVENTS: Final = 64  # after nothing could go, it is tried again with so many more
BEYOND_MAX: Final = 4096  # events looked at for a commit whose answer was lost


class BoundReached(StoreFull):
    """The declared bound is reached; the medium may have room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What an opened log held. last: the newest record, None in an empty log.

    beyond: bodies of events newer than the caller knew of: commits whose answer was lost.
    set_aside: the file that had to make room for this one.
    """

    head: LogHead
    marks: Marks
    memory: Memory
    last: Record | None
    beyond: tuple[tuple[int, bytes], ...]
    set_aside: SetAside | None


@dataclass(eq=False, slots=True)
class Append:
    """Records to commit together, and where the answer goes."""

    items: Sequence[Pending]
    room: Room
    notes: list[Notes]  # the thread takes out what it has written already
    cost_bytes: int
    done: "asyncio.Future[int]"
    first: int = 0
    error: StoreError | None = None


@dataclass(eq=False, slots=True)
class Job:
    """Other work. `alone`: it changes the log under all others' feet. `urgent`: it goes first."""

    steps: Steps[Any]
    done: "asyncio.Future[Any]"
    alone: bool = False
    urgent: bool = False
    abandoned: bool = False
    result: object = None
    error: StoreError | None = None


class Stop:
    """The last request: finish what is there, close the log, end."""


@dataclass(slots=True)
class Group:
    """The appends of one commit, as far as they were taken."""

    accepted: list[Append] = field(default_factory=list)
    refused: list[Append] = field(default_factory=list)
    head: LogHead | None = None

    def items(self) -> list[Pending]:
        return [item for append in self.accepted for item in append.items]


class Answers(Protocol):
    """Who gets the answers; called on the loop."""

    def deliver_group(self, group: Group) -> None: ...
    def deliver_job(self, job: Job) -> None: ...
    def deliver_evicted(self, evicted: Evicted) -> None: ...
    def deliver_trouble(self, error: StoreError) -> None: ...
    def deliver_end(self) -> None: ...


class WriterThread:
    """The thread. Only `start`, `put` and the three numbers are for other threads.

    trim_through: every required station holds everything up to here.
    held_through: and every urgent event up to here.
    answered_at: the monotonic second of the newest sign of life.
    """

    def __init__(self, bound: Bound, answers: Answers) -> None:
        self.trim_through = 0
        self.held_through = 0
        self.answered_at = time.monotonic()
        self._bound = bound
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answers = answers
        self._queue: queue.SimpleQueue[list[Append | Job | Stop]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._log: EventLog | None = None
        self._appends: deque[Append] = deque()
        self._jobs: deque[Job] = deque()
        self._stopping = False
        self._trimming = False
        self._evicting = False
        self._vacuuming = False
        self._evicted_all_at = -EVICT_AGAIN_EVENTS  # the head when nothing more could go

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def put(self, requests: list[Append | Job | Stop]) -> None:
        self._queue.put(requests)

    # ------------------------------------------------------------------ work, in steps

    def open(
        self, path: Path, created_us: int | None, suspect: StoreError | None, known: LogHead | None
    ) -> Steps[Opened]:
        """Open the log, after closing the one that is open; see `Writer.open`."""
        self._close()
        moved = set_aside(path, suspect, known) if isinstance(suspect, StoreCorrupt) else None
        yield
        log, found = open_log(path, bound=self._bound, created_us=created_us)
        self._log = log
        self._trimming = self._evicting = self._vacuuming = False
        self._evicted_all_at = -EVICT_AGAIN_EVENTS
        yield
        head = log.head
        same = known is not None and known.log_id == head.log_id
        since = known.head if known is not None and same else head.head
        newest = log.body(head.head)
        memory = log.memory()
        if memory.checkpoint_due:  # a long replay; what is copied can be trimmed
            checkpoint = memory.take_checkpoint()
            try:
                log.write_notes([Notes(checkpoint=checkpoint)])
            except StoreError:
                memory.give_back(checkpoint)
        return Opened(
            head=head,
            marks=log.marks(),
            memory=memory,
            last=None if newest is None else readable(newest),
            beyond=tuple(
                (seq, body)
                for seq in range(since + 1, min(head.head, since + BEYOND_MAX) + 1)
                if (body := log.body(seq)) is not None
            ),
            set_aside=moved or found,
        )

    def on_log(self, work: Callable[[EventLog], Steps[T]]) -> Steps[T]:
        """Do work that needs an open log."""
        if self._log is None:
            raise _not_open()
        return (yield from work(self._log))

    def snapshot(self, target: Path) -> Steps[None]:
        """Copy the log while the others have their turns in between."""
        if self._log is None:
            raise _not_open()
        snapshot(self._log, target, self._serve)
        yield

    # ------------------------------------------------------------------ the thread itself

    def _run(self) -> None:
        try:
            while not self._finished():
                self._drain(block=self._idle())
                self._turn()
        finally:
            self._close()
            self._hand(self._answers.deliver_end)

    def _finished(self) -> bool:
        return self._stopping and not self._appends and not self._jobs

    def _idle(self) -> bool:
        due = self._log is not None and self._housework_due(self._log)
        return not (self._appends or self._jobs or due)

    def _drain(self, *, block: bool) -> None:
        try:
            while True:
                requests = self._queue.get(block=block)
                block = False
                for request in requests:
                    if isinstance(request, Append):
                        self._appends.append(request)
                    elif isinstance(request, Job):
                        (self._jobs.appendleft if request.urgent else self._jobs.append)(request)
                    else:
                        self._stopping = True
        except queue.Empty:
            return

    def _turn(self) -> None:
        """Do one commit, and one slice of whatever else there is."""
        if self._appends:
            self._commit(self._next_group())
        if self._jobs:
            self._step(self._jobs.popleft())
        log = self._log
        quiet = not (self._appends or self._jobs)
        if log is not None and self._housework_due(log) and (quiet or log.fold_overdue):
            self._housework(log)
        self.answered_at = time.monotonic()

    def _serve(self) -> None:
        """Let the others have their turn from inside a long piece of work."""
        self._drain(block=False)
        if self._stopping or any(job.alone for job in self._jobs):
            raise StoreError("the store is being closed", hint="try again in a moment")
        self._turn()

    def _next_group(self) -> list[Append]:
        appends = [self._appends.popleft()]
        events = len(appends[0].items)
        size = appends[0].cost_bytes
        while self._appends:
            events += len(self._appends[0].items)
            size += self._appends[0].cost_bytes
            if events > GROUP_EVENTS_MAX or size > self._bound.group_bytes:
                break
            appends.append(self._appends.popleft())
        return appends

    def _commit(self, appends: list[Append]) -> None:
        group = Group()
        if self._log is None:
            group.refused = appends
            _refuse(appends, _not_open())
        else:
            try:
                self._admit(self._log, appends, group)
                if group.accepted:
                    self._store(self._log, group)
            except StoreError as error:
                group.refused = appends
                group.accepted = []
                _refuse(appends, error)
        self._hand(self._answers.deliver_group, group)

    def _admit(self, log: EventLog, appends: list[Append], group: Group) -> None:
        """Sort appends into those that have room and those that have none."""
        need = sum(append.cost_bytes for append in appends)
        strictest = Room.AMPLE if any(a.room is Room.AMPLE for a in appends) else Room.NORMAL
        if log.has_room(need, strictest):
            group.accepted = appends
            return
        need = 0
        for append in appends:
            urgent = any(item.record.urgent for item in append.items)
            if append.notes and not log.has_room(need + append.cost_bytes, append.room):
                log.write_notes(append.notes)  # events may go once their states are copied
                append.notes.clear()
            if self._make_room(log, need + append.cost_bytes, append.room, urgent=urgent):
                need += append.cost_bytes
                group.accepted.append(append)
            else:
                append.error = _bound_reached(log)
                group.refused.append(append)

    def _make_room(self, log: EventLog, need_bytes: int, room: Room, *, urgent: bool) -> bool:
        """Let go of what is worth less than the newcomer, in bounded time."""
        steps = MAKE_ROOM_STEPS
        while not log.has_room(need_bytes, room):
            if log.trim(self.trim_through):
                continue
            if room is Room.AMPLE or not steps or not self._evict(log, urgent=urgent):
                return False
            steps -= 1
            if log.fold_overdue:  # what goes is written as well
                log.fold()
        return True

    def _evict(self, log: EventLog, *, urgent: bool) -> bool:
        """Throw away one portion; tell whether there may be more."""
        step = log.evict(held=self.held_through, urgent=urgent)
        if step.evicted is not None:
            self._hand(self._answers.deliver_evicted, step.evicted)
        return not step.exhausted

    def _store(self, log: EventLog, group: Group) -> None:
        notes = [note for append in group.accepted for note in append.notes]
        first = log.append(group.items(), notes)
        group.head = log.head
        for append in group.accepted:
            append.first = first
            first += len(append.items)

    def _step(self, job: Job) -> None:
        try:
            if job.abandoned:
                job.steps.close()  # a closed generator stops at once
            next(job.steps)
        except StopIteration as stop:
            job.result = stop.value
        except StoreError as error:
            job.error = error
        else:
            self._jobs.append(job)
            return
        self._hand(self._answers.deliver_job, job)

    def _close(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            try:
                log.close()
            except StoreError as error:
                self._hand(self._answers.deliver_trouble, error)

    def _housework_due(self, log: EventLog) -> bool:
        return log.fold_due or self._trim_due(log) or self._evict_due(log) or self._vacuum_due(log)

    def _trim_due(self, log: EventLog) -> bool:
        wanted = not log.trim_enough if self._trimming else log.trim_due
        return wanted and self.trim_through >= log.head.first and log.head.first < log.head.head

    def _evict_due(self, log: EventLog) -> bool:
        wanted = not log.evict_enough if self._evicting else log.evict_due
        return wanted and log.head.head >= self._evicted_all_at + EVICT_AGAIN_EVENTS

    def _vacuum_due(self, log: EventLog) -> bool:
        return not log.vacuum_enough if self._vacuuming else log.vacuum_due

    def _housework(self, log: EventLog) -> None:
        """Fold the write-ahead log, or trim, evict or vacuum one slice."""
        try:
            if log.fold_due:
                log.fold()
            elif self._trim_due(log):
                self._trimming = log.trim(self.trim_through) > 0 and not log.trim_enough
            elif self._evict_due(log):
                self._evicting = self._evict(log, urgent=False) and not log.evict_enough
                if not self._evicting and not log.evict_enough:
                    self._evicted_all_at = log.head.head
            else:
                log.vacuum()
                self._vacuuming = not log.vacuum_enough
        except StoreError as error:
            self._trimming = self._evicting = self._vacuuming = False
            self._hand(self._answers.deliver_trouble, error)

    def _hand(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None  # noqa: S101 - the thread starts with it
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop is closed: nobody is waiting any more
            self._stopping = True


def _refuse(appends: Iterable[Append], error: StoreError) -> None:
    for append in appends:
        append.error = error


def _not_open() -> StoreError:
    return StoreError("the store is not open", hint="`nplus-gateway status` says why")


def _bound_reached(log: EventLog) -> BoundReached:
    return BoundReached(
        f"the store has reached its bound of {log.bound.total_bytes} bytes",
        hint="restore the connection to the station, so that delivered events can be trimmed; "
        "or raise `bound_bytes` in [store]",
    )
