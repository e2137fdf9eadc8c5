import errno
import os
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from buffer.faults import translated
from events.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
)


def raised_by_sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "kind", "state"),
    [
        (sqlite3.SQLITE_FULL, StoreFull, "full"),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreReadOnly, "read-only"),
        (sqlite3.SQLITE_CANTOPEN, StoreReadOnly, "read-only"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreLocked, "locked"),
        (sqlite3.SQLITE_CORRUPT_INDEX, StoreCorrupt, "corrupt"),
        (sqlite3.SQLITE_NOTADB, StoreCorrupt, "corrupt"),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreError, "failed"),
        (sqlite3.SQLITE_CONSTRAINT, StoreError, "failed"),
    ],
)
def test_sqlites_codes_become_states(code: int, kind: type[StoreError], state: str) -> None:
    with pytest.raises(StoreError, match="as SQLite says") as caught, translated("cannot store"):
        raise raised_by_sqlite(code)
    assert str(caught.value) == "cannot store: as SQLite says it"
    assert type(caught.value) is kind
    assert caught.value.state == state
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, sqlite3.Error)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EROFS, StoreReadOnly),
        (errno.EACCES, StoreReadOnly),
        (errno.EIO, StoreError),
    ],
)
def test_the_systems_errors_become_states(number: int, kind: type[StoreError]) -> None:
    with pytest.raises(StoreError) as caught, translated("cannot open"):
        raise OSError(number, "as the system says it")
    assert type(caught.value) is kind
    assert caught.value.hint


def test_our_own_errors_pass_as_they_are() -> None:
    given = StoreLocked("held")
    with pytest.raises(StoreLocked) as caught, translated("cannot open"):
        raise given
    assert caught.value is given


def test_errors_without_a_code_are_failures() -> None:
    with pytest.raises(StoreError) as caught, translated("cannot open"):
        raise sqlite3.ProgrammingError("closed")
    assert type(caught.value) is StoreError


def test_an_io_error_on_a_medium_that_takes_no_writes_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = os.ST_RDONLY
    monkeypatch.setattr("buffer.faults.os.statvfs", lambda _: SimpleNamespace(f_flag=flags))
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
    with pytest.raises(StoreReadOnly), translated("cannot store", place=tmp_path):
        raise error
    flags = 0
    with pytest.raises(StoreError) as caught, translated("cannot store", place=tmp_path):
        raise error
    assert type(caught.value) is StoreError
