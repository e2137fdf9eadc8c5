"""Files that cannot be used: moved out of the way, never deleted, and a new log in their place."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from buffer.bound import Bound
from buffer.faults import HINTS, translated
from buffer.log import EventLog
from buffer.schema import sync_folder
from events.errors import StoreCorrupt, StoreError, StoreNewer
from events.replication import LogHead

NOTE: Final = ".note"  # beside a file that was set aside: what was known, and what became of it
_COMPANIONS: Final = ("-wal", "-shm", "-journal")  # SQLite finds them by the name of the file
_BESIDE: Final = (*_COMPANIONS, NOTE, ".partial")


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A file that was moved out of the way: where to, in which state it was found, and why."""

    path: Path
    state: str
    why: str


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is written down beside a set-aside file: its log, and whether all of it is delivered."""

    log_id: str = ""
    head: int = 0
    chain: str = ""
    delivered: bool = False
    events: int = 0
    missing: int = 0

    @property
    def known(self) -> LogHead | None:
        if not self.log_id:
            return None
        return LogHead(
            log_id=self.log_id, first=1, head=self.head, chain=bytes.fromhex(self.chain)
        )


def read_note(path: Path) -> Note:
    """Return the note beside a set-aside file; an empty one where none can be read."""
    try:
        note = msgspec.json.decode(path.with_name(path.name + NOTE).read_bytes(), type=Note)
        bytes.fromhex(note.chain)
    except (OSError, msgspec.DecodeError, ValueError):
        return Note()
    return note


def write_note(path: Path, note: Note) -> None:
    """Write the note beside a set-aside file, durably. Raises `StoreError`."""
    target = path.with_name(path.name + NOTE)
    partial = target.with_name(target.name + ".partial")
    with translated(f"cannot write {target}"):
        with partial.open("wb") as file:
            file.write(msgspec.json.encode(note) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        partial.rename(target)
        sync_folder(path.parent)


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


def set_aside(path: Path, error: StoreError, known: LogHead | None = None) -> SetAside:
    """Rename a file and its companions to `<name>.<state>-<n>`, where nothing is yet.

    `known` is the head of its log, if it was open: events lost from its end are then accounted for.
    """
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
    if known is not None:
        with suppress(StoreError):  # the file itself most likely says the same
            write_note(target, Note(log_id=known.log_id, head=known.head, chain=known.chain.hex()))
    return SetAside(path=target, state=error.state, why=str(error))


def lying_beside(path: Path) -> list[str]:
    """Return the names of the files that were set aside for the one at `path`, newest last."""
    try:
        found = [each.name for each in path.parent.glob(f"{path.name}.*-*")]
    except OSError:
        return []
    return sorted(name for name in found if not name.endswith(_BESIDE))


def _refuse_empty(path: Path) -> None:
    """Raise `StoreCorrupt` for a file of no length: SQLite would take it for a new one."""
    with translated(f"cannot look at {path}"):
        empty = path.is_file() and path.stat().st_size == 0
    if empty:
        raise StoreCorrupt(f"{path} is empty", hint=HINTS[StoreCorrupt])
