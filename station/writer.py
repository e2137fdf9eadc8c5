"""One thread, one connection, and group commit without a timer.

Jobs are functions of the connection. While the thread works on one transaction, new jobs gather;
the next transaction takes them, urgent ones alone and first; one in progress is cut short for them
between two jobs, and what it did not come to waits for the one after. When one of them fails, all
is undone and done once more, each job by itself, so that only the failing one fails: a job must
bear to be run again. When the commit itself fails, all its jobs do.

A programming error in a job is undone and reaches its caller alone, who knows what depends on it: a
command is settled as lost, an answer to a person says so. The commit of events and the station's own
announcements are what the program is for: there it ends the process, and what was not acknowledged
comes again. An error of the writer itself reaches every caller, to the same end.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from events.errors import StoreError
from station.schema import FILE_NAME, PAGE_SIZE, open_writer, store_error

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

JOBS_PER_COMMIT_MAX = 256
EVENTS_PER_COMMIT_MAX = 2_000  # some 20 ms: an alarm waits for what is left of one
EVENTS_BEFORE_URGENT = 200  # that a transaction stores before it is cut short for an urgent job
COPY_DUE_BYTES = 4 * 1024 * 1024  # some milliseconds; SQLite's own time for it is inside a commit
COMMIT_BYTES = 5 * PAGE_SIZE  # that a commit changes whatever it stores
ROW_FACTOR = 2  # what a body becomes with its columns
JOBS_WAITING_MAX = 100_000  # each caller waits for its answer: this many callers is a fault

NEVER_STORED = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
)
"""What a row that can never be stored raises; a disk that is full or gone raises none of these."""


@dataclass(slots=True)
class _Job:
    work: Work
    answer: asyncio.Future[Any]
    note: Callable[[bool], None] | None = None
    careful: Work | None = None
    leaves_rows: bool = False
    events: int = 0
    size: int = 0
    urgent: bool = False
    outcome: Any = None
    error: Exception | None = None


class Writer:
    """The writing side of the station's file. Use from one event loop.

    flush: writes the rows that jobs left to be written together; called in the thread before other
        jobs and before the end of a transaction.
    rolled_back: called in the thread after anything was undone: what was remembered of the file
        may be wrong now.
    trouble: why the last transaction failed, None if it did not.
    taken: set once the file was deleted or replaced while it is open: nothing is committed any more.
    """

    def __init__(
        self,
        folder: Path,
        flush: Callable[[sqlite3.Connection], None],
        rolled_back: Callable[[], None],
    ) -> None:
        self._flush = flush
        self._file = folder / FILE_NAME
        self._rolled_back = rolled_back
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="station-writer")
        self._connection: sqlite3.Connection | None = None
        self._urgent: deque[_Job] = deque()
        self._waiting: deque[_Job] = deque()
        self._working: asyncio.Future[None] | None = None
        self._urgent_alone = False
        self._written = 0  # into the write-ahead log since it was copied, by estimate
        self._identity: tuple[int, int] | None = None
        self._wal = self._file.with_name(f"{FILE_NAME}-wal")
        self._wal_identity: tuple[int, int] | None = None  # made by the first write
        self.trouble: StoreError | None = None
        self.taken: StoreError | None = None

    async def open(self) -> None:
        """Open the file, or make it. Raises `StoreError`."""
        loop = asyncio.get_running_loop()
        folder = self._file.parent
        self._connection = await loop.run_in_executor(self._thread, open_writer, folder)
        self._identity = _identity(self._file)

    async def close(self) -> None:
        """Finish what was asked for, then close the file."""
        while self._working is not None:
            await asyncio.wait([self._working])
        connection, self._connection = self._connection, None
        if connection is not None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, _close, connection)
        self._thread.shutdown(wait=False)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a job in the next transaction; return its result once that is durable.

        A cancelled caller's job may still take effect. Raises `StoreError`.
        """
        result: T = await self.submit(work)
        return result

    def submit(
        self,
        work: Work,
        *,
        note: Callable[[bool], None] | None = None,
        careful: Work | None = None,
        leaves_rows: bool = False,
        events: int = 0,
        size: int = 0,
        urgent: bool = False,
    ) -> asyncio.Future[Any]:
        """Put a job behind those that wait, and return its result to come. Raises `StoreError`.

        note: told on the loop whether it took effect, also where the caller was cancelled.
        careful: does the same where `work` met something that can never be stored as it is.
        leaves_rows: it needs no row that another job of the transaction left to `flush`.
        events, size: how many it stores, and how many bytes of them, at most.
        urgent: it goes before all that are not.
        """
        if self._connection is None:
            raise StoreError("the station's store is closed", hint="start the station")
        if len(self._waiting) + len(self._urgent) >= JOBS_WAITING_MAX:
            raise StoreError("the store does not keep up", hint="look at the station's disk")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        job = _Job(work, answer, note, careful, leaves_rows, events, size, urgent)
        (self._urgent if urgent else self._waiting).append(job)
        if self._working is None:
            self._start()
        return answer

    def _start(self) -> None:
        loop = asyncio.get_running_loop()
        self._working = loop.run_in_executor(self._thread, self._work, loop)
        self._working.add_done_callback(self._rested)

    def _rested(self, done: asyncio.Future[None]) -> None:
        self._working = None
        done.result()
        if self._urgent or self._waiting:  # they came while the thread was ending
            self._start()

    def _finished(self, jobs: list[_Job], failure: Exception | None) -> None:
        if failure is None or isinstance(failure, StoreError):
            self.trouble = failure
        for job in jobs:
            error = failure or job.error
            if job.note is not None:
                job.note(error is None)
            if job.answer.done():
                continue  # its caller was cancelled
            if error is None:
                job.answer.set_result(job.outcome)
            else:
                job.answer.set_exception(error)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do what waits, in the thread: the loop is busy, and is not waited for between commits."""
        while jobs := self._next_jobs():
            failure = None
            try:
                self._transact(jobs)
            except Exception as error:  # noqa: BLE001 - every caller of the transaction gets it
                failure = error
            loop.call_soon_threadsafe(self._finished, jobs, failure)
            self._written += COMMIT_BYTES + ROW_FACTOR * sum(job.size for job in jobs)
            if self._written >= COPY_DUE_BYTES and not self._urgent:
                self._copy()

    def _copy(self) -> None:
        """Copy the write-ahead log into the file, so that no commit has to.

        When it fails, nothing is lost: it is tried again when as much was written once more.
        """
        self._written = 0
        assert self._connection is not None  # noqa: S101 - closed after the last job
        with suppress(sqlite3.Error):
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def _next_jobs(self) -> list[_Job]:
        """Take the jobs of the next transaction.

        Urgent ones go alone, so that they are durable without the many that wait; not twice in a
        row while others wait, so that these go on too.
        """
        alone = bool(self._urgent) and not (self._urgent_alone and self._waiting)
        self._urgent_alone = alone
        jobs: list[_Job] = []
        events = 0
        while len(jobs) < JOBS_PER_COMMIT_MAX:
            queue = self._urgent if self._urgent or alone else self._waiting
            if not queue:
                break
            events += queue[0].events
            if jobs and events > EVENTS_PER_COMMIT_MAX:
                break
            jobs.append(queue.popleft())
        return jobs

    def _transact(self, jobs: list[_Job]) -> None:
        connection = self._connection
        assert connection is not None  # noqa: S101 - jobs are only taken while the file is open
        done = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            if not self._all_at_once(connection, jobs):
                self._undo(connection)
                connection.execute("BEGIN IMMEDIATE")
                for job in jobs:
                    self._attempt(connection, job)
            self._refuse_taken_file()
            connection.execute("COMMIT")
            done = True
        except sqlite3.Error as error:
            raise store_error(error, self._file) from error
        finally:
            if not done:
                self._undo(connection)

    def _all_at_once(self, connection: sqlite3.Connection, jobs: list[_Job]) -> bool:
        """Do the jobs without a way back for each; False when one failed.

        Those that are put off for an urgent one are taken out of `jobs`.
        """
        done = 0
        try:
            for number, job in enumerate(jobs):
                if self._urgent and not job.urgent and done >= EVENTS_BEFORE_URGENT:
                    self._waiting.extendleft(reversed(jobs[number:]))
                    del jobs[number:]
                    break
                if not job.leaves_rows:
                    self._flush(connection)
                job.outcome = job.work(connection)
                done += job.events
            self._flush(connection)
        except Exception:  # noqa: BLE001 - told by `_attempt` to the caller of that job alone
            return False
        return True

    def _refuse_taken_file(self) -> None:
        """Raise when our files are not at their paths any more: the next start would not find them.

        Without its write-ahead log the file lacks what was stored last. The copy that is still open
        is folded into it when it is closed.
        """
        wal = _identity(self._wal)
        self._wal_identity = self._wal_identity or wal
        gone = self._file if _identity(self._file) != self._identity else None
        if gone is None and self._wal_identity != wal:
            gone = self._wal
        if gone is not None:
            self.taken = StoreError(
                f"{gone} was deleted or replaced while it was open",
                hint="let nobody but the station touch its data folder; start the station again:"
                " the gateways send again what they still hold",
            )
            raise self.taken

    def _undo(self, connection: sqlite3.Connection) -> None:
        self._rolled_back()
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # what went wrong is being told already
                connection.execute("ROLLBACK")

    def _attempt(self, connection: sqlite3.Connection, job: _Job) -> None:
        connection.execute("SAVEPOINT job")
        try:
            job.outcome = job.work(connection)
            self._flush(connection)
        except StoreError as error:
            job.error = error
        except NEVER_STORED as error:
            if job.careful is None:
                job.error = error
                if isinstance(error, sqlite3.Error):
                    job.error = store_error(error, self._file)
            else:
                self._roll_back_to(connection, "job")
                careful, job.careful = job.careful, None
                job.work = careful
                self._attempt(connection, job)
                return
        except sqlite3.Error as error:
            job.error = store_error(error, self._file)
        except Exception as error:  # noqa: BLE001 - whoever submitted it judges it
            job.error = error
        else:
            connection.execute("RELEASE job")
            return
        self._roll_back_to(connection, "job")

    def _roll_back_to(self, connection: sqlite3.Connection, savepoint: str) -> None:
        self._rolled_back()
        # some errors (full, I/O) have already ended the transaction: this raises, and all fail
        connection.execute(f"ROLLBACK TO {savepoint}")
        connection.execute(f"RELEASE {savepoint}")


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _close(connection: sqlite3.Connection) -> None:
    connection.close()
