"""Looking things up in the tables of an open log."""

import sqlite3
from dataclasses import dataclass

from buffer import schema


@dataclass(frozen=True, slots=True)
class Rows:
    """Single rows and sums; every call is short. Errors are SQLite's own."""

    connection: sqlite3.Connection

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

    def page_count(self) -> int:
        count: int = self.connection.execute("PRAGMA page_count").fetchone()[0]
        return count

    def free_pages(self) -> int:
        free: int = self.connection.execute("PRAGMA freelist_count").fetchone()[0]
        return free

    def used_bytes(self) -> int:
        """Return the bytes of the pages that hold something."""
        return (self.page_count() - self.free_pages()) * schema.PAGE_BYTES
