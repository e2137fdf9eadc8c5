"""One commit of the ledger: events, states, gaps and cursor, inside one transaction.

The functions here run in the writer's thread. An event is held when its number and chain value
are, or when a place is that its record names as its origin (`station.held`).
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from events.errors import UnreadableEvent
from events.kinds import Qualifier, Subkind
from events.model import Origin, Record, Stamp
from events.replication import Entry, Lane
from events.wire import decode
from station import clock_ties, held
from station.announcements import GATEWAY_POINT
from station.interpretation import (
    INTEGER_MAX,
    UNREADABLE,
    Boot,
    Place,
    best_time,
    clamped,
    column,
    is_older,
)
from station.register import Condition, Register
from sync.ledger import Commit, CommitResult, Cursor

LOG_ID_LENGTH_MAX = 200  # in an origin; a longer one is no log's

_NEW = Qualifier.NEW.value
_RESTORE = Qualifier.RESTORE.value
_CLOCK = Subkind.CLOCK.value
_NOT_UNDERSTOOD = (UnreadableEvent, ArithmeticError, LookupError, TypeError, ValueError)

_Row = tuple[object, ...]
_Newest = dict[int, tuple[Condition, int, int, Record] | None]  # None: its state is made already
_Numbered = tuple[int, int]  # the station's number of a log, and a number in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The result of a commit, and the numbers of new events in it that nobody can read."""

    result: CommitResult
    unreadable: tuple[int, ...] = ()


def announce(
    register: Register,
    connection: sqlite3.Connection,
    gateway: str,
    record: Record,
    body: bytes,
    received_us: int | None,
) -> int:
    """Store an event of the station's own about a gateway (empty: about itself); return its n."""
    number = register.gateway(connection, gateway)
    stamp, seen = record.stamp, record.observation
    at_us, basis = best_time(stamp, seen.edge_us, None, received_us)
    about = (seen.point, seen.kind, seen.subkind, seen.condition)
    condition = register.condition(connection, number, *about)
    n = register.next_n(connection)
    place = (None, None, condition.id, seen.qualifier, at_us, basis, received_us)
    flags = (int(record.urgent), 0, 0, 0, 1)
    register.pending.events += (n, *place, *flags, None, body)
    register.pending.states[condition.id] = _state(condition.id, n, record, None)
    register.used(1)
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
        poison: frozenset[int] = frozenset(),
    ) -> None:
        """Take a commit. `poison`: numbers of events that are only kept, not understood."""
        register.keep_bound(connection)
        self._poison = poison
        self._register = register
        self._connection = connection
        self._commit = commit
        self._received_us = received_us
        self._gateway = register.gateway(connection, gateway)
        self._log = register.log(connection, self._gateway, commit.log_id)
        self._first_n = register.next_n(connection)
        self._suspect = frozenset(commit.suspect)
        self._pending = register.pending
        self._numbers: list[int] = []  # of new events in the log, in the order of n
        self._states: dict[int, tuple[int, int, Record, Place]] = {}  # by condition
        self._origins: dict[_Numbered, int] = {}  # places in this commit, by origin
        self._boots: dict[str, Boot | None] = {}
        self._unreadable: list[int] = []
        self._clocks: list[Stamp] = []  # of events that say how the gateway's clock was set
        self._known = 0
        self._in_urgent_lane = commit.lane is Lane.URGENT
        self._volatile = int(commit.volatile)

    def run(self) -> Committed:
        """Store what is new, and move the cursor. Raises `StoreError` over a hole before it."""
        self._log.continue_with(self._commit)
        found = self._held()
        taken = 0 if found or self._poison else self._straight()
        self._one_by_one(self._commit.entries[taken:], found)
        self._write()
        self._move_cursor()
        if self._commit.gaps:
            self._pending.flush(self._connection)
        lacking, count = held.lacking_in(self._connection, self._log.id, self._commit.gaps)
        return Committed(
            result=CommitResult(
                stored=len(self._numbers),
                known=self._known,
                lacking=tuple(lacking),
                lacking_count=count,
            ),
            unreadable=tuple(self._unreadable),
        )

    def _straight(self) -> int:
        """Store the first events, as long as they are new, in order, readable, and of one boot.

        Returns how many. Of such events the later one of a condition is the newer: they are judged
        until one has made the state. All else is as `_one_by_one` does it, with less work for each:
        every event of every catch-up comes through this loop.
        """
        register, gateway, log = self._register, self._gateway, self._log.id
        received_us, volatile, suspect = self._received_us, self._volatile, self._suspect
        in_urgent_lane, events = self._in_urgent_lane, self._pending.events
        conditions = register.conditions
        newest: _Newest = {}
        boot, boot_id, before = None, None, 0
        n = self._first_n
        for entry in self._commit.entries:
            seq, body = entry.seq, entry.body or b""
            try:
                record = decode(body)
            except _NOT_UNDERSTOOD:
                break
            stamp, seen = record.stamp, record.observation
            if boot_id is None:
                boot_id = stamp.boot_id
                boot = self._boot(boot_id)
            if seq <= before or record.origin is not None or stamp.boot_id != boot_id:
                break
            before = seq
            if seen.subkind == _CLOCK and seen.point == GATEWAY_POINT:
                self._clocks.append(stamp)
            at_us, basis = best_time(stamp, seen.edge_us, boot, received_us)
            about = (gateway, seen.point, seen.kind, seen.subkind, seen.condition)
            condition = conditions.get(about)
            if condition is None:
                condition = register.condition(self._connection, *about)
            late = 0
            if condition.id in newest:
                newest[condition.id] = (condition, n, seq, record)
            elif self._judge(n, seq, record, condition, boot, None):
                late = 1
            else:
                newest[condition.id] = None
            qualifier = seen.qualifier
            events += (
                n,
                log,
                seq,
                condition.id,
                _NEW if qualifier is Qualifier.NEW else qualifier,
                at_us,
                basis,
                received_us,
                1 if record.urgent or in_urgent_lane else 0,
                late,
                volatile,
                1 if seq in suspect else 0,
                1,
                bytearray(entry.chain),
                bytearray(body),
            )
            self._numbers.append(seq)
            n += 1
        self._make_states(newest, boot)
        return len(self._numbers)

    def _make_states(self, newest: _Newest, boot: Boot | None) -> None:
        for made in newest.values():
            if made is not None:
                condition, n, seq, record = made
                self._make_state(condition, n, record, self._place(seq, record, boot, None))

    def _one_by_one(self, entries: Sequence[Entry], found: held.Found) -> None:
        for entry in entries:
            places = found.get(entry.seq) if found else None
            if places and any(place.chain == entry.chain for place in places):
                self._known += 1
                continue
            record = UNREADABLE
            if entry.seq not in self._poison:
                record = self._read(entry.body or b"")
            if places or record.origin is not None:
                self._link_or_store(entry, record, places or [])
            else:
                self._store(entry, record, None)

    def _held(self) -> held.Found:
        """Return what is held; nothing can be at its own place beyond both cursors.

        Unless a history began anew: that alone sets cursors back.
        """
        entries, cursor = self._commit.entries, self._log.cursor
        if not entries:
            return {}
        own = self._log.restarts > 0 or entries[0].seq <= max(cursor.main, cursor.urgent)
        if not own and not self._log.linked:
            return {}
        if self._log.id in self._pending.logs or self._pending.places:
            self._pending.flush(self._connection)
        return held.among(self._connection, self._log.id, entries, own=own)

    def _read(self, body: bytes) -> Record:
        try:
            record = decode(body)
        except _NOT_UNDERSTOOD:
            return UNREADABLE
        if record.observation.subkind == _CLOCK and record.observation.point == GATEWAY_POINT:
            self._clocks.append(record.stamp)
        return record

    def _link_or_store(self, entry: Entry, record: Record, places: Sequence[held.Held]) -> None:
        """Take an event that may be held under another place: then its bytes are a copy."""
        origin = None if record.origin is None else self._origin(record.origin, entry.seq)
        n = next((place.n for place in places if place.chain is None), None)
        if n is None and origin is not None:
            n = self._held_at(origin)
        if n is None:
            self._store(entry, record, origin)
            return
        self._known += 1
        copied = (self._log.id, entry.seq, n)
        urgent = int(record.urgent or self._in_urgent_lane)
        self._log.linked = True
        self._pending.places.append(copied)
        self._pending.copies.append(
            (*copied, self._received_us, urgent, entry.chain, entry.body or b"")
        )

    def _origin(self, origin: Origin, seq: int) -> _Numbered | None:
        """Return the place that a record names as its first one, if it can be one."""
        if not 1 <= origin.seq <= INTEGER_MAX or not 1 <= len(origin.log_id) <= LOG_ID_LENGTH_MAX:
            return None
        log = self._register.log(self._connection, self._gateway, origin.log_id)
        log.linked = True
        place = (log.id, origin.seq)
        return None if place == (self._log.id, seq) else place

    def _held_at(self, place: _Numbered) -> int | None:
        if place in self._origins:
            return self._origins[place]
        self._pending.flush(self._connection)
        return held.at(self._connection, place)

    def _store(self, entry: Entry, record: Record, origin: _Numbered | None) -> None:
        seq, stamp, seen = entry.seq, record.stamp, record.observation
        n = self._first_n + len(self._numbers)
        boot = self._boot(stamp.boot_id)
        at_us, basis = best_time(stamp, seen.edge_us, boot, self._received_us)
        about = (self._gateway, seen.point, seen.kind, seen.subkind, seen.condition)
        condition = self._register.conditions.get(about)
        if condition is None:
            condition = self._register.condition(self._connection, *about)
        readable = record is not UNREADABLE
        late = readable and self._judge(n, seq, record, condition, boot, origin)
        if not readable:
            self._unreadable.append(seq)
        self._numbers.append(seq)
        self._pending.events += (
            n,
            self._log.id,
            seq,
            condition.id,
            seen.qualifier,
            at_us,
            basis,
            self._received_us,
            1 if record.urgent or self._in_urgent_lane else 0,
            1 if late else 0,
            self._volatile,
            1 if seq in self._suspect else 0,
            1 if readable else 0,
            bytearray(entry.chain),
            bytearray(entry.body or b""),
        )
        if origin is not None:
            self._pending.places.append((*origin, n))
            self._origins[origin] = n

    def _boot(self, boot_id: str) -> Boot | None:
        boots = self._boots
        if boot_id not in boots:
            boots[boot_id] = self._register.boot(self._connection, self._gateway, boot_id)
        return boots[boot_id]

    def _judge(
        self,
        n: int,
        seq: int,
        record: Record,
        condition: Condition,
        boot: Boot | None,
        origin: _Numbered | None,
    ) -> bool:
        """Tell whether an event is late; if it is not, it makes the state of its condition."""
        place = self._place(seq, record, boot, origin)
        state = condition.state
        if state is not None and is_older(
            place,
            state,
            restores=record.observation.qualifier == _RESTORE,
            newest_rank=self._register.newest_rank(self._connection, self._gateway),
        ):
            return True
        self._make_state(condition, n, record, place)
        return False

    def _place(
        self, seq: int, record: Record, boot: Boot | None, origin: _Numbered | None
    ) -> Place:
        carrier, stamp = self._log, record.stamp
        log, number = origin or (carrier.id, seq)
        rank = 0 if boot is None else boot.rank
        monotonic_us = clamped(stamp.monotonic_us)
        return Place(
            log, number, carrier.id, seq, carrier.restarts, stamp.boot_id, rank, monotonic_us
        )

    def _make_state(self, condition: Condition, n: int, record: Record, place: Place) -> None:
        condition.state = place
        self._states[condition.id] = (condition.id, n, record, place)

    def _write(self) -> None:
        for stamp in self._clocks:
            clock_ties.note(self._connection, self._gateway, stamp, None)
        pending, log = self._pending, self._log.id
        for first, n, count in held.runs(self._first_n, self._numbers):
            pending.runs.append((log, first, n, count))
        for condition, state in self._states.items():
            pending.states[condition] = _state(*state)
        for gap in self._commit.gaps:
            pending.gaps.append((log, gap.first, gap.last, gap.chain, gap.why, self._received_us))
        if self._received_us is not None:
            pending.seen[self._gateway] = self._received_us
        self._register.used(len(self._numbers))

    def _move_cursor(self) -> None:
        log, commit = self._log, self._commit
        cursor = Cursor() if commit.restart else log.cursor
        if commit.lane is Lane.URGENT:
            ours = commit.history == log.restarts
            urgent = max(cursor.urgent, commit.through if ours else 0)
            cursor = Cursor(main=cursor.main, chain=cursor.chain, urgent=urgent)
        elif commit.through > cursor.main:
            cursor = Cursor(main=commit.through, chain=commit.chain, urgent=cursor.urgent)
        log.cursor = cursor
        log.head = commit.head if commit.restart else max(log.head, commit.head)
        self._pending.logs[log.id] = (
            log.id,
            cursor.main,
            cursor.chain,
            cursor.urgent,
            log.head,
            int(commit.volatile),
            log.restarts,
            self._received_us,
        )


def _state(condition: int, n: int, record: Record, place: Place | None) -> _Row:
    places: _Row = (None, None, None, None, 0)
    if place is not None:
        places = (place.log, place.seq, place.carrier_log, place.carrier_seq, place.history)
    stamp, seen = record.stamp, record.observation
    return (
        condition,
        n,
        *places,
        stamp.boot_id,
        clamped(stamp.monotonic_us),
        seen.qualifier,
        column(seen.value),
    )
