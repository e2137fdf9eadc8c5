"""What may ride on a commit of events: marks of stations, and the copy of the newest states."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from buffer.bound import copy_bytes
from buffer.entries import Pending
from buffer.memory import Checkpoint, Memory
from events.model import Condition, condition
from events.replication import Lane

ROW_PAGE_BYTES: Final = 1024

_UPSERT_MARK: Final = """
INSERT INTO mark (station, lane, seq) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET seq = excluded.seq
"""
_UPSERT_LATEST: Final = """
INSERT INTO latest (point, kind, subkind, condition, seq, body) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET seq = excluded.seq, body = excluded.body
"""
_UPSERT_RAW: Final = """
INSERT INTO last_raw (source, seq, raw) VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET seq = excluded.seq, raw = excluded.raw
"""
_FORGET_LATEST: Final = "DELETE FROM latest WHERE (point, kind, subkind, condition) = (?, ?, ?, ?)"
_FORGET_RAW: Final = "DELETE FROM last_raw WHERE source = ?"

Marks = Mapping[tuple[str, Lane], int]
"""The number up to which each station (its public key) holds each lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What may ride on a commit: marks of stations, and the newest state of conditions."""

    marks: Marks | None = None
    checkpoint: Checkpoint | None = None


@dataclass(slots=True)
class Uncopied:
    """About what the copy of the newest states will take in the file, as far as it is not there."""

    bytes: int = 0
    _newest: dict[Condition, tuple[int, int]] = field(default_factory=dict)  # number, size

    def add(self, seq: int, item: Pending) -> None:
        key = condition(item.record.observation)
        size = copy_bytes(item)
        self.bytes += size - self._newest.pop(key, (0, 0))[1]
        self._newest[key] = (seq, size)

    def copied(self, through: int) -> int:
        """Forget what the copy of all events up to `through` holds; return how much that is."""
        before, newest = self.bytes, self._newest
        self._newest = {key: held for key, held in newest.items() if held[0] > through}
        self.bytes = sum(size for _, size in self._newest.values())
        return before - self.bytes


def write_notes(connection: sqlite3.Connection, notes: Iterable[Notes], copied: int) -> int:
    """Write notes inside the caller's transaction.

    Returns up to which number the newest states are copied then; `copied` is where they were.
    """
    for note in notes:
        if note.marks is not None:
            rows = [(station, str(lane), seq) for (station, lane), seq in note.marks.items()]
            connection.executemany(_UPSERT_MARK, rows)
        if note.checkpoint is not None:
            _write_checkpoint(connection, note.checkpoint)
            copied = note.checkpoint.through
    return copied


def notes_bytes(notes: Iterable[Notes]) -> int:
    """Return about what notes add to the write-ahead log: a page for each row, at worst."""
    total = 0
    for note in notes:
        if note.marks is not None:
            total += ROW_PAGE_BYTES * len(note.marks)
        if note.checkpoint is not None:
            total += sum(ROW_PAGE_BYTES + len(row[-1]) for row in note.checkpoint.latest)
            total += ROW_PAGE_BYTES * len(note.checkpoint.last_raw)
    return total


def read_marks(connection: sqlite3.Connection) -> dict[tuple[str, Lane], int]:
    """Return the stored marks; lanes that only another version knows are left out."""
    lanes = {str(lane): lane for lane in Lane}
    rows = connection.execute("SELECT station, lane, seq FROM mark").fetchall()
    return {(station, lanes[lane]): seq for station, lane, seq in rows if lane in lanes}


def load_states(connection: sqlite3.Connection, copied: int, memory: Memory) -> None:
    """Give a memory the copy of the newest states, which is as of event `copied`."""
    memory.load(
        copied,
        connection.execute(
            "SELECT point, kind, subkind, condition, seq, body FROM latest ORDER BY seq"
        ),
        connection.execute("SELECT source, seq, raw FROM last_raw ORDER BY seq"),
    )


def _write_checkpoint(connection: sqlite3.Connection, checkpoint: Checkpoint) -> None:
    connection.executemany(_UPSERT_LATEST, checkpoint.latest)
    connection.executemany(_UPSERT_RAW, checkpoint.last_raw)
    connection.executemany(_FORGET_LATEST, checkpoint.forgotten)
    connection.executemany(_FORGET_RAW, [(source,) for source in checkpoint.forgotten_sources])
    connection.execute("UPDATE log SET checkpoint = ?", (checkpoint.through,))
