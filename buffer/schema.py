"""The file: its settings, its tables, and which versions of it this program opens.

Routine and urgent events lie in two tables under one sequence of numbers, so that a single durable
alarm writes one page and not also one of an index, the urgent lane is a table of its own, and
measurements can go without leaving holes between alarms. The view `event` shows them as one.

`user_version` is major * 1000 + minor. A minor only adds tables, or columns with defaults: older
and newer programs of one major open each other's files. Only a newer major is refused.
"""

import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from buffer.faults import HINTS, translated
from events.errors import StoreCorrupt, StoreNewer

if TYPE_CHECKING:
    from sqlite_utils.db import Database

APPLICATION_ID: Final = 0x4E504C2B  # "NPL+"
MAJOR: Final = 1
MINOR: Final = 0
USER_VERSION: Final = MAJOR * 1000 + MINOR

# An event is 250 to 500 bytes and is often committed alone. Measured with such events, bytes
# written per commit: pages of 1024 bytes 6.5 kB, 2048 7.3 kB, 4096 9.4 kB.
PAGE_BYTES: Final = 1024
AUTO_VACUUM_INCREMENTAL: Final = 2  # a file that a long outage blew up shrinks in small steps
CACHE_KIB: Final = 2048
LOCK_TIMEOUT_S: Final = 0.1

_MIGRATIONS_TABLE: Final = "_sqlite_migrations"  # sqlite-utils' own name

CHAIN_ALGORITHM: Final = "sha256-16"  # events.chain


def connect(path: Path) -> sqlite3.Connection:
    """Open the one connection to a store, creating the file and its tables where there are none.

    The connection holds an exclusive lock from here on. Raises `StoreNewer`, `StoreCorrupt` for a
    file that is not a store, and whatever `StoreError` the medium deserves.
    """
    with translated(f"cannot open the store {path}", opening=True, place=path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists()
        connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        if fresh:
            sync_folder(path.parent)
        return connection


def size_bytes(path: Path) -> int:
    """Return the length of a file; 0 where there is none, or the medium is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_at(path: Path) -> tuple[int, int] | None:
    """Return which file lies at a path, None for none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class OpenFiles:
    """Which files lie at the paths of an open database: SQLite goes on in files without a name.

    Without its write-ahead log a database lacks what was stored last; closing folds the copy that
    is still open into it.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._wal_path = path, path.with_name(f"{path.name}-wal")
        self._file = file_at(path)
        self._wal: tuple[int, int] | None = None  # made by the first write

    def lost(self) -> Path | None:
        """Return the path whose file was deleted or replaced, None while both are there."""
        if file_at(self._path) != self._file:
            return self._path
        wal = file_at(self._wal_path)
        self._wal = self._wal or wal
        return None if self._wal == wal else self._wal_path


def pragma(connection: sqlite3.Connection, text: str) -> object:
    """Run one pragma and return the first value of its answer, None if it has none."""
    row = connection.execute(f"PRAGMA {text}").fetchone()
    return None if row is None else row[0]


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    pragma(connection, "locking_mode = EXCLUSIVE")  # before the first read: no shared-memory file
    application = pragma(connection, "application_id")
    version = pragma(connection, "user_version")
    blank = application == 0 and version == 0 and not _has_tables(connection)
    if not blank:
        _check_identity(path, application, version)
    else:
        pragma(connection, f"page_size = {PAGE_BYTES}")
        pragma(connection, f"auto_vacuum = {AUTO_VACUUM_INCREMENTAL}")
    if pragma(connection, "journal_mode = WAL") != "wal":
        raise sqlite3.OperationalError("the medium does not support a write-ahead log")
    pragma(connection, "synchronous = FULL")
    pragma(connection, "temp_store = MEMORY")
    pragma(connection, f"cache_size = -{CACHE_KIB}")
    if blank or (isinstance(version, int) and version < USER_VERSION):
        migrate(connection)
    # Takes the write lock now, not at the first event.
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("COMMIT")


def _has_tables(connection: sqlite3.Connection) -> bool:
    """Tell whether there is any table but the record of migrations, which is made first."""
    query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name <> ?"
    return bool(connection.execute(query, (_MIGRATIONS_TABLE,)).fetchone()[0])


def _check_identity(path: Path, application: object, version: object) -> None:
    if application != APPLICATION_ID or not isinstance(version, int) or version < 1000:
        raise StoreCorrupt(f"{path} is not a store of events", hint=HINTS[StoreCorrupt])
    if version // 1000 > MAJOR:
        raise StoreNewer(
            f"{path} has version {version // 1000}.{version % 1000}, "
            f"this program reads up to {MAJOR}.x",
            hint=HINTS[StoreNewer],
        )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to this program's version; each step is one transaction."""
    # Imported here: it costs memory and start-up time that only a new or older file has to pay.
    from sqlite_utils import Database, Migrations  # noqa: PLC0415

    migrations = Migrations("buffer")
    migrations(name="1.0")(_create)
    migrations.apply(Database(connection, recursive_triggers=False, execute_plugins=False))


def _create(db: "Database") -> None:
    event = {"seq": int, "chain": bytes, "kind": str, "point": str, "at_us": int, "body": bytes}
    for name in ("routine_event", "urgent_event"):
        db.table(name).create(
            event, pk="seq", not_null={"chain", "kind", "point", "body"}, strict=True
        )
    db.table("log").create(
        {
            "id": int,
            "log_id": str,
            "created_us": int,
            "created_by": str,
            "chain_algorithm": str,
            "checkpoint": int,  # `latest` and `last_raw` hold everything up to this number
        },
        pk="id",
        not_null={"log_id", "created_by", "chain_algorithm", "checkpoint"},
        strict=True,
    )
    db.table("gap").create(
        {"first": int, "last": int, "chain_before": bytes, "chain_after": bytes, "why": str},
        pk="first",
        not_null={"last", "chain_before", "chain_after", "why"},
        strict=True,
    )
    db.table("mark").create(
        {"station": str, "lane": str, "seq": int},
        pk=("station", "lane"),
        not_null={"seq"},
        strict=True,
    )
    db.table("latest").create(
        {
            "point": str,
            "kind": str,
            "subkind": str,
            "condition": str,
            "seq": int,
            "body": bytes,
        },
        pk=("point", "kind", "subkind", "condition"),
        not_null={"seq", "body"},
        strict=True,
    )
    db.table("last_raw").create(
        {"source": str, "seq": int, "raw": bytes},
        pk="source",
        not_null={"seq", "raw"},
        strict=True,
    )
    db.create_view("event", _EVENT_VIEW)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {USER_VERSION}")


_EVENT_VIEW: Final = """
SELECT seq, 0 AS urgent, kind, point, at_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', at_us / 1000000.0, 'unixepoch') AS at, chain, body
FROM routine_event
UNION ALL
SELECT seq, 1, kind, point, at_us,
    strftime('%Y-%m-%dT%H:%M:%fZ', at_us / 1000000.0, 'unixepoch'), chain, body
FROM urgent_event
ORDER BY seq
"""
