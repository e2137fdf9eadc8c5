"""The station's file: tables, versions, and how the file is opened.

Rows of `event` are written once and never changed or removed one by one; everything else is
derived from them or says how far reading has come. The version is major.minor: a newer minor only
adds, so either program opens either file; a newer major is refused. An older file is brought to
this form when the station opens it, by the steps that it has not seen; a new one takes them all.
"""

import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path

from events.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNewer,
    StoreReadOnly,
)

FILE_NAME = "station.db"
APPLICATION_ID = 0x4E2B5354  # "N+ST"
MAJOR = 2
MINOR = 1
BUSY_TIMEOUT_S = 1.0
WAL_LENGTH_KEPT = 64 * 1024 * 1024
WAL_PAGES_MAX = 4_000  # then a commit copies them itself; `station.writer` does it before that
CACHE_KIB = 32 * 1024
PAGE_SIZE = 8192  # in a new file: fewer splits and fewer sums over the log than with 4096
RUN_BLOCK = 256  # numbers; a run of events never crosses a multiple of it

STATION = 0  # the `gateway` under which the station's own events stand

_TABLES = """
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- announced: a gateway-lost event stands, no restore followed yet
CREATE TABLE gateway (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  last_seen_us INTEGER,
  announced INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE path (
  gateway INTEGER NOT NULL REFERENCES gateway,
  name TEXT NOT NULL,
  announced INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (gateway, name)
) STRICT, WITHOUT ROWID;

-- a newer log of a gateway has a greater id
-- main, chain, urgent: cursors; head: the newest number heard of
CREATE TABLE log (
  id INTEGER PRIMARY KEY,
  gateway INTEGER NOT NULL REFERENCES gateway,
  log_id TEXT NOT NULL,
  main INTEGER NOT NULL DEFAULT 0,
  chain BLOB NOT NULL DEFAULT x'',
  urgent INTEGER NOT NULL DEFAULT 0,
  head INTEGER NOT NULL DEFAULT 0,
  volatile INTEGER NOT NULL DEFAULT 0,
  restarts INTEGER NOT NULL DEFAULT 0,
  first_commit_us INTEGER,
  last_commit_us INTEGER,
  UNIQUE (gateway, log_id)
) STRICT;

-- one boot of a gateway: its monotonic clock tied to wall time, its own or the station's
-- a later boot has a greater id
CREATE TABLE boot (
  id INTEGER PRIMARY KEY,
  gateway INTEGER NOT NULL REFERENCES gateway,
  boot_id TEXT NOT NULL,
  monotonic_us INTEGER NOT NULL,
  wall_us INTEGER,
  clock TEXT NOT NULL,
  station_us INTEGER,
  UNIQUE (gateway, boot_id)
) STRICT;

-- code: what tells conditions of one kind at one point apart
CREATE TABLE condition (
  id INTEGER PRIMARY KEY,
  gateway INTEGER NOT NULL REFERENCES gateway,
  point TEXT NOT NULL,
  kind TEXT NOT NULL,
  subkind TEXT NOT NULL,
  code TEXT NOT NULL,
  UNIQUE (gateway, point, kind, subkind, code)
) STRICT;

-- log, seq: null for the station's own events
-- suspect: the body does not fit the chain value it came with
-- at_basis: which clocks at_us was made from
CREATE TABLE event (
  n INTEGER PRIMARY KEY,
  log INTEGER REFERENCES log,
  seq INTEGER,
  condition INTEGER NOT NULL REFERENCES condition,
  qualifier TEXT NOT NULL,
  at_us INTEGER,
  at_basis TEXT NOT NULL,
  received_us INTEGER,
  urgent INTEGER NOT NULL,
  late INTEGER NOT NULL,
  volatile INTEGER NOT NULL,
  suspect INTEGER NOT NULL,
  readable INTEGER NOT NULL,
  chain BLOB,
  body BLOB NOT NULL
) STRICT;

-- every place under which an event is known beside its own: its origin's, its copies'
-- (before 2.0 its own as well)
CREATE TABLE place (
  log INTEGER NOT NULL REFERENCES log,
  seq INTEGER NOT NULL,
  n INTEGER NOT NULL REFERENCES event,
  PRIMARY KEY (log, seq, n)
) STRICT, WITHOUT ROWID;

-- the same event recorded again at another place: the bytes are kept for that log's chain
CREATE TABLE copy (
  log INTEGER NOT NULL REFERENCES log,
  seq INTEGER NOT NULL,
  n INTEGER NOT NULL REFERENCES event,
  received_us INTEGER,
  urgent INTEGER NOT NULL,
  chain BLOB NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (log, seq, n)
) STRICT;

-- numbers that the gateway no longer has
CREATE TABLE gap (
  log INTEGER NOT NULL REFERENCES log,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  chain BLOB NOT NULL,
  why TEXT NOT NULL,
  received_us INTEGER,
  PRIMARY KEY (log, first, last, chain)
) STRICT, WITHOUT ROWID;

-- the newest event of each condition in the order of the gateway's log: its present state
-- log, seq: where it was first recorded; carrier_log, carrier_seq: where it was received
-- history: how often that log's history had begun anew
CREATE TABLE point_state (
  condition INTEGER PRIMARY KEY REFERENCES condition,
  n INTEGER NOT NULL REFERENCES event,
  log INTEGER,
  seq INTEGER,
  carrier_log INTEGER,
  carrier_seq INTEGER,
  history INTEGER NOT NULL,
  boot_id TEXT NOT NULL,
  monotonic_us INTEGER NOT NULL,
  qualifier TEXT NOT NULL,
  value ANY
) STRICT;

CREATE VIEW events AS
SELECT event.n, gateway.name AS gateway, log.log_id, event.seq, condition.point, condition.kind,
  condition.subkind, event.qualifier, event.at_us, event.at_basis, event.received_us, event.urgent,
  event.late, event.volatile, event.suspect, event.readable, event.chain, event.body
FROM event
JOIN condition ON condition.id = event.condition
JOIN gateway ON gateway.id = condition.gateway
LEFT JOIN log ON log.id = event.log;
"""


# How to come to a version from the one before it.
_STEPS: tuple[tuple[int, str], ...] = (
    (
        2000,
        """
-- the own places of events: number `first` is event `n`, the next number the next event, and so on
-- a program that does not look here would store them again: therefore a new major version
CREATE TABLE run (
  log INTEGER NOT NULL REFERENCES log,
  first INTEGER NOT NULL,
  n INTEGER NOT NULL REFERENCES event,
  count INTEGER NOT NULL,
  PRIMARY KEY (log, first, n)
) STRICT, WITHOUT ROWID;
""",
    ),
    (
        2001,
        """
-- what a gateway's clocks said at one moment (station.clock_ties)
-- wall_us, clock: its own; station_us: the station's when it heard of it, null in an event
CREATE TABLE clock_tie (
  id INTEGER PRIMARY KEY,
  gateway INTEGER NOT NULL REFERENCES gateway,
  boot_id TEXT NOT NULL,
  monotonic_us INTEGER NOT NULL,
  wall_us INTEGER,
  clock TEXT NOT NULL,
  station_us INTEGER
) STRICT;
CREATE INDEX clock_tie_boot ON clock_tie (gateway, boot_id);

-- when the station ran, and when each gateway was there meanwhile (station.attendance)
CREATE TABLE station_run (
  id INTEGER PRIMARY KEY,
  began_us INTEGER NOT NULL,
  ended_us INTEGER NOT NULL
) STRICT;

-- ended_us: of the last word; lost: the silence after it was announced
CREATE TABLE presence (
  id INTEGER PRIMARY KEY,
  gateway INTEGER NOT NULL REFERENCES gateway,
  began_us INTEGER NOT NULL,
  ended_us INTEGER NOT NULL,
  lost INTEGER NOT NULL DEFAULT 0
) STRICT;
""",
    ),
)


def open_writer(folder: Path) -> sqlite3.Connection:
    """Open the one connection that writes and checkpoints; make the file if there is none.

    Raises `StoreError`.
    """
    file = folder / FILE_NAME
    with translated(file):
        connection = sqlite3.connect(
            file, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            _prepare(connection, file)
        except (sqlite3.Error, StoreError):
            connection.close()
            raise
    return connection


_NO_SIDE_FILES = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


def open_reader(folder: Path) -> tuple[sqlite3.Connection, bool]:
    """Open a connection that never writes nor checkpoints. The file must exist.

    The second value tells that nobody writes, and that the connection will not see it if somebody
    begins to: SQLite needs its side files to follow a writer, and a reader who may not make them
    reads the file as it lies. Raises `StoreError`.
    """
    file = folder / FILE_NAME
    uri = f"{file.absolute().as_uri()}?mode=ro"
    with translated(file):
        try:
            return _reader(uri, file), False
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _NO_SIDE_FILES or _has_wal(file):
                raise
        return _reader(f"{uri}&immutable=1", file), True


def _reader(uri: str, file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = ON")
        if _version(connection, file) is None:
            raise StoreCorrupt(
                f"{file} is empty", hint="start the station once: it makes its tables"
            )
    except (sqlite3.Error, StoreError):
        connection.close()
        raise
    return connection


def _has_wal(file: Path) -> bool:
    """Tell whether commits may lie beside the file that are not in it yet."""
    try:
        return file.with_name(f"{FILE_NAME}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    version = _version(connection, file)
    if version is None:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LENGTH_KEPT}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES_MAX}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    connection.execute("PRAGMA temp_store = MEMORY")
    if version is None or version < (MAJOR, MINOR):
        _bring_up(connection, version)


def _bring_up(connection: sqlite3.Connection, version: tuple[int, int] | None) -> None:
    """Make the tables, or those that a file of an older version does not have."""
    before = 0 if version is None else version[0] * 1000 + version[1]
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version is None:
            _run_each(connection, _TABLES)
            connection.execute("INSERT INTO gateway (id, name) VALUES (?, '')", (STATION,))
            connection.execute("INSERT INTO meta VALUES ('ledger_id', ?)", (uuid.uuid4().hex,))
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for number, statements in _STEPS:
            if number > before:
                _run_each(connection, statements)
        connection.execute(f"PRAGMA user_version = {MAJOR * 1000 + MINOR}")
        connection.execute("COMMIT")
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _run_each(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def _version(connection: sqlite3.Connection, file: Path) -> tuple[int, int] | None:
    """Return the file's version, or None for a file without tables."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (number,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables == 0 and application_id == 0:
        return None
    if application_id != APPLICATION_ID:
        raise StoreCorrupt(
            f"{file} is not a station's store", hint="move it away, or name another data_dir"
        )
    major, minor = divmod(number, 1000)
    if major > MAJOR:
        raise StoreNewer(
            f"{file} was written by a newer program (form {major}.{minor},"
            f" this one reads up to {MAJOR}.x)",
            hint="install the newer nplus-station; nothing was changed",
        )
    return major, minor


class translated:  # noqa: N801 - reads as a word: `with translated(file):`
    """Turn SQLite's exceptions into `StoreError`, once, at the edge."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise store_error(error, self._file) from error


_KINDS: dict[int, tuple[Callable[..., StoreError], str]] = {
    sqlite3.SQLITE_FULL: (StoreFull, "free space on that disk; the gateways keep their events"),
    sqlite3.SQLITE_READONLY: (
        StoreReadOnly,
        "give the station's user write access to the file and its folder",
    ),
    sqlite3.SQLITE_PERM: (StoreReadOnly, "give the station's user access to the file"),
    sqlite3.SQLITE_CANTOPEN: (StoreReadOnly, "check that the folder exists and takes writes"),
    sqlite3.SQLITE_BUSY: (StoreLocked, "another program holds it; close that program"),
    sqlite3.SQLITE_LOCKED: (StoreLocked, "another program holds it; close that program"),
    sqlite3.SQLITE_NOTADB: (StoreCorrupt, "move it away and keep it; restore a backup if any"),
    sqlite3.SQLITE_CORRUPT: (StoreCorrupt, "move it away and keep it; restore a backup if any"),
}


def store_error(error: sqlite3.Error, file: Path) -> StoreError:
    """Return our error for SQLite's."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    kind, hint = _KINDS.get(code, (StoreError, "see the disk's and the system's log"))
    return kind(f"{file}: {error}", hint=hint)
