"""What this gateway was asked to do, on disk before it is done: `commands.sqlite` in the data folder.

A row without an outcome is an intent: whoever finds one after a start knows that the command may or
may not have taken effect. A file that is damaged is set aside, never deleted; the new one remembers
since when it knows, so that no command from before can be taken for a new one. Methods block: call
them away from the loop, one at a time.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from events.commands import Challenge, Command, Outcome
from events.errors import StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreReadOnly

T = TypeVar("T")

FILE_NAME: Final = "commands.sqlite"
APPLICATION_ID: Final = 0x4E2B434D  # "N+CM"
BUSY_S: Final = 1.0
KEPT: Final = 1000  # the newest; older ones only while they could still come again

REQUEST, OUTCOME = "request", "outcome"

_TABLES = (
    "CREATE TABLE command (n INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, station TEXT NOT NULL,"
    " boot_id TEXT NOT NULL, until_ms INTEGER NOT NULL, body BLOB NOT NULL, outcome BLOB,"
    " request_told INTEGER NOT NULL DEFAULT 0, outcome_told INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE INDEX owed ON command (n) WHERE request_told = 0 OR outcome_told = 0",
    "CREATE TABLE since (boot_id TEXT NOT NULL, counter INTEGER NOT NULL) STRICT",
    "CREATE TABLE bypass (point TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID",
)
_KINDS: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_CANTOPEN: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_BUSY: StoreLocked,
    sqlite3.SQLITE_NOTADB: StoreCorrupt,
    sqlite3.SQLITE_CORRUPT: StoreCorrupt,
}

_command = msgspec.msgpack.Decoder(Command)
_outcome = msgspec.msgpack.Decoder(Outcome)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One command, without its payload, and what became of it."""

    station: str
    command: Command
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """An audit event that the log does not hold yet, or may hold already after a crash."""

    n: int
    what: str  # REQUEST or OUTCOME
    entry: Entry


class Journal:
    """The file in `directory`. Every method may raise `StoreError`, and opens it if need be.

    `challenge` is handed to a new file as the beginning of its knowledge.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE_NAME
        self._connection: sqlite3.Connection | None = None

    def open(self, challenge: Challenge) -> None:
        if self._connection is not None:
            return
        with self._translated():
            try:
                self._connection = _open(self._file, challenge)
            except sqlite3.DatabaseError as error:
                if _code(error) not in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}:
                    raise
                _set_aside(self._file)
                self._connection = _open(self._file, challenge)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def set_aside(self) -> None:
        """Put a damaged file away, never deleted; `open` begins a new one."""
        self.close()
        with self._translated():
            _set_aside(self._file)

    def since(self) -> Challenge:
        """Return the moment before which nothing is known."""
        with self._transaction() as connection:
            boot_id, counter = connection.execute("SELECT boot_id, counter FROM since").fetchone()
        return Challenge(boot_id=boot_id, counter=counter)

    def find(self, command_id: str) -> Entry | None:
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT station, body, outcome FROM command WHERE id = ?", (command_id,)
            ).fetchone()
            return None if row is None else _entry(*row)

    def intend(self, station: str, command: Command, outcome: Outcome | None = None) -> bool:
        """Keep an intent, or what is settled at once; False, and nothing, for an id that is known."""
        body = msgspec.msgpack.encode(msgspec.structs.replace(command, payload=b""))
        until_ms = command.challenge.counter + round(command.expires_s * 1000)
        with self._transaction() as connection:
            added = connection.execute(
                "INSERT OR IGNORE INTO command (id, station, boot_id, until_ms, body, outcome)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    command.id,
                    station,
                    command.challenge.boot_id,
                    min(until_ms, 2**63 - 1),
                    body,
                    None if outcome is None else msgspec.msgpack.encode(outcome),
                ),
            ).rowcount
        return added == 1

    def settle(self, outcome: Outcome) -> None:
        """Keep what became of an intent. What is settled stays as it is."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE command SET outcome = ? WHERE id = ? AND outcome IS NULL",
                (msgspec.msgpack.encode(outcome), outcome.command_id),
            )

    def intents(self) -> list[Entry]:
        """Return every command without an outcome."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT station, body, outcome FROM command WHERE outcome IS NULL ORDER BY n"
            ).fetchall()
            return [_entry(*row) for row in rows]

    def owed(self, limit: int) -> list[Owed]:
        """Return audit events that are still to be recorded, oldest first."""
        with self._transaction() as connection:
            rows = connection.execute(
                "SELECT n, request_told, outcome_told, station, body, outcome FROM command"
                " WHERE request_told = 0 OR outcome_told = 0 ORDER BY n LIMIT ?",
                (limit,),
            ).fetchall()
            entries = [(*row[:3], _entry(*row[3:])) for row in rows]
        owed = []
        for n, request_told, outcome_told, entry in entries:
            if not request_told:
                owed.append(Owed(n=n, what=REQUEST, entry=entry))
            if not outcome_told and entry.outcome is not None:
                owed.append(Owed(n=n, what=OUTCOME, entry=entry))
        return owed

    def newest(self) -> int:
        """Return the number of the newest row, 0 where there is none."""
        with self._transaction() as connection:
            (n,) = connection.execute("SELECT coalesce(max(n), 0) FROM command").fetchone()
        return int(n)

    def told(self, owed: Owed) -> None:
        """Note that an audit event is recorded."""
        with self._transaction() as connection:
            connection.execute(
                f"UPDATE command SET {owed.what}_told = 1 WHERE n = ?",  # noqa: S608 - our words
                (owed.n,),
            )

    def trim(self, now: Challenge) -> None:
        """Forget the oldest, but none that could still come again."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM command WHERE n <= (SELECT max(n) FROM command) - ?"
                " AND outcome IS NOT NULL AND request_told AND outcome_told"
                " AND NOT (boot_id = ? AND until_ms >= ?)",
                (KEPT, now.boot_id, now.counter),
            )

    def bypasses(self) -> dict[str, bytes]:
        with self._transaction() as connection:
            return dict(connection.execute("SELECT point, body FROM bypass").fetchall())

    def keep_bypass(self, point: str, body: bytes | None) -> None:
        """Keep a bypass, or forget it."""
        with self._transaction() as connection:
            if body is None:
                connection.execute("DELETE FROM bypass WHERE point = ?", (point,))
            else:
                connection.execute("INSERT OR REPLACE INTO bypass VALUES (?, ?)", (point, body))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        if connection is None:
            raise StoreReadOnly(
                f"{self._file} is not open", hint="see the fault of the store, or the data folder"
            )
        with self._translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kind = _KINDS.get(_code(error), StoreError)
            raise kind(
                f"{self._file}: {error}", hint="look at the disk of the data folder"
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StoreCorrupt(
                f"{self._file} holds a command that nobody can read: {error}",
                hint="it is set aside at the next start",
            ) from error
        except OSError as error:
            raise StoreReadOnly(f"{self._file}: {error.strerror}") from error


class JournalThread:
    """The one thread in which a journal is used from the loop."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="command-journal")

    async def run(self, work: Callable[[Journal], T]) -> T:
        """Do something with the journal; a caller that is cancelled does not stop it."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, self._journal)

    def close(self) -> None:
        """Close the journal; what is being written is finished first."""
        self._thread.submit(self._journal.close)
        self._thread.shutdown()


def _open(file: Path, challenge: Challenge) -> sqlite3.Connection:
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        file, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA synchronous = EXTRA")  # the folder too, after each commit
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and application_id != APPLICATION_ID:
            raise sqlite3.DatabaseError("a database of another program")  # noqa: TRY301 - as below
        if not tables:
            _create(connection, challenge)
        connection.execute("SELECT boot_id, counter FROM since").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _create(connection: sqlite3.Connection, challenge: Challenge) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute("INSERT INTO since VALUES (?, ?)", (challenge.boot_id, challenge.counter))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")


def _set_aside(file: Path) -> None:
    number = 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    file.rename(aside)
    with suppress(FileNotFoundError):
        file.with_name(f"{file.name}-journal").unlink()


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_NOTADB) & 0xFF


def _entry(station: str, body: bytes, outcome: bytes | None) -> Entry:
    return Entry(
        station=station,
        command=_command.decode(body),
        outcome=None if outcome is None else _outcome.decode(outcome),
    )
