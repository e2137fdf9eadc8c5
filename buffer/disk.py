"""The half of the store that is on disk: the log, and what rides on its commits.

Marks of stations and the newest states never have a commit of their own while the gateway runs:
a station repeats its claim with every fetch, and the log itself says what came after the last copy
of the states. Writing them down apart would double what an alarm costs the card.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from buffer.bound import Bound, Room
from buffer.clock import Clock
from buffer.entries import Pending
from buffer.eviction import Evicted
from buffer.log import EventLog
from buffer.marks import StationMarks
from buffer.memory import Memory, readable
from buffer.notes import Notes
from buffer.set_aside import SetAside
from buffer.writer import Writer
from buffer.writer_thread import Opened, Steps
from events.errors import StoreError
from events.model import Record
from events.replication import Lane, LogHead, Reading

MARKS_EVERY_S: Final = 60.0  # marks ride on a commit at most this often
CLOSE_S: Final = 3.0


class Disk:
    """The log on disk, from the loop's side.

    head: the log as of the newest commit, None while none was ever open.
    last_record: the newest record when the log was first opened.
    on_change: called after each commit and when another log is open.
    on_recall: called with what the log remembered, before what was learned without it is added.
    on_set_aside: called when a file had to make room for a new one.
    on_evicted: called with what was thrown away to make room.
    on_trouble: called when the file turns out to be damaged or unusable.
    """

    def __init__(
        self,
        path: Path,
        bound: Bound,
        clock: Clock,
        required: frozenset[str],
        *,
        on_change: Callable[[], None],
        on_evicted: Callable[[Evicted], None],
        on_set_aside: Callable[[], None],
        on_recall: Callable[[Memory], None],
        on_trouble: Callable[[StoreError], None],
    ) -> None:
        self.path = path
        self.bound = bound
        self.memory = Memory()
        self.marks = StationMarks(required)
        self.head: LogHead | None = None
        self.is_open = False
        self.last_record: Record | None = None
        self.writer = Writer(
            bound, on_commit=self._committed, on_evicted=on_evicted, on_trouble=on_trouble
        )
        self._clock = clock
        self._on_change = on_change
        self._on_set_aside = on_set_aside
        self._on_recall = on_recall
        self._first_opening = True
        self._copying = False  # one checkpoint at a time: a later one must not overtake
        self._marks_changed = False
        self._marks_saved_s = float("-inf")

    async def open(self, suspect: StoreError | None = None) -> tuple[SetAside | None, set[bytes]]:
        """Open the log, again if it is open already. Raises `StoreError`.

        Returns the file that was set aside for it, and the bodies of events that turned out to be
        stored although nobody was told. A `suspect` file (`StoreCorrupt`) is set aside first.
        """
        wall = self._clock.now().wall
        self.is_open = False
        opened = await self.writer.open(
            self.path,
            created_us=None if wall is None else round(wall * 1_000_000),
            suspect=suspect,
            known=self.head,
        )
        self._take(opened)
        self.is_open = True
        if opened.set_aside is not None:
            self._on_set_aside()
        self._on_change()
        return opened.set_aside, {body for _, body in opened.beyond}

    async def append(
        self, items: Sequence[Pending], room: Room = Room.NORMAL, *, everything: bool = False
    ) -> None:
        """Make records durable. Raises `StoreError`. `everything` that may ride on it does."""
        notes = self._notes(now=everything)
        copying = any(note.checkpoint is not None for note in notes)
        try:
            await self.writer.append(items, room, notes=notes)
        except BaseException:
            self._give_back(notes)
            raise
        finally:
            if copying:
                self._copying = False

    async def read(
        self, log_id: str, lane: Lane, after: int, *, limit_bytes: int, bare_through: int
    ) -> Reading:
        """Read from the log; see `sync.log.Log.read`."""

        def steps(log: EventLog) -> Steps[Reading]:
            if log.head.log_id != log_id:
                raise StoreError(f"log {log_id} is not open any more", hint="ask for the heads")
            return (
                yield from log.read(
                    lane, after, limit_bytes=limit_bytes, bare_through=bare_through
                )
            )

        return await self.writer.run(steps, urgent=lane is Lane.URGENT)

    async def trim_older_than(self, at_us: int) -> None:
        """Delete what every required station holds and was recorded before a wall time.

        In portions between commits. Raises `StoreError`.
        """

        def steps(log: EventLog) -> Steps[None]:
            more = True
            while more:
                yield
                delivered = self.writer.trimmable_through
                more = log.trim(min(delivered, log.older_than(at_us))) > 0

        await self.writer.run(steps)

    def acknowledge(self, station: str, lane: Lane, stored: int) -> None:
        """Note how far a station holds a lane."""
        if self.head is None or not self.marks.claim(station, lane, min(stored, self.head.head)):
            return
        self._marks_changed = True
        self._allow_trimming()

    def file_bytes(self) -> int:
        """Return the bytes on the medium, write-ahead log included."""
        total = 0
        for path in (self.path, self.path.with_name(self.path.name + "-wal")):
            try:
                total += path.stat().st_size
            except OSError:
                continue  # not there, or the medium is gone
        return total

    async def close(self, *, states: bool) -> None:
        """Write down what rides on commits, close the log and end the thread.

        `states`: the newest states as well; they must all be durable somewhere. A state that the
        log does not hold would keep its level, or its message, from ever being recorded.

        Gives up after `CLOSE_S`: what is durable is durable, and the process has to end.
        """
        notes = self._notes(now=True, states=states)

        def write(log: EventLog) -> Steps[None]:
            log.write_notes(notes)
            yield

        try:
            async with asyncio.timeout(CLOSE_S):
                if self.is_open and notes:
                    await self._try(write)
                await self.writer.stop()
        except TimeoutError:
            return

    async def _try(self, work: Callable[[EventLog], Steps[None]]) -> None:
        try:
            await self.writer.run(work)
        except StoreError:
            return  # nothing that rides on commits is needed to find it again

    def _committed(self, items: Sequence[Pending], first: int, head: LogHead) -> None:
        self.head = head
        for seq, item in enumerate(items, first):
            self.memory.take(seq, item.record, item.body, head.log_id)
        self._on_change()

    def _take(self, opened: Opened) -> None:
        same_log = self.head is not None and self.head.log_id == opened.head.log_id
        if same_log:
            for seq, body in opened.beyond:
                record = readable(body)
                if record is not None:
                    self.memory.take(seq, record, body, opened.head.log_id)
        else:
            if self.head is None:
                self._on_recall(opened.memory)
            opened.memory.merge(self.memory)  # what was learned before this log was open
            self.memory = opened.memory
            self.marks.load(opened.marks)
            self._allow_trimming()
        if self._first_opening:
            self._first_opening = False
            self.last_record = opened.last
        self.head = opened.head

    def _allow_trimming(self) -> None:
        self.writer.allow_trimming(
            self.marks.by_all(Lane.MAIN), urgent_through=self.marks.by_all(Lane.URGENT)
        )

    def _notes(self, *, now: bool = False, states: bool = True) -> list[Notes]:
        notes = []
        due = self.memory.checkpoint_due or (now and self.memory.changed)
        if due and states and not self._copying:
            notes.append(Notes(checkpoint=self.memory.take_checkpoint()))
            self._copying = True
        if self._marks_changed:
            at_s = self._clock.now().monotonic
            if now or at_s - self._marks_saved_s >= MARKS_EVERY_S:
                notes.append(Notes(marks=self.marks.all()))
                self._marks_changed = False
                self._marks_saved_s = at_s
        return notes

    def _give_back(self, notes: Sequence[Notes]) -> None:
        for note in notes:
            if note.checkpoint is not None:
                self.memory.give_back(note.checkpoint)
            if note.marks is not None:
                self._marks_changed = True
