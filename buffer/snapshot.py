"""A consistent copy of the store for looking at, made while the gateway goes on."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from buffer.faults import translated
from buffer.log import EventLog
from buffer.schema import sync_folder
from events.errors import StoreError

SNAPSHOT_PAGES: Final = 256  # copied between two looks at what is waiting


def snapshot(log: EventLog, target: Path, serve: Callable[[], None]) -> None:
    """Copy the store to `target`, calling `serve` between slices.

    What is appended meanwhile goes through the same connection and into the copy as well: it is
    the store as of the end. The copy is an ordinary SQLite file without a write-ahead log, complete
    or absent. Raises `StoreError`, also when `target` exists.
    """
    with translated(f"cannot write the snapshot {target}"):
        if target.exists():
            raise StoreError(f"{target} exists", hint="name a file that does not exist yet")
        partial = target.with_name(target.name + ".partial")
        partial.unlink(missing_ok=True)
        try:
            _copy(log, partial, serve)
            partial.rename(target)
            sync_folder(target.parent)
        finally:
            partial.unlink(missing_ok=True)


def _copy(log: EventLog, partial: Path, serve: Callable[[], None]) -> None:
    copy = sqlite3.connect(partial, isolation_level=None)
    try:
        copy.execute("PRAGMA journal_mode = OFF").fetchall()
        log.connection.backup(
            copy, pages=SNAPSHOT_PAGES, progress=lambda _status, _left, _all: serve()
        )
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
    finally:
        copy.close()
