"""SQLite's and the system's errors in the store's own words: translated here and nowhere else."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from events.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreNewer,
    StoreReadOnly,
)

_PRIMARY_CODE: Final = 0xFF  # SQLite's extended result codes keep the primary one in the low byte

_BY_RESULT_CODE: Final[dict[int, type[StoreError]]] = {
    sqlite3.SQLITE_FULL: StoreFull,
    sqlite3.SQLITE_READONLY: StoreReadOnly,
    sqlite3.SQLITE_CANTOPEN: StoreReadOnly,
    sqlite3.SQLITE_PERM: StoreReadOnly,
    sqlite3.SQLITE_AUTH: StoreReadOnly,
    sqlite3.SQLITE_BUSY: StoreLocked,
    sqlite3.SQLITE_LOCKED: StoreLocked,
    sqlite3.SQLITE_CORRUPT: StoreCorrupt,
    sqlite3.SQLITE_NOTADB: StoreCorrupt,
}

_BY_ERRNO: Final[dict[int, type[StoreError]]] = {
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EFBIG: StoreFull,
    errno.EROFS: StoreReadOnly,
    errno.EACCES: StoreReadOnly,
    errno.EPERM: StoreReadOnly,
    errno.ENOTDIR: StoreReadOnly,
    errno.EEXIST: StoreReadOnly,  # something that is not a folder is in the folder's place
}

# What Python says, without a code of SQLite's, of a text column that is no text.
_UNDECODABLE: Final = "Could not decode to UTF-8"

HINTS: Final[dict[type[StoreError], str]] = {
    StoreError: "look at the medium: `dmesg` shows what the kernel says of it; it is tried again",
    StoreFull: "free space on the medium that holds the store; it is tried again by itself",
    StoreReadOnly: (
        "let the service's user write to the data folder; if the file system turned read-only, "
        "the card is probably worn"
    ),
    StoreLocked: (
        "another program holds the store: stop it (a second gateway with the same data_dir?); "
        "to look inside use `nplus-gateway snapshot`"
    ),
    StoreCorrupt: "the damaged file is set aside, never deleted, and a new log begins",
    StoreNewer: "the file is set aside; the program version that wrote it can read it",
}


def is_read_only(place: Path) -> bool:
    """Tell whether the file system at a place takes no writes: mounted so, or turned so.

    A file without a name is tried as well: after errors ext4 refuses everything, and newer kernels
    leave the flag as it was. Nothing else of what may fail is looked at.
    """
    try:
        if os.statvfs(place).f_flag & os.ST_RDONLY:
            return True
        os.close(os.open(place, os.O_TMPFILE | os.O_WRONLY, 0o600))
    except OSError as error:
        return error.errno == errno.EROFS
    return False


@contextmanager
def translated(doing: str, *, opening: bool = False, place: Path | None = None) -> Iterator[None]:
    """Turn what SQLite or the system raises while `doing` something into a `StoreError`.

    `place`: where the file lies: an I/O error on a medium that turned read-only says just that.
    `opening`: a statement of ours that does not fit the file's tables means that these are damaged.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        kind = _BY_RESULT_CODE.get(code & _PRIMARY_CODE, StoreError) if code else StoreError
        if (opening and code == sqlite3.SQLITE_ERROR) or str(error).startswith(_UNDECODABLE):
            kind = StoreCorrupt
        if kind is StoreError and place is not None and is_read_only(place):
            kind = StoreReadOnly
        raise kind(f"{doing}: {error}", hint=HINTS[kind]) from error
    except UnicodeDecodeError as error:  # SQLite's message quotes a damaged page, and Python fails
        raise StoreCorrupt(f"{doing}: {error.reason}", hint=HINTS[StoreCorrupt]) from error
    except OSError as error:
        kind = _BY_ERRNO.get(error.errno or 0, StoreError)
        raise kind(f"{doing}: {error.strerror or error}", hint=HINTS[kind]) from error
