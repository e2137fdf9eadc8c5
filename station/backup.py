"""A consistent copy of the ledger, made while the station goes on."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from events.errors import StoreError
from station.listing import require_ledger
from station.schema import FILE_NAME, open_reader, translated


def snapshot(directory: Path, target: Path) -> int:
    """Copy the ledger in `directory` to `target`; return the newest number in it.

    One reading: what is committed meanwhile is not in it, and waits for nobody. The copy is whole
    and durable, or absent. Raises `StoreError`, also when `target` exists.
    """
    require_ledger(directory)
    if target.exists():
        raise StoreError(f"{target} exists", hint="name a file that does not exist yet")
    partial = target.with_name(f"{target.name}.partial")
    source, _ = open_reader(directory)
    try:
        with closing(source), translated(directory / FILE_NAME):
            n = _copy(source, partial)
        partial.rename(target)
        _sync(target.parent)
    except OSError as error:
        raise StoreError(
            f"cannot write {target}: {error.strerror or error}",
            hint="name a file in a folder that takes writes and has room",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return n


def _copy(source: sqlite3.Connection, partial: Path) -> int:
    partial.unlink(missing_ok=True)
    with translated(partial), closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # made durable as a whole, before it has its name
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        (n,) = copy.execute("SELECT coalesce(max(n), 0) FROM event").fetchone()
    _sync(partial)
    return int(n)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
