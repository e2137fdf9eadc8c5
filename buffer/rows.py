"""Rows of the tables of an open log: putting them in, and looking things up."""

import functools
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain as chained
from typing import Final

from buffer import schema

Row = tuple[int, bytes, str, str, int | None, bytes]
"""Number, chain value, kind, point, wall time in microseconds, body."""

_COLUMNS: Final = "seq, chain, kind, point, at_us, body"
_COLUMN_COUNT: Final = 6
_ROWS_AT_ONCE: Final = (64, 8, 1)  # one statement each, so that a group takes few calls
_VALUES: Final = "(" + ", ".join("?" * _COLUMN_COUNT) + ")"


@dataclass(frozen=True, slots=True)
class Rows:
    """Single rows and sums; every call is short. Errors are SQLite's own."""

    connection: sqlite3.Connection

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows inside the caller's transaction."""
        at = 0
        for width in _ROWS_AT_ONCE:
            while len(rows) - at >= width:
                values = tuple(chained.from_iterable(rows[at : at + width]))
                self.connection.execute(_insert_statement(table, width), values)
                at += width

    def newest(self) -> int:
        """Return the highest number that was ever given, 0 in an empty log."""
        newest: int = self.connection.execute(
            "SELECT max(coalesce((SELECT max(seq) FROM routine_event), 0), "
            "coalesce((SELECT max(seq) FROM urgent_event), 0), "
            "coalesce((SELECT max(last) FROM gap), 0))"
        ).fetchone()[0]
        return newest

    def oldest(self) -> int | None:
        """Return the number of the first event that is held."""
        oldest: int | None = self.connection.execute(
            "SELECT min(seq) FROM (SELECT min(seq) AS seq FROM routine_event "
            "UNION ALL SELECT min(seq) FROM urgent_event)"
        ).fetchone()[0]
        return oldest

    def event(self, seq: int) -> tuple[bytes, bytes] | None:
        """Return chain value and body."""
        row: tuple[bytes, bytes] | None = self.connection.execute(
            "SELECT chain, body FROM routine_event WHERE seq = :seq "
            "UNION ALL SELECT chain, body FROM urgent_event WHERE seq = :seq",
            {"seq": seq},
        ).fetchone()
        return row

    def body_from(self, seq: int) -> bytes | None:
        """Return the body of the first event numbered `seq` or above."""
        row = self.connection.execute(
            "SELECT body FROM (SELECT seq, body FROM routine_event WHERE seq >= :seq "
            "UNION ALL SELECT seq, body FROM urgent_event WHERE seq >= :seq ORDER BY seq LIMIT 1)",
            {"seq": seq},
        ).fetchone()
        return None if row is None else row[0]

    def bodies_after(self, seq: int) -> Iterator[tuple[int, bytes]]:
        """Return number and body of every event after `seq`, in order."""
        query = (
            "SELECT seq, body FROM routine_event WHERE seq > :seq "
            "UNION ALL SELECT seq, body FROM urgent_event WHERE seq > :seq ORDER BY seq"
        )
        yield from self.connection.execute(query, {"seq": seq})

    def chain_at(self, seq: int) -> bytes | None:
        """Return the chain value at an event, or at the end of a gap."""
        event = self.event(seq)
        if event is not None:
            return event[0]
        row = self.connection.execute(
            "SELECT chain_after FROM gap WHERE last = ?", (seq,)
        ).fetchone()
        return None if row is None else row[0]

    def before_gap(self, first: int, newest: int) -> int:
        """Return the newest number of the stretch of events that begins with `first`."""
        row = self.connection.execute(
            "SELECT min(first) - 1 FROM gap WHERE first > ?", (first,)
        ).fetchone()
        return newest if row[0] is None else row[0]

    def older_than(self, at_us: int, first: int, last: int) -> int:
        """Return the number in a range that ends the events before a wall time; 0 for none."""
        row = self.connection.execute(
            "WITH part AS (SELECT seq, at_us FROM routine_event WHERE seq BETWEEN :first AND :last "
            "UNION ALL SELECT seq, at_us FROM urgent_event WHERE seq BETWEEN :first AND :last) "
            "SELECT coalesce(max(seq), 0) FROM part WHERE at_us < :at_us AND seq < coalesce("
            "(SELECT min(seq) FROM part WHERE at_us >= :at_us), :last + 1)",
            {"first": first, "last": last, "at_us": at_us},
        ).fetchone()
        return int(row[0])

    def page_count(self) -> int:
        count: int = self.connection.execute("PRAGMA page_count").fetchone()[0]
        return count

    def free_pages(self) -> int:
        free: int = self.connection.execute("PRAGMA freelist_count").fetchone()[0]
        return free

    def used_bytes(self) -> int:
        """Return the bytes of the pages that hold something."""
        return (self.page_count() - self.free_pages()) * schema.PAGE_BYTES


@functools.cache
def _insert_statement(table: str, rows: int) -> str:
    return f"INSERT INTO {table} ({_COLUMNS}) VALUES {', '.join([_VALUES] * rows)}"  # noqa: S608 - our own names
