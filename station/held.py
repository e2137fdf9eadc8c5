"""What the ledger holds already: events by number, by origin, and urgent copies.

An event's own place is in `run`; the places of its origin and of its copies are in `place`, where
files of before 2.0 have the own ones too. Everything here runs in the writer's thread.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from events.replication import Entry, Gap
from station.register import Log, Register
from station.schema import RUN_BLOCK
from sync.ledger import LACKING_MAX, Cursor, Lacking

SPARSE = 4  # a range this many times wider than its entries is asked number by number

# The numbers of a run that are asked for; a run that reaches into the block begins in it.
_IN_RUNS = (
    "run CROSS JOIN event ON event.n BETWEEN run.n + max(0, ?2 - run.first)"
    " AND run.n + min(run.count - 1, ?3 - run.first)"
    " WHERE run.log = ?1 AND run.first BETWEEN ?4 AND ?3"
)
_HELD_IN_RUNS = f"SELECT event.seq, event.n, event.chain FROM {_IN_RUNS}"  # noqa: S608 - a constant
# A place's chain value: the event's own, or its copy's there; null where only a copy elsewhere
# said that the event had been there first.
_HELD_IN_PLACES = (
    "SELECT place.seq, place.n,"
    " CASE WHEN event.log = place.log AND event.seq = place.seq THEN event.chain"
    " ELSE copy.chain END"
    " FROM place JOIN event ON event.n = place.n"
    " LEFT JOIN copy ON copy.log = place.log AND copy.seq = place.seq AND copy.n = place.n"
    " WHERE place.log = ? AND place.seq BETWEEN ? AND ?"
)
_AT = (
    "SELECT min(n) FROM (SELECT n FROM place WHERE log = ?1 AND seq = ?2"
    " UNION ALL SELECT n + ?2 - first FROM run"
    " WHERE log = ?1 AND first BETWEEN ?3 AND ?2 AND ?2 < first + count)"
)
_RANGES = (
    "SELECT max(first, ?2), min(first + count - 1, ?3) FROM run"
    " WHERE log = ?1 AND first BETWEEN ?4 AND ?3 AND first + count > ?2"
    " UNION ALL SELECT seq, seq FROM place WHERE log = ?1 AND seq BETWEEN ?2 AND ?3 ORDER BY 1"
)
_URGENT = (
    f"SELECT event.seq, event.chain, event.body FROM {_IN_RUNS} AND event.urgent"  # noqa: S608 - a constant
    " UNION ALL SELECT event.seq, event.chain, event.body"
    " FROM place JOIN event ON event.n = place.n"
    " WHERE place.log = ?1 AND place.seq BETWEEN ?2 AND ?3"
    " AND event.log = ?1 AND event.seq = place.seq AND event.urgent"
    " UNION ALL SELECT seq, chain, body FROM copy"
    " WHERE log = ?1 AND seq BETWEEN ?2 AND ?3 AND urgent ORDER BY 1"
)

_NEWEST_URGENT = (
    f"SELECT event.seq, event.chain FROM {_IN_RUNS} AND event.urgent"  # noqa: S608 - a constant
    " ORDER BY run.first DESC, run.n DESC, event.n DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Held:
    """An event at a place; `chain` is its value there, None where nothing came from there yet."""

    n: int
    chain: bytes | None


Found = dict[int, list[Held]]


def among(
    connection: sqlite3.Connection, log: int, entries: tuple[Entry, ...], *, own: bool
) -> Found:
    """Return what is held under the numbers of `entries`.

    own: events may be held at their own place there; else only origins and copies are looked for.
    """
    found: Found = {}
    for first, last in _ranges(entries):
        rows: Iterable[tuple[int, int, bytes | None]]
        if own:
            rows = connection.execute(_HELD_IN_RUNS, (log, first, last, _block(first)))
            _add(found, rows)
        rows = connection.execute(_HELD_IN_PLACES, (log, first, last))
        _add(found, rows)
    return found


def at(connection: sqlite3.Connection, place: tuple[int, int]) -> int | None:
    """Return the oldest event that is known under a place."""
    log, seq = place
    (n,) = connection.execute(_AT, (log, seq, _block(seq))).fetchone()
    return None if n is None else int(n)


def urgent(connection: sqlite3.Connection, log: int, first: int, last: int) -> list[Entry]:
    """Return the urgent events held in a range of numbers."""
    rows = connection.execute(_URGENT, (log, first, last, _block(first)))
    return [Entry(seq, chain, body) for seq, chain, body in rows]


def newest_urgent(
    connection: sqlite3.Connection, log: int, first: int, last: int
) -> tuple[int, bytes] | None:
    """Return the newest of the urgent events that were first received in a range of numbers."""
    if first > last:
        return None
    bounds = (log, first, last, _block(first))
    found: tuple[int, bytes] | None = connection.execute(_NEWEST_URGENT, bounds).fetchone()
    return found


def lacking(
    connection: sqlite3.Connection, log: int, first: int, last: int
) -> Iterator[tuple[int, int]]:
    """Yield the ranges between two numbers of which nothing is held, in order."""
    expected = first
    for begin, end in connection.execute(_RANGES, (log, first, last, _block(first))):
        if begin > expected:
            yield expected, begin - 1
        expected = max(expected, end + 1)
    if expected <= last:
        yield expected, last


def lacking_in(
    connection: sqlite3.Connection, log: int, gaps: Sequence[Gap]
) -> tuple[list[Lacking], int]:
    """Return the first ranges in `gaps` of which nothing is held, and how many numbers in all."""
    found: list[Lacking] = []
    count = 0
    for gap in gaps:
        for first, last in lacking(connection, log, gap.first, gap.last):
            count += last - first + 1
            if len(found) < LACKING_MAX:
                found.append(Lacking(first, last, gap.why))
    return found, count


def cursors(
    register: Register, connection: sqlite3.Connection, gateway: str, log_ids: Sequence[str]
) -> dict[str, Cursor]:
    """Return the cursors of those logs that are known."""
    number = register.gateway(connection, gateway)
    logs = ((log_id, register.find_log(connection, number, log_id)) for log_id in log_ids)
    return {log_id: _cursor(connection, log) for log_id, log in logs if log is not None}


def _cursor(connection: sqlite3.Connection, log: Log) -> Cursor:
    """Return a log's cursor with what shows later of which history it is."""
    cursor = log.cursor
    ahead = newest_urgent(connection, log.id, cursor.main + 1, cursor.urgent)
    seq, chain = ahead or (0, b"")
    return replace(cursor, history=log.restarts, ahead=seq, ahead_chain=chain)


def copies(
    register: Register,
    connection: sqlite3.Connection,
    gateway: str,
    log_id: str,
    first: int,
    last: int,
) -> list[Entry]:
    """Return the urgent events held in a range of numbers."""
    log = register.find_log(connection, register.gateway(connection, gateway), log_id)
    return [] if log is None else urgent(connection, log.id, first, last)


def runs(n: int, numbers: Iterable[int]) -> list[tuple[int, int, int]]:
    """Return `first, n, count` of the runs that new events from `n` on make, given their numbers."""
    made: list[tuple[int, int, int]] = []
    first = expected = -1
    start = n
    for seq in numbers:
        if seq != expected or seq % RUN_BLOCK == 0:
            if n > start:
                made.append((first, start, n - start))
            first, start = seq, n
        expected = seq + 1
        n += 1
    if n > start:
        made.append((first, start, n - start))
    return made


def _ranges(entries: tuple[Entry, ...]) -> list[tuple[int, int]]:
    if not entries:
        return []
    first, last = entries[0].seq, entries[-1].seq
    if last - first >= SPARSE * len(entries):
        return [(entry.seq, entry.seq) for entry in entries]
    return [(first, last)]


def _add(found: Found, rows: Iterable[tuple[int, int, bytes | None]]) -> None:
    for seq, n, chain in rows:
        found.setdefault(seq, []).append(Held(n, chain))


def _block(seq: int) -> int:
    return seq - seq % RUN_BLOCK
