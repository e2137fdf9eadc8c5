"""The loop's side of the writer: questions to the one thread that touches the file, and answers.

Answers come back by `call_soon_threadsafe`, one call for a whole commit.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from buffer.bound import Bound, Room, cost_bytes
from buffer.entries import Pending
from buffer.eviction import Evicted
from buffer.log import EventLog
from buffer.notes import Notes
from buffer.writer_thread import Append, Group, Job, Opened, Steps, Stop, WriterThread
from events.errors import StoreError
from events.replication import LogHead

T = TypeVar("T")

QUEUE_BYTES_MAX: Final = 2 * 1024 * 1024  # waiting for their commit; then producers wait
QUEUE_EVENTS_MAX: Final = 8192


class Writer:
    """Appends records and runs other work on the log, from the loop.

    on_commit: called on the loop with the records of each commit, the number of the first and the
        log's new head, in the order of the log and before the producers go on.
    on_evicted: called on the loop with what was thrown away to make room.
    on_trouble: called on the loop when work that nobody waits for failed.
    """

    def __init__(
        self,
        bound: Bound,
        *,
        on_commit: Callable[[Sequence[Pending], int, LogHead], None],
        on_evicted: Callable[[Evicted], None],
        on_trouble: Callable[[StoreError], None],
    ) -> None:
        self._on_commit = on_commit
        self._on_evicted = on_evicted
        self._on_trouble = on_trouble
        self._thread = WriterThread(bound, self)
        self._ended = asyncio.Event()
        self._queued_bytes = 0
        self._queued_events = 0
        self._room = asyncio.Event()
        self._asked: dict[Append | Job, float] = {}
        self._unsent: list[Append | Job | Stop] = []

    def start(self) -> None:
        """Start the thread; answers come to the loop that runs now."""
        self._thread.start(asyncio.get_running_loop())

    async def stop(self) -> None:
        """Finish what is queued, close the log and end the thread."""
        self._send(Stop())
        await self.wait_ended()

    async def wait_ended(self) -> None:
        """Return when the thread has ended, on purpose or not."""
        await self._ended.wait()

    def answered_at(self) -> float:
        """Return the monotonic second up to which the thread is known to answer.

        With nothing asked of it that is now; an error is as good an answer as a success.
        """
        if self._ended.is_set():
            return self._thread.answered_at
        asked_at = next(iter(self._asked.values()), None)
        return time.monotonic() if asked_at is None else max(self._thread.answered_at, asked_at)

    def allow_trimming(self, through: int, *, urgent_through: int) -> None:
        """Let delivered events go when room is needed: all up to `through`, urgent ones further."""
        self._thread.trim_through = through
        self._thread.held_through = urgent_through

    @property
    def trimmable_through(self) -> int:
        return self._thread.trim_through

    async def open(
        self,
        path: Path,
        *,
        created_us: int | None,
        suspect: StoreError | None = None,
        known: LogHead | None = None,
    ) -> Opened:
        """Open the log, after closing the one that is open. Raises `StoreError`.

        A `suspect` that is `StoreCorrupt` sets the present file aside first. `known` is the head
        as the caller knows it: events beyond it are handed back.
        """
        return await self._work(self._thread.open(path, created_us, suspect, known), alone=True)

    async def append(
        self,
        items: Sequence[Pending],
        room: Room = Room.NORMAL,
        *,
        notes: list[Notes] | None = None,
    ) -> int:
        """Make records durable and return the number of the first. Raises `StoreError`.

        Waits while too much is queued. A caller that is cancelled gets no answer; its records may
        be stored all the same. After an error `notes` are those that were not written.
        """
        while self._queued_bytes >= QUEUE_BYTES_MAX or self._queued_events >= QUEUE_EVENTS_MAX:
            self._room.clear()
            await self._room.wait()
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        append = Append(items, room, [] if notes is None else notes, cost_bytes(items), done)
        self._count(append, 1)
        self._submit(append)
        return await append.done

    async def run(self, work: Callable[[EventLog], Steps[T]], *, urgent: bool = False) -> T:
        """Run work on the log in slices. Raises `StoreError`, also when no log is open.

        What is `urgent` has its first slice before the next one of any other work.
        """
        return await self._work(self._thread.on_log(work), urgent=urgent)

    async def beside(self, work: Steps[T]) -> T:
        """Run work that needs no log, in slices, in the thread that may wait for the medium."""
        return await self._work(work)

    async def snapshot(self, target: Path) -> None:
        """Copy the log to a file while appends and readings go on. Raises `StoreError`."""
        await self._work(self._thread.snapshot(target))

    async def _work(self, steps: Steps[T], *, alone: bool = False, urgent: bool = False) -> T:
        done = asyncio.get_running_loop().create_future()
        job = Job(steps, done, alone=alone, urgent=urgent)
        self._submit(job)
        try:
            result: T = await job.done
        finally:
            job.abandoned = True
        return result

    def _submit(self, request: Append | Job) -> None:
        if self._ended.is_set():
            raise RuntimeError("the store's writer has ended")
        self._asked[request] = time.monotonic()
        self._send(request)

    def _send(self, request: Append | Job | Stop) -> None:
        """Send what is asked in one turn of the loop in one piece: the thread wakes once for it."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(request)

    def _flush(self) -> None:
        self._thread.put(self._unsent)
        self._unsent = []

    def _count(self, append: Append, sign: int) -> None:
        self._queued_events += sign * len(append.items)
        self._queued_bytes += sign * append.cost_bytes

    # ------------------------------------------------------------------ answers, on the loop

    def deliver_group(self, group: Group) -> None:
        for append in (*group.accepted, *group.refused):
            self._asked.pop(append, None)
            self._count(append, -1)
        if group.accepted and group.head is not None:
            self._on_commit(group.items(), group.accepted[0].first, group.head)
        for append in (*group.accepted, *group.refused):
            if append.done.done():
                continue  # the caller was cancelled
            if append.error is not None:
                append.done.set_exception(append.error)
            else:
                append.done.set_result(append.first)
        self._room.set()

    def deliver_job(self, job: Job) -> None:
        self._asked.pop(job, None)
        if job.done.done():
            return
        if job.error is not None:
            job.done.set_exception(job.error)
        else:
            job.done.set_result(job.result)

    def deliver_evicted(self, evicted: Evicted) -> None:
        self._on_evicted(evicted)

    def deliver_trouble(self, error: StoreError) -> None:
        self._on_trouble(error)

    def deliver_end(self) -> None:
        for request in self._asked:
            if not request.done.done():
                request.done.set_exception(RuntimeError("the store's writer has ended"))
        self._asked.clear()
        self._ended.set()
