"""What the machine itself takes: one durable SQLite commit, the unit that every latency is made of."""

import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path


def sqlite_commit(count: int) -> list[float]:
    """Return the seconds of single commits of 300 bytes with WAL and synchronous=FULL."""
    with (
        tempfile.TemporaryDirectory() as name,
        closing(sqlite3.connect(Path(name) / "raw.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, body BLOB) STRICT")
        result = []
        for _ in range(count):
            started = time.monotonic()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO event (body) VALUES (?)", (bytes(300),))
            connection.execute("COMMIT")
            result.append(time.monotonic() - started)
        return result


def sqlite_rate(count: int, group: int) -> float:
    """Return events a second of 115 bytes with `group` of them in each durable commit."""
    with (
        tempfile.TemporaryDirectory() as name,
        closing(sqlite3.connect(Path(name) / "raw.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE event (seq INTEGER PRIMARY KEY, body BLOB) STRICT")
        started = time.monotonic()
        for _ in range(count // group):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO event (body) VALUES (?)", [(bytes(115),) for _ in range(group)]
            )
            connection.execute("COMMIT")
        return count // group * group / (time.monotonic() - started)
