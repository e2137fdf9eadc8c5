"""Rows of one transaction that are not inserted yet: those of all its commits go in together.

SQLite runs without the interpreter's lock while a statement runs. Each of a thousand small
statements gives the lock to the loop and waits for it again; a few large ones leave the loop its
time and are done sooner. Everything here runs in the writer's thread.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain

Row = Sequence[object]

_ROWS_AT_ONCE = (128, 16, 1)  # few sizes, so that each stays prepared


class _Statement:
    """A statement over many rows: `head`, as many rows as there are, `tail`."""

    def __init__(self, head: str, columns: int, tail: str = "") -> None:
        self._columns = columns
        row = f"({', '.join('?' * columns)})"
        self._by_rows = {
            rows: f"{head} {', '.join([row] * rows)} {tail}".rstrip() for rows in _ROWS_AT_ONCE
        }

    def run(self, connection: sqlite3.Connection, cells: Sequence[object]) -> None:
        """Run it over rows whose columns stand one after the other in `cells`."""
        done, count = 0, len(cells)
        for rows, text in self._by_rows.items():
            width = rows * self._columns
            while count - done >= width:
                connection.execute(text, cells[done : done + width])
                done += width

    def run_rows(self, connection: sqlite3.Connection, rows: Iterable[Row]) -> None:
        self.run(connection, list(chain.from_iterable(rows)))


_EVENTS = _Statement("INSERT INTO event VALUES", 15)
_RUNS = _Statement("INSERT INTO run (log, first, n, count) VALUES", 4)
_PLACES = _Statement("INSERT OR IGNORE INTO place VALUES", 3)
_COPIES = _Statement("INSERT OR IGNORE INTO copy VALUES", 7)
_GAPS = _Statement("INSERT OR IGNORE INTO gap VALUES", 6)
_STATES = _Statement("INSERT OR REPLACE INTO point_state VALUES", 11)
_LOGS = _Statement(
    "UPDATE log SET main = new.column2, chain = new.column3, urgent = new.column4,"
    " head = new.column5, volatile = new.column6, restarts = new.column7,"
    " first_commit_us = coalesce(first_commit_us, new.column8), last_commit_us = new.column8"
    " FROM (VALUES",
    8,
    ") AS new WHERE log.id = new.column1",
)
_SEEN = _Statement(
    "UPDATE gateway SET last_seen_us = new.column2 FROM (VALUES",
    2,
    ") AS new WHERE gateway.id = new.column1",
)


class Pending:
    """What `flush` will write.

    events: columns of new events, one after the other. states: by condition, logs: by log, with
    the number first; seen: when each gateway was heard; places, copies, gaps, runs: rows.
    """

    def __init__(self) -> None:
        self.events: list[object] = []
        self.runs: list[Row] = []
        self.places: list[Row] = []
        self.copies: list[Row] = []
        self.gaps: list[Row] = []
        self.states: dict[int, Row] = {}
        self.logs: dict[int, Row] = {}
        self.seen: dict[int, int] = {}

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write it all. When that fails, the transaction is undone, and this is thrown away."""
        if self.events:
            _EVENTS.run(connection, self.events)
            self.events = []
        for statement, rows in (
            (_RUNS, self.runs),
            (_PLACES, self.places),
            (_COPIES, self.copies),
            (_GAPS, self.gaps),
        ):
            if rows:
                statement.run_rows(connection, rows)
                rows.clear()
        if self.states:
            _STATES.run_rows(connection, self.states.values())
            self.states.clear()
        if self.logs:
            _LOGS.run_rows(connection, self.logs.values())
            self.logs.clear()
        if self.seen:
            _SEEN.run_rows(connection, self.seen.items())
            self.seen.clear()
