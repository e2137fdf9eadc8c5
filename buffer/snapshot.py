"""A consistent copy of the store for looking at, made while the gateway goes on."""

import os
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
    descriptor = -1
    try:
        copy.execute("PRAGMA journal_mode = OFF").fetchall()
        # Made durable slice by slice instead: one sync of everything at the end would keep the
        # events waiting that come in meanwhile.
        copy.execute("PRAGMA synchronous = OFF")
        copy.execute(f"PRAGMA cache_size = {SNAPSHOT_PAGES}")
        descriptor = os.open(partial, os.O_RDONLY)

        def between(_status: int, _left: int, _all: int) -> None:
            os.fdatasync(descriptor)
            serve()

        log.connection.backup(copy, pages=SNAPSHOT_PAGES, progress=between)
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        os.fsync(descriptor)
    finally:
        copy.close()
        if descriptor >= 0:
            os.close(descriptor)
