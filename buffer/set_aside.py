"""Files that cannot be used: moved out of the way, never deleted, and a new log in their place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buffer.bound import Bound
from buffer.faults import HINTS, translated
from buffer.log import EventLog
from buffer.schema import sync_folder
from events.errors import StoreCorrupt, StoreError, StoreNewer

_COMPANIONS: Final = ("-wal", "-shm", "-journal")  # SQLite finds them by the name of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A file that was moved out of the way: where to, in which state it was found, and why."""

    path: Path
    state: str
    why: str


def open_log(
    path: Path, *, bound: Bound, created_us: int | None
) -> tuple[EventLog, SetAside | None]:
    """Open the log at `path`; a file that is damaged or too new is set aside for a new one.

    Raises `StoreError` for everything that is not the file's own fault.
    """
    try:
        _refuse_empty(path)
        return EventLog.open(path, bound=bound, created_us=created_us), None
    except (StoreCorrupt, StoreNewer) as error:
        moved = set_aside(path, error)
    return EventLog.open(path, bound=bound, created_us=created_us), moved


def set_aside(path: Path, error: StoreError) -> SetAside:
    """Rename a file and its companions to `<name>.<state>-<n>`, where nothing is yet."""
    with translated(f"cannot set {path} aside"):
        number = 1
        while (target := path.with_name(f"{path.name}.{error.state}-{number}")).exists():
            number += 1
        for companion in _COMPANIONS:  # first: a file without its write-ahead log is another file
            source = path.with_name(path.name + companion)
            if source.exists():
                source.rename(target.with_name(target.name + companion))
        path.rename(target)
        sync_folder(path.parent)
    return SetAside(path=target, state=error.state, why=str(error))


def lying_beside(path: Path) -> list[str]:
    """Return the names of the files that were set aside for the one at `path`, newest last."""
    try:
        found = [each.name for each in path.parent.glob(f"{path.name}.*-*")]
    except OSError:
        return []
    return sorted(name for name in found if not name.endswith(_COMPANIONS))


def _refuse_empty(path: Path) -> None:
    """Raise `StoreCorrupt` for a file of no length: SQLite would take it for a new one."""
    with translated(f"cannot look at {path}"):
        empty = path.is_file() and path.stat().st_size == 0
    if empty:
        raise StoreCorrupt(f"{path} is empty", hint=HINTS[StoreCorrupt])
