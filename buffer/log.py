"""The log: append-only, numbered without gaps, chained, durable when `append` returns.

Synchronous, on one connection, in one thread: the writer's. Tests drive it by hand.
"""

import secrets
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from buffer import schema
from buffer.bound import BOUND_BYTES_DEFAULT, Bound, Room, cost_bytes
from buffer.entries import Pending
from buffer.eviction import ROW_BYTES, Eviction, Gaps, Step
from buffer.faults import HINTS, translated
from buffer.memory import CHECKPOINT_BYTES, Memory, readable
from buffer.notes import Notes, Uncopied, load_states, notes_bytes, read_marks, write_notes
from buffer.reading import LogReader
from buffer.rows import Row, Rows
from events import __version__
from events.chain import genesis, link
from events.errors import StoreCorrupt, StoreError, StoreNewer
from events.replication import Lane, LogHead, Reading

FILE_NAME: Final = "events.db"
TRIM_EVENTS: Final = 512  # in one transaction
SPARE_PAGES: Final = 256
VACUUM_PAGES: Final = 64  # in one step
VACUUM_FROM_PAGES: Final = 4096  # fewer free ones are not worth the writing

_LOG_ID_BYTES: Final = 8
_DELETE: Final = (
    "DELETE FROM routine_event WHERE seq <= ?",
    "DELETE FROM urgent_event WHERE seq <= ?",
)


class EventLog:
    """One open store. Every method raises `StoreError`; none leaves a transaction open."""

    def __init__(self, path: Path, connection: sqlite3.Connection, bound: Bound) -> None:
        self.path = path
        self.bound = bound
        self.connection = connection
        self._rows = Rows(connection)
        self._reader = LogReader(connection, lambda: self._seq)
        self._wal_path = path.with_name(path.name + "-wal")
        self._files = schema.OpenFiles(path)
        self._log_id, self._checkpoint = self._identity()
        self._first, self._seq, self._chain = self._ends()
        self._gaps = Gaps(connection, self._log_id, self._rows.chain_at)
        self._eviction = Eviction(connection, self._gaps, bound.group_bytes // ROW_BYTES)
        self._doubtful = False  # a transaction failed; what it left is looked at before the next
        self._wal_written = schema.size_bytes(self._wal_path)  # what a killed run left
        self._used = self._rows.used_bytes()
        self._uncopied = Uncopied()
        self._free = self._rows.free_pages()  # as of the newest look: appends use them up
        page_limit = bound.file_bytes // schema.PAGE_BYTES
        if self._rows.page_count() > page_limit:  # the bound was lowered: room to begin with
            page_limit = self._rows.page_count() + SPARE_PAGES
        schema.pragma(connection, f"max_page_count = {page_limit}")
        schema.pragma(connection, f"journal_size_limit = {bound.wal_bytes}")
        # We fold it in ourselves, after the producers have their answer; this is the fallback.
        schema.pragma(
            connection, f"wal_autocheckpoint = {4 * bound.wal_bytes // schema.PAGE_BYTES}"
        )

    @classmethod
    def open(
        cls, path: Path, *, bound: Bound | None = None, created_us: int | None = None
    ) -> Self:
        """Open the store at `path`, or begin a new log there.

        Checks that the newest event fits the chain. `created_us` is written into a new log.
        """
        connection = schema.connect(path)
        try:
            with translated(f"cannot open the store {path}", opening=True):
                _begin(connection, created_us)
                return cls(path, connection, bound or Bound(BOUND_BYTES_DEFAULT))
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        with translated("cannot close the store"):
            self.connection.close()

    @property
    def head(self) -> LogHead:
        return LogHead(log_id=self._log_id, first=self._first, head=self._seq, chain=self._chain)

    @property
    def file_bytes(self) -> int:
        """The bytes on the medium, write-ahead log included."""
        return schema.size_bytes(self.path) + schema.size_bytes(self._wal_path)

    def has_room(self, need_bytes: int, room: Room) -> bool:
        """Tell whether so much fits the bound.

        With room for the copy of the newest states, its own among them: nothing may go before it
        is copied, so a store without that room would stay full for ever.
        """
        need_bytes += need_bytes + self._uncopied.bytes
        limit = self.bound.limit_bytes(room)
        if self._used + need_bytes > limit:
            with translated("cannot measure the store"):
                self._used = self._rows.used_bytes()  # what is counted up is more
        return self._used + need_bytes <= limit

    def append(self, items: Sequence[Pending], notes: Sequence[Notes] = ()) -> int:
        """Make records durable in one transaction and return the number of the first.

        They have consecutive numbers in the order given. `notes` ride on the same transaction.
        """
        seq, chain = self._seq, self._chain
        routine: list[Row] = []
        urgent: list[Row] = []
        for item in items:
            seq += 1
            chain = link(chain, seq, item.body)
            record = item.record
            seen = record.observation
            row = (seq, chain, str(seen.kind), str(seen.point), record.stamp.wall_us, item.body)
            (urgent if record.urgent else routine).append(row)
        with self._transaction("cannot store events"):
            self._refuse_lost_file()
            if self._doubtful:
                self._refuse_unknown_events()
            self._rows.insert("routine_event", routine)
            self._rows.insert("urgent_event", urgent)
            copied = write_notes(self.connection, notes, self._checkpoint)
        self._copied(copied)
        self._doubtful = False
        first = self._seq + 1
        for number, item in enumerate(items, first):
            self._uncopied.add(number, item)
        self._seq, self._chain = seq, chain
        cost = cost_bytes(items)
        self._used += cost
        self._wal_written += cost + notes_bytes(notes)
        return first

    def write_notes(self, notes: Sequence[Notes]) -> None:
        """Make notes durable in a transaction of their own."""
        with self._transaction("cannot store marks"):
            copied = write_notes(self.connection, notes, self._checkpoint)
        self._copied(copied)
        self._wal_written += notes_bytes(notes)

    def read(
        self, lane: Lane, after: int, *, limit_bytes: int, bare_through: int = 0
    ) -> Generator[None, None, Reading]:
        """Return entries of a lane in slices; see `sync.log.Log.read` for the meaning."""
        return self._reader.read(lane, after, limit_bytes=limit_bytes, bare_through=bare_through)

    def body(self, seq: int) -> bytes | None:
        """Return the bytes of one event, None if it is not held."""
        with translated("cannot read the log"):
            row = self._rows.event(seq)
        return None if row is None else row[1]

    def body_from(self, seq: int) -> bytes | None:
        """Return the bytes of the first event numbered `seq` or above, None if there is none."""
        with translated("cannot read the log"):
            return self._rows.body_from(seq)

    def marks(self) -> dict[tuple[str, Lane], int]:
        with translated("cannot read the marks"):
            return read_marks(self.connection)

    def memory(self) -> Memory:
        """Return what was last stored of everything: the copy, and the events after it."""
        memory = Memory(checkpoint_bytes=min(CHECKPOINT_BYTES, self.bound.checkpoint_bytes))
        self._uncopied = Uncopied()
        with translated("cannot read the newest states"):
            load_states(self.connection, self._checkpoint, memory)
            for seq, body in self._rows.bodies_after(self._checkpoint):
                record = readable(body)
                if record is not None:
                    memory.take(seq, record, body, self._log_id)
                    self._uncopied.add(seq, Pending(record, body))
        return memory

    def trim(self, through: int) -> int:
        """Delete at most `TRIM_EVENTS` of the oldest events up to `through`; return how many.

        The newest event stays, and what the copy of the newest states does not cover yet. What is
        gone is declared as a gap, with the chain values at both ends.
        """
        with self._transaction("cannot trim the log"):
            last = min(
                through,
                self._first + TRIM_EVENTS - 1,
                self._disposable(),
                self._rows.before_gap(self._first, self._seq),
            )
            if last < self._first:
                return 0
            after = self._rows.chain_at(last)
            if after is None:
                raise StoreCorrupt(f"event {last} is missing", hint=HINTS[StoreCorrupt])
            count = 0
            for statement in _DELETE:
                count += self.connection.execute(statement, (last,)).rowcount
            self._gaps.trimmed(last, after)
        before = self._used
        self._measure_anew()
        self._wal_written += (
            max(0, before - self._used) // 4
        )  # pages that are free are not written
        return count

    def evict(self, *, held: int, urgent: bool) -> Step:
        """Delete some of the least valuable events although not every station holds them.

        See `buffer.eviction` for the order; `held` and `urgent` are those of `Eviction.step`. The
        newest event stays, and what the copy of the newest states does not cover yet.
        """
        try:
            with self._transaction("cannot make room in the log"):
                step = self._eviction.step(self._disposable(), held=held, urgent=urgent)
        except StoreError:
            self._eviction.look_anew()  # what it deleted is there again
            raise
        if step.rows:
            self._wal_written += step.rows * ROW_BYTES
            self._measure_anew()
        return step

    def older_than(self, at_us: int) -> int:
        """Return up to where the oldest events were recorded before a wall time, in microseconds.

        Looks at one portion of `trim`; 0 if there is none. An event without a time goes with the
        next one that has one.
        """
        with translated("cannot look at the oldest events"):
            return self._rows.older_than(at_us, self._first, self._first + TRIM_EVENTS - 1)

    @property
    def vacuum_due(self) -> bool:
        """Tell whether a quarter of the file is free, and worth giving back to the medium."""
        free = self._free
        return free > VACUUM_FROM_PAGES and 3 * free * schema.PAGE_BYTES > self._used

    @property
    def vacuum_enough(self) -> bool:
        return self._free <= VACUUM_FROM_PAGES // 4

    def vacuum(self) -> None:
        """Give some free pages back; the file is shorter once the write-ahead log is folded."""
        self._free = 0  # also when it fails: looked at again after the next trimming
        with translated("cannot shorten the store", place=self.path.parent):
            self._vacuum()
            self._free = self._rows.free_pages()
        self._wal_written += (
            2 * VACUUM_PAGES * schema.PAGE_BYTES
        )  # each page, and who points to it

    @property
    def trim_due(self) -> bool:
        """Tell whether delivered events should go before somebody has to wait for it."""
        return self._used > self.bound.trim_from_bytes

    @property
    def trim_enough(self) -> bool:
        return self._used <= self.bound.trim_to_bytes

    @property
    def evict_due(self) -> bool:
        """Tell whether undelivered events should go before somebody has to wait for it."""
        return self._used > self.bound.evict_from_bytes

    @property
    def evict_enough(self) -> bool:
        return self._used <= self.bound.evict_to_bytes

    @property
    def fold_due(self) -> bool:
        """Tell whether the write-ahead log is long enough to be folded into the file."""
        return self._wal_written >= self.bound.wal_bytes

    @property
    def fold_overdue(self) -> bool:
        """Tell whether folding can no longer wait for a quiet moment."""
        return self._wal_written >= self.bound.wal_bytes + self.bound.group_bytes

    def fold(self) -> None:
        """Fold the write-ahead log into the file; give pages back if the file is over its bound."""
        self._wal_written = 0  # also when it fails: tried again after as much again
        with translated("cannot checkpoint the store", place=self.path.parent):
            schema.pragma(self.connection, "wal_checkpoint(PASSIVE)")
            if self._rows.page_count() * schema.PAGE_BYTES > self.bound.file_bytes:
                self._vacuum()

    def quick_check(self) -> list[str]:
        """Let SQLite look over the whole file; an empty list is a clean bill. Takes its time."""
        with translated("cannot check the store"):
            rows = self.connection.execute("PRAGMA quick_check").fetchall()
        return [text for (text,) in rows if text != "ok"]

    # ------------------------------------------------------------------ inside

    def _vacuum(self) -> None:
        # A page per step, and no row to fetch: `execute` would stop after the first.
        self.connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    @contextmanager
    def _transaction(self, failing: str) -> Iterator[None]:
        with translated(failing, place=self.path.parent):
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after the worst errors.
                self._doubtful = True
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise

    def _identity(self) -> tuple[str, int]:
        row = self.connection.execute(
            "SELECT log_id, chain_algorithm, checkpoint FROM log WHERE id = 1"
        ).fetchone()
        if row is None:
            raise StoreCorrupt(f"{self.path} names no log", hint=HINTS[StoreCorrupt])
        log_id, algorithm, checkpoint = row
        if algorithm != schema.CHAIN_ALGORITHM:
            raise StoreNewer(
                f"{self.path} is chained by {algorithm}, which this program does not know",
                hint=HINTS[StoreNewer],
            )
        return log_id, checkpoint

    def _ends(self) -> tuple[int, int, bytes]:
        """Return the oldest and the newest number and the chain value at the newest, checked."""
        newest = self._rows.newest()
        first = self._rows.oldest() or newest + 1
        if newest == 0:
            return first, 0, genesis(self._log_id)
        chain = self._rows.chain_at(newest)
        before = genesis(self._log_id) if newest == 1 else self._rows.chain_at(newest - 1)
        event = self._rows.event(newest)
        broken = chain is None or (
            event is not None and (before is None or link(before, newest, event[1]) != chain)
        )
        if chain is None or broken:
            raise StoreCorrupt(
                f"{self.path}: event {newest} does not fit the chain", hint=HINTS[StoreCorrupt]
            )
        return first, newest, chain

    def _refuse_unknown_events(self) -> None:
        """Raise when the file holds what we were told had failed: a number would be used twice."""
        if self._rows.newest() != self._seq:
            raise StoreError(
                "a commit that failed is in the file all the same", hint=HINTS[StoreError]
            )

    def _refuse_lost_file(self) -> None:
        """Raise when our files are not at their paths any more: the next start would not find them."""
        if (lost := self._files.lost()) is not None:
            raise StoreError(
                f"{lost} was deleted or replaced while it was open",
                hint="let nobody but the gateway touch its data folder",
            )

    def _disposable(self) -> int:
        """Return up to where events may go: the copy of the states holds them, and a newer is there."""
        return min(self._seq - 1, self._checkpoint)

    def _copied(self, through: int) -> None:
        self._checkpoint = through
        self._used += self._uncopied.copied(through)

    def _measure_anew(self) -> None:
        oldest = self._rows.oldest()
        if oldest is not None and oldest > self._seq:  # and nothing would ever be trimmed again
            raise StoreCorrupt(
                f"{self.path}: event {oldest} is none that was ever recorded",
                hint=HINTS[StoreCorrupt],
            )
        self._first = oldest or self._seq + 1
        self._used = self._rows.used_bytes()
        self._free = self._rows.free_pages()


def _begin(connection: sqlite3.Connection, created_us: int | None) -> None:
    """Give a new file its log, under an id that no other log ever has."""
    connection.execute(
        "INSERT INTO log (id, log_id, created_us, created_by, chain_algorithm, checkpoint) "
        "SELECT 1, ?, ?, ?, ?, 0 WHERE NOT EXISTS (SELECT 1 FROM log)",
        (secrets.token_hex(_LOG_ID_BYTES), created_us, __version__, schema.CHAIN_ALGORITHM),
    )
