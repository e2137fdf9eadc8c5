"""The judge: what devices saw accepted against what the stations hold, from the files alone.

It believes no counter of the product. What an event says of itself (`attempt` in its details) is
compared with the world's own book of what was given to which gateway, and who heard "accepted".
"""

import contextlib
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from events.chain import genesis, link
from events.errors import UnreadableEvent
from events.model import Record
from events.replication import Lane
from events.wire import decode

if TYPE_CHECKING:
    from tests.world.hosts import StationHost
    from tests.world.world import World

CORRUPT = "corrupt"  # what was salvaged from a damaged file leaves these
NAMED_GAPS = frozenset({"trimmed", "delivered", "evicted"})

BODIES_KNOWN = 1_000  # each is looked at many times


class Broken(AssertionError):  # noqa: N818 - what the world is, when a promise is
    """The world saw a promise broken."""


@dataclass(slots=True)
class Attempt:
    """One time that a device gave one event to its gateway."""

    id: int
    gateway: str
    device: str
    condition: str
    qualifier: str
    urgent: bool
    accepted: bool = False


@dataclass
class Book:
    """What was given, and what is lost without anybody's fault: the medium it lay on was taken."""

    attempts: dict[int, Attempt] = field(default_factory=dict)
    excused: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def accepted(self) -> Iterable[Attempt]:
        return (each for each in self.attempts.values() if each.accepted)


@lru_cache(maxsize=BODIES_KNOWN)
def attempt_of(body: bytes) -> int | None:
    """Return the attempt that a body is of; None for the gateway's own events."""
    record = record_of(body)
    number = None if record is None else record.observation.details.get("attempt")
    return number if isinstance(number, int) else None


@lru_cache(maxsize=BODIES_KNOWN)
def record_of(body: bytes) -> Record | None:
    try:
        return decode(body)
    except UnreadableEvent:
        return None


_ROWS = (
    "SELECT event.n, gateway.name, event.log, log.log_id, event.seq, event.suspect,"
    " event.readable, event.chain, event.body, event.volatile"
    " FROM event JOIN log ON log.id = event.log JOIN gateway ON gateway.id = log.gateway"
    " ORDER BY event.n"
)
_HELD = (
    "SELECT seq FROM event WHERE log = ?1 UNION SELECT seq FROM place WHERE log = ?1"
    " UNION SELECT seq FROM copy WHERE log = ?1"
)
_PLACES = (
    "SELECT log, seq, chain, body FROM event WHERE log IS NOT NULL"
    " UNION ALL SELECT log, seq, chain, body FROM copy ORDER BY log, seq"
)
_STATES = (
    "SELECT gateway.name, condition.point, point_state.qualifier, event.body, event.late"
    " FROM point_state JOIN condition ON condition.id = point_state.condition"
    " JOIN gateway ON gateway.id = condition.gateway JOIN event ON event.n = point_state.n"
    " WHERE event.log IS NOT NULL"
)


class Judge:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.book = Book()
        self.looks = 0

    def held(self, station: "StationHost") -> Counter[int]:
        """Return how often a ledger holds each attempt."""
        with contextlib.closing(_open(station)) as ledger:
            return Counter(
                number
                for (body,) in ledger.execute("SELECT body FROM event WHERE log IS NOT NULL")
                if (number := attempt_of(body)) is not None
            )

    def forgive(self, station: "StationHost", gone: Iterable[int], volatile: set[int]) -> None:
        """Excuse what a restored ledger lost and no gateway can send again."""
        self.book.excused[station.name] |= set(gone) & (self.world.forgotten | volatile)
        for each in self.world.stations:  # who had it from memory had it alone
            self.book.excused[each.name] |= set(gone) & volatile

    def volatile(self, station: "StationHost") -> set[int]:
        """Return the attempts that a ledger has from a gateway's memory."""
        with contextlib.closing(_open(station)) as ledger:
            rows = ledger.execute("SELECT body FROM event WHERE volatile").fetchall()
        return {number for (body,) in rows if (number := attempt_of(body)) is not None}

    def acknowledged(
        self, gateway: str, public_key: str, log_id: str, lane: Lane, stored: int
    ) -> None:
        """Check, when a gateway is told that a station holds something, that the file does."""
        for station in self.world.stations:
            run = station.run
            if station.public != public_key or run is None or station.owes_word(gateway, log_id):
                continue
            row = (
                station.reader()
                .execute("SELECT main, urgent FROM log WHERE log_id = ?", (log_id,))
                .fetchone()
            )
            main, urgent = row or (0, 0)
            held = main if lane is Lane.MAIN else max(main, urgent)
            if self.world.forked:
                continue  # the cursor is that of another history, now and then
            if self.world.damaged and lane is Lane.URGENT:
                continue  # the urgent ones of a damaged file may be gone from it
            if lane is Lane.URGENT:  # only these are acknowledged there
                numbers = self.world.urgent_numbers.get(log_id, set())
                stored = max((seq for seq in numbers if seq <= stored), default=0)
            self._expect(
                stored <= held,
                f"{station.name} acknowledged {log_id} up to {stored} on {lane}, and holds {held}",
            )

    def evicts_alarms(self, gateway: str, seqs: Iterable[int], oldest: int | None) -> None:
        """Check, when alarms make room, that nothing of less value stands before them."""
        last = max(seqs)
        self._expect(
            oldest is None or oldest > last,
            f"{gateway} evicts alarms up to {last}, and keeps routine event {oldest}",
        )

    def look(self, station: "StationHost") -> None:
        """Check what must hold of a ledger at any moment."""
        self.looks += 1
        with contextlib.closing(_open(station)) as ledger:
            rows = ledger.execute(_ROWS).fetchall()
            self._check_events(station, rows)
            self._check_cursors(station, ledger)
            self._check_chain(station, ledger)
            self._check_states(station, ledger, rows)

    def verdict(self) -> None:
        """Check, in a healed and settled world, that everything is everywhere, once."""
        # One required station is enough for what only memory held.
        elsewhere = {
            number
            for station in self.world.stations
            if station.required
            for number in self.volatile(station)
        }
        for station in self.world.stations:
            self.look(station)
            held = self.held(station)
            if station.required:
                lost = [
                    each
                    for each in self.book.accepted()
                    if not held[each.id]
                    and each.id not in self.book.excused[station.name] | elsewhere
                ]
                self._expect(
                    not lost, f"{station.name} lacks what devices heard accepted: {lost[:3]}"
                )
        self._check_notices()

    def _expect(self, true: bool, what: str) -> None:
        if not true:
            raise Broken(f"seed {self.world.seed}, at {self.world.now():.3f} s: {what}")

    def _check_events(self, station: "StationHost", rows: list[tuple]) -> None:  # type: ignore[type-arg]
        seen: set[int] = set()
        order: dict[tuple[int, str], tuple[int, int]] = {}
        for n, gateway, log, log_id, seq, suspect, readable, _, body, _ in sorted(
            rows, key=lambda row: (row[2], row[4], row[0])
        ):
            self._check_number(station, gateway, log_id, seq, body)
            if self.world.damaged and (suspect or not readable):
                continue  # kept as it came, and named
            self._expect(readable, f"{station.name}: event {n} is unreadable")
            self._expect(not suspect, f"{station.name}: event {n} is suspect")
            number = attempt_of(body)
            if number is None:
                continue
            attempt = self.book.attempts.get(number)
            self._expect(
                attempt is not None and attempt.gateway == gateway,
                f"{station.name}: event {n} of {gateway} was never given to it",
            )
            # A damaged copy of an event is another event, and is kept beside it.
            self._expect(
                number not in seen or self.world.damaged,
                f"{station.name} holds attempt {number} twice",
            )
            seen.add(number)
            record = record_of(body)
            if attempt is None or record is None or record.origin is not None:
                continue
            key = (log, attempt.device)
            before = order.get(key, (0, 0))
            if self.world.forked:  # two histories of one log lie beside each other
                continue
            self._expect(
                before[1] < number,
                f"{station.name}: attempt {number} stands behind {before[1]} at {seq}",
            )
            order[key] = (seq, number)

    def _check_number(
        self, station: "StationHost", gateway: str, log_id: str, seq: int, body: bytes
    ) -> None:
        """Check that an event has the number that its gateway gave it, salvaged or not."""
        if self.world.forked or self.world.scrambled:
            return
        given = self.world.numbers.get((gateway, log_id), {}).get(seq)
        number = attempt_of(body)
        if given is not None and not (self.world.damaged and number is None):  # its end is cut off
            self._expect(
                given == number,
                f"{station.name}: attempt {number} stands at {seq} of {log_id},"
                f" which is that of {given}",
            )

    def _check_cursors(self, station: "StationHost", ledger: sqlite3.Connection) -> None:
        for log, log_id, main, urgent in ledger.execute(
            "SELECT id, log_id, main, urgent FROM log"
        ):
            covered = {seq for (seq,) in ledger.execute(_HELD, (log,))}
            for first, last, why in ledger.execute(
                "SELECT first, last, why FROM gap WHERE log = ?", (log,)
            ):
                self._expect(
                    why in NAMED_GAPS or (why == CORRUPT and self.world.damaged),
                    f"{station.name}: {log_id} {first} to {last}: {why}",
                )
                covered.update(range(first, last + 1))
            missing = [seq for seq in range(1, main + 1) if seq not in covered]
            self._expect(
                not missing, f"{station.name}: {log_id} main cursor {main}, without {missing[:5]}"
            )
            lacking = [
                seq
                for seq in self.world.urgent_numbers.get(log_id, ())
                if self.world.first.get(log_id, 1) <= seq <= urgent
                and seq not in covered
                and seq not in self.world.evicted_numbers.get(log_id, ())
            ]
            self._expect(
                not lacking or self.world.forked or self.world.damaged,
                f"{station.name}: {log_id} urgent cursor {urgent}, without {lacking[:5]}",
            )

    def _check_chain(self, station: "StationHost", ledger: sqlite3.Connection) -> None:
        if self.world.forked:
            return
        names = dict(ledger.execute("SELECT id, log_id FROM log"))
        before: tuple[int, int, bytes] | None = None
        for log, seq, chain, body in ledger.execute(_PLACES):
            previous = genesis(names[log]) if seq == 1 else None
            if before is not None and before[:2] == (log, seq - 1):
                previous = before[2]
            self._expect(
                previous is None or self.world.damaged or link(previous, seq, body) == chain,
                f"{station.name}: the chain of {names[log]} breaks at {seq}",
            )
            before = (log, seq, chain)

    def _check_states(
        self,
        station: "StationHost",
        ledger: sqlite3.Connection,
        rows: list[tuple],  # type: ignore[type-arg]
    ) -> None:
        newest: dict[tuple[str, str], int] = {}
        for row in rows:
            number = attempt_of(row[8])
            attempt = None if number is None else self.book.attempts.get(number)
            if attempt is not None and number is not None:
                key = (attempt.gateway, attempt.condition)
                newest[key] = max(newest.get(key, 0), number)
        for gateway, point, qualifier, body, _ in ledger.execute(_STATES):
            number = attempt_of(body)
            if number is None:
                continue
            expected = newest.get((gateway, point), 0)
            self._expect(
                number == expected,
                f"{station.name} shows {gateway} {point} as {qualifier} of attempt {number};"
                f" attempt {expected} is newer and held",
            )

    def _check_notices(self) -> None:
        allowed = {"events-withheld"}  # after a stall: what was announced came late
        faults = self.world.struck
        if faults & {"card restored", "card cloned", "log corrupt"}:
            allowed |= {"log-rewound", "key-shared"}
        if self.world.damaged:
            allowed |= {"chain-mismatch"}
        if faults & {"gateway power cut"}:
            allowed |= {"key-shared"}
        if faults & {"key change"}:
            allowed |= {"key-refused", "key-shared"}
        for station in self.world.stations:
            for notice in station.notices:
                declared = notice.reason == "log-gap" and "no longer has" in notice.text
                self._expect(
                    declared or notice.reason in allowed,
                    f"{station.name} says {notice.reason}: {notice.text}",
                )


def _open(station: "StationHost") -> sqlite3.Connection:
    from tests.world.hosts import reader  # noqa: PLC0415 - they know each other

    return reader(station.disk.folder)
