"""One commit of the ledger: events, states, gaps and cursor, inside one transaction.

The functions here run in the writer's thread. An event is held when its number and chain value
are, or when a place is that its record names as its origin.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from events.errors import StoreError, UnreadableEvent
from events.kinds import Qualifier
from events.model import Origin, Record
from events.replication import Entry, Lane
from events.wire import decode
from station.interpretation import (
    INTEGER_MAX,
    Boot,
    Place,
    Reading,
    interpret,
    is_older,
    unreadable,
)
from station.register import Condition, Register
from sync.ledger import Commit, CommitResult, Cursor

LOG_ID_LENGTH_MAX = 200  # in an origin; a longer one is no log's
SPARSE = 4  # a range this many times wider than its entries is asked number by number

_INSERT_EVENT = "INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_PLACE = "INSERT OR IGNORE INTO place VALUES (?, ?, ?)"
_INSERT_COPY = "INSERT OR IGNORE INTO copy VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_GAP = "INSERT OR IGNORE INTO gap VALUES (?, ?, ?, ?, ?, ?)"
_WRITE_STATE = "INSERT OR REPLACE INTO point_state VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

# A place's chain value: the event's own, or its copy's there; null where only a copy elsewhere
# said that the event had been there first.
_HELD = (
    "SELECT place.seq, place.n,"
    " CASE WHEN event.log = place.log AND event.seq = place.seq THEN event.chain"
    " ELSE copy.chain END"
    " FROM place JOIN event ON event.n = place.n"
    " LEFT JOIN copy ON copy.log = place.log AND copy.seq = place.seq AND copy.n = place.n"
    " WHERE place.log = ? AND place.seq BETWEEN ? AND ?"
)
_COPIES = (
    "SELECT event.seq, event.chain, event.body FROM place JOIN event ON event.n = place.n"
    " WHERE place.log = ?1 AND place.seq BETWEEN ?2 AND ?3"
    " AND event.log = ?1 AND event.seq = place.seq AND event.urgent"
    " UNION ALL SELECT seq, chain, body FROM copy"
    " WHERE log = ?1 AND seq BETWEEN ?2 AND ?3 AND urgent ORDER BY 1"
)

_Row = tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The result of a commit, and the numbers of new events in it that nobody can read."""

    result: CommitResult
    unreadable: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    n: int
    chain: bytes | None


def cursors(
    register: Register, connection: sqlite3.Connection, gateway: str, log_ids: Sequence[str]
) -> dict[str, Cursor]:
    """Return the cursors of those logs that are known."""
    number = register.gateway(connection, gateway)
    logs = ((log_id, register.find_log(connection, number, log_id)) for log_id in log_ids)
    return {log_id: log.cursor for log_id, log in logs if log is not None}


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
    if log is None:
        return []
    return [
        Entry(seq, chain, body)
        for seq, chain, body in connection.execute(_COPIES, (log.id, first, last))
    ]


def announce(
    register: Register,
    connection: sqlite3.Connection,
    gateway: str,
    record: Record,
    body: bytes,
    received_us: int | None,
) -> int:
    """Store an event of the station's own about a gateway (empty: about itself); return its n."""
    about = register.gateway(connection, gateway)
    reading = interpret(record, None, received_us)
    condition = _condition(register, connection, about, reading)
    n = register.take_n(connection)
    row = _event(n, reading, condition, received_us)
    flags = (int(reading.urgent), 0, 0, 0, 1)
    connection.execute(_INSERT_EVENT, (*row, *flags, None, body))
    connection.execute(_WRITE_STATE, _state(n, reading, condition, None))
    return n


class Recording:
    """One commit of one gateway's log."""

    def __init__(
        self,
        register: Register,
        connection: sqlite3.Connection,
        gateway: str,
        commit: Commit,
        received_us: int | None,
    ) -> None:
        self._register = register
        self._connection = connection
        self._commit = commit
        self._received_us = received_us
        self._gateway = register.gateway(connection, gateway)
        self._log = register.log(connection, self._gateway, commit.log_id)
        self._suspect = frozenset(commit.suspect)
        self._events: list[_Row] = []
        self._places: list[tuple[int, int, int]] = []
        self._copies: list[_Row] = []
        self._states: dict[int, _Row] = {}
        self._origins: dict[tuple[int, int], int] = {}  # places in this commit, by origin
        self._unreadable: list[int] = []
        self._known = 0
        self._in_urgent_lane = commit.lane is Lane.URGENT

    def run(self) -> Committed:
        """Store what is new, and move the cursor. Raises `StoreError` over a hole before it."""
        if self._commit.after > self._log.cursor.main and not self._commit.restart:
            raise StoreError("the commit of what comes before failed; it is asked for again")
        self._log.restarts += self._commit.restart
        held = self._held()
        for entry in self._commit.entries:
            self._entry(entry, held.get(entry.seq, ()))
        connection = self._connection
        connection.executemany(_INSERT_EVENT, self._events)
        connection.executemany(_INSERT_PLACE, self._places)
        connection.executemany(_INSERT_COPY, self._copies)
        connection.executemany(_WRITE_STATE, self._states.values())
        connection.executemany(
            _INSERT_GAP,
            [
                (self._log.id, gap.first, gap.last, gap.chain, gap.why, self._received_us)
                for gap in self._commit.gaps
            ],
        )
        self._move_cursor()
        return Committed(
            result=CommitResult(stored=len(self._events), known=self._known),
            unreadable=tuple(self._unreadable),
        )

    def _held(self) -> dict[int, list[_Held]]:
        entries = self._commit.entries
        if not entries:
            return {}
        first, last = entries[0].seq, entries[-1].seq
        ranges = [(first, last)]
        if last - first >= SPARSE * len(entries):
            ranges = [(entry.seq, entry.seq) for entry in entries]
        held: dict[int, list[_Held]] = {}
        for low, high in ranges:
            for seq, n, chain in self._connection.execute(_HELD, (self._log.id, low, high)):
                held.setdefault(seq, []).append(_Held(n, chain))
        return held

    def _entry(self, entry: Entry, held: Sequence[_Held]) -> None:
        if any(place.chain == entry.chain for place in held):
            self._known += 1
            return
        body = entry.body if entry.body is not None else b""
        reading, boot = self._read(body)
        origin = self._origin(reading.origin, entry.seq)
        n = next((place.n for place in held if place.chain is None), None)
        if n is None and origin is not None:
            n = self._held_at(origin)
        if n is None:
            self._store(entry.seq, entry.chain, body, reading, boot, origin)
            return
        self._known += 1
        place = (self._log.id, entry.seq, n)
        urgent = int(reading.urgent or self._in_urgent_lane)
        self._places.append(place)
        self._copies.append((*place, self._received_us, urgent, entry.chain, body))

    def _read(self, body: bytes) -> tuple[Reading, Boot | None]:
        try:
            record = decode(body)
        except UnreadableEvent:
            return unreadable(self._received_us), None
        boot = self._register.boot(self._connection, self._gateway, record.stamp.boot_id)
        return interpret(record, boot, self._received_us), boot

    def _origin(self, origin: Origin | None, seq: int) -> tuple[int, int] | None:
        """Return the place that a record names as its first one, if it can be one."""
        if (
            origin is None
            or not 1 <= origin.seq <= INTEGER_MAX
            or not 1 <= len(origin.log_id) <= LOG_ID_LENGTH_MAX
        ):
            return None
        log = self._register.log(self._connection, self._gateway, origin.log_id)
        place = (log.id, origin.seq)
        return None if place == (self._log.id, seq) else place

    def _held_at(self, place: tuple[int, int]) -> int | None:
        if place in self._origins:
            return self._origins[place]
        found = self._connection.execute(
            "SELECT min(n) FROM place WHERE log = ? AND seq = ?", place
        ).fetchone()
        n: int | None = found[0]
        return n

    def _store(
        self,
        seq: int,
        chain: bytes,
        body: bytes,
        reading: Reading,
        boot: Boot | None,
        origin: tuple[int, int] | None,
    ) -> None:
        condition = _condition(self._register, self._connection, self._gateway, reading)
        n = self._register.take_n(self._connection)
        own = (self._log.id, seq)
        first = origin or own
        place = Place(
            log=first[0],
            seq=first[1],
            carrier_log=self._log.id,
            carrier_seq=seq,
            history=self._log.restarts,
            boot_id=reading.boot_id,
            boot_rank=boot.rank if boot is not None else 0,
            monotonic_us=reading.monotonic_us,
        )
        late = False
        if reading.readable:
            restores = reading.qualifier == Qualifier.RESTORE
            late = condition.state is not None and is_older(
                place, condition.state, restores=restores
            )
            if not late:
                condition.state = place
                self._states[condition.id] = _state(n, reading, condition, place)
        else:
            self._unreadable.append(seq)
        flags = (
            int(reading.urgent or self._in_urgent_lane),
            int(late),
            int(self._commit.volatile),
            int(seq in self._suspect),
            int(reading.readable),
        )
        row = _event(n, reading, condition, self._received_us, own)
        self._events.append((*row, *flags, chain, body))
        self._places.append((*own, n))
        if origin is not None:
            self._places.append((*origin, n))
            self._origins[origin] = n

    def _move_cursor(self) -> None:
        log, commit = self._log, self._commit
        cursor = Cursor() if commit.restart else log.cursor
        if commit.lane is Lane.URGENT:
            urgent = max(cursor.urgent, commit.through)
            cursor = Cursor(main=cursor.main, chain=cursor.chain, urgent=urgent)
        elif commit.through > cursor.main:
            cursor = Cursor(main=commit.through, chain=commit.chain, urgent=cursor.urgent)
        log.cursor = cursor
        log.head = commit.head if commit.restart else max(log.head, commit.head)
        self._connection.execute(
            "UPDATE log SET main = ?1, chain = ?2, urgent = ?3, head = ?4, volatile = ?5,"
            " restarts = ?6, first_commit_us = coalesce(first_commit_us, ?8), last_commit_us = ?8"
            " WHERE id = ?7",
            (
                cursor.main,
                cursor.chain,
                cursor.urgent,
                log.head,
                commit.volatile,
                log.restarts,
                log.id,
                self._received_us,
            ),
        )


def _condition(
    register: Register, connection: sqlite3.Connection, gateway: int, reading: Reading
) -> Condition:
    about = (reading.point, reading.kind, reading.subkind, reading.condition)
    return register.condition(connection, gateway, about)


def _event(
    n: int,
    reading: Reading,
    condition: Condition,
    received_us: int | None,
    place: tuple[int | None, int | None] = (None, None),
) -> _Row:
    """Return the columns of an event from `n` to `received_us`."""
    return (
        n,
        *place,
        condition.id,
        reading.qualifier,
        reading.at_us,
        reading.at_basis.value,
        received_us,
    )


def _state(n: int, reading: Reading, condition: Condition, place: Place | None) -> _Row:
    places: _Row = (None, None, None, None, 0)
    if place is not None:
        places = (place.log, place.seq, place.carrier_log, place.carrier_seq, place.history)
    return (
        condition.id,
        n,
        *places,
        reading.boot_id,
        reading.monotonic_us,
        reading.qualifier,
        reading.value,
    )
