"""What goes from the log, in which order, and the gaps that it leaves.

Delivered events go first, oldest first. Undelivered ones go by class, each class oldest first:
measurements, status, faults, whatever else is routine, supervisory signals and bypasses, and urgent
events last of all. A range that is gone is a row of `gap`, with the chain values at both ends;
ranges that touch are one row. Everything here runs inside the caller's transaction.
"""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from buffer import schema
from buffer.faults import HINTS
from events.chain import CHAIN_LENGTH, genesis
from events.errors import StoreCorrupt
from events.kinds import Kind

TRIMMED: Final = "trimmed"  # every required station holds it
DELIVERED: Final = "delivered"  # the same, gone ahead on the urgent lane
EVICTED: Final = "evicted"  # no required station holds it: the bound left no room

URGENT: Final = "urgent"
OTHER: Final = "other"
ROWS_MAX: Final = 128  # in one step
WINDOW: Final = 2048  # numbers that one step looks at
WINDOWS_MAX: Final = 8
# A row that goes alone dirties its page and, at worst, the two that it is balanced with.
ROW_BYTES: Final = 3 * schema.PAGE_BYTES

_ROUTINE: Final = "routine_event"
_URGENT: Final = "urgent_event"
_KINDS_OF_THEIR_OWN: Final = (
    Kind.MEASUREMENT,
    Kind.STATUS,
    Kind.FAULT,
    Kind.SUPERVISORY,
    Kind.DISABLED,
)


@dataclass(frozen=True, slots=True)
class _Class:
    """Events that go together: `where` picks them from their table."""

    name: str
    table: str
    where: str
    why: str = EVICTED


def _one_of(*kinds: str) -> str:
    return f"kind IN ({', '.join(repr(str(kind)) for kind in kinds)})"


_HELD: Final = _Class(DELIVERED, _URGENT, "seq <= :held", DELIVERED)
_ORDER: Final = (
    _Class("measurement", _ROUTINE, _one_of(Kind.MEASUREMENT)),
    _Class("status", _ROUTINE, _one_of(Kind.STATUS)),
    _Class("fault", _ROUTINE, _one_of(Kind.FAULT)),
    _Class(OTHER, _ROUTINE, f"NOT {_one_of(*_KINDS_OF_THEIR_OWN)}"),
    _Class("supervisory", _ROUTINE, _one_of(Kind.SUPERVISORY, Kind.DISABLED)),
)
_LAST: Final = _Class(URGENT, _URGENT, "TRUE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evicted:
    """What one step threw away although no required station holds it: how many of which class."""

    counts: dict[str, int]
    first: int
    last: int

    def joined(self, later: "Evicted") -> "Evicted":
        counts = dict(self.counts)
        for name, count in later.counts.items():
            counts[name] = counts.get(name, 0) + count
        return Evicted(
            counts=counts, first=min(self.first, later.first), last=max(self.last, later.last)
        )

    @property
    def count(self) -> int:
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: how many rows went, what of it is lost, and whether nothing else may go."""

    rows: int = 0
    evicted: Evicted | None = None
    exhausted: bool = False


class Eviction:
    """Finds what may go next. It remembers, per class, up to where nothing of it is left."""

    def __init__(self, connection: sqlite3.Connection, gaps: "Gaps", rows_max: int) -> None:
        self._connection = connection
        self._gaps = gaps
        self._rows_max = max(8, min(ROWS_MAX, rows_max))
        self._looked: dict[str, int] = {}

    def step(self, limit: int, *, held: int, urgent: bool) -> Step:
        """Delete some of the least valuable events numbered up to `limit`.

        held: urgent events up to here are held by every required station: they go first.
        urgent: undelivered urgent events may go as well, when nothing else is left.
        """
        windows = WINDOWS_MAX
        for each in (_HELD, *_ORDER, *((_LAST,) if urgent else ())):
            through = min(limit, held) if each is _HELD else limit
            while (start := self._next(each, through)) is not None:
                if not windows:
                    return Step()
                windows -= 1
                until = min(start + WINDOW - 1, through)
                seqs, chains = self._find(each, start, until, held)
                full = len(seqs) == self._rows_max
                if seqs:
                    self._delete(each, seqs, chains, held)
                self._looked[each.name] = seqs[-1] if full else until
                if seqs:
                    return Step(rows=len(seqs), evicted=_lost(each, seqs))
        return Step(exhausted=True)

    def look_anew(self) -> None:
        """Forget where nothing was left: a step that failed gave back what it had deleted."""
        self._looked.clear()

    def _next(self, each: _Class, through: int) -> int | None:
        """Return the next number of the table that was not looked at, None beyond `through`."""
        looked = self._looked.get(each.name, 0)
        row = self._connection.execute(
            f"SELECT min(seq) FROM {each.table} WHERE seq > ?",  # noqa: S608 - our own names
            (looked,),
        ).fetchone()
        start: int | None = row[0]
        return None if start is None or start > through else start

    def _find(
        self, each: _Class, start: int, until: int, held: int
    ) -> tuple[list[int], list[bytes]]:
        # One row for the whole answer: see buffer.reading.
        seqs, chains = self._connection.execute(
            "SELECT group_concat(seq), group_concat(hex(chain), '') FROM ("  # noqa: S608
            f"SELECT seq, chain FROM {each.table} WHERE seq >= :start AND seq <= :until "
            f"AND {each.where} ORDER BY seq LIMIT :rows)",
            {"start": start, "until": until, "rows": self._rows_max, "held": held},
        ).fetchone()
        if seqs is None:
            return [], []
        values = bytes.fromhex(chains)
        return [int(text) for text in seqs.split(",")], [
            values[at : at + CHAIN_LENGTH] for at in range(0, len(values), CHAIN_LENGTH)
        ]

    def _delete(self, each: _Class, seqs: list[int], chains: list[bytes], held: int) -> None:
        begin = 0
        for index, seq in enumerate(seqs):
            if index + 1 == len(seqs) or seqs[index + 1] != seq + 1:
                self._gaps.declare(seqs[begin], seq, chains[index], each.why)
                begin = index + 1
        self._connection.execute(
            f"DELETE FROM {each.table} WHERE seq >= :first AND seq <= :last "  # noqa: S608
            f"AND {each.where}",
            {"first": seqs[0], "last": seqs[-1], "held": held},
        )


class Gaps:
    """The rows of `gap`. `chain_at` gives the chain value at a number that is held or gone."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        log_id: str,
        chain_at: Callable[[int], bytes | None],
    ) -> None:
        self._connection = connection
        self._genesis = genesis(log_id)
        self._chain_at = chain_at

    def declare(self, first: int, last: int, chain_after: bytes, why: str) -> None:
        """Declare a range gone, before it is deleted, as one with the ranges that it touches."""
        before = self._before(first)
        rows = self._connection.execute(
            "SELECT first, last, chain_before, chain_after, why FROM gap "
            "WHERE (last = ? OR first = ?) AND why <> ? ORDER BY first",
            (first - 1, last + 1, TRIMMED),
        ).fetchall()
        for gap_first, gap_last, gap_before, gap_after, gap_why in rows:
            if gap_first < first:
                first, before = gap_first, gap_before
            else:
                last, chain_after = gap_last, gap_after
            why = EVICTED if EVICTED in {why, gap_why} else why
            self._connection.execute("DELETE FROM gap WHERE first = ?", (gap_first,))
        self._insert(first, last, before, chain_after, why)

    def trimmed(self, last: int, chain_after: bytes) -> None:
        """Declare everything up to `last` delivered, older ranges with it."""
        self._connection.execute("DELETE FROM gap WHERE last <= ?", (last,))
        self._insert(1, last, self._genesis, chain_after, TRIMMED)

    def _before(self, first: int) -> bytes:
        before = self._genesis if first == 1 else self._chain_at(first - 1)
        if before is None:
            raise StoreCorrupt(f"event {first - 1} is missing", hint=HINTS[StoreCorrupt])
        return before

    def _insert(self, first: int, last: int, before: bytes, after: bytes, why: str) -> None:
        self._connection.execute(
            "INSERT INTO gap (first, last, chain_before, chain_after, why) VALUES (?, ?, ?, ?, ?)",
            (first, last, before, after, why),
        )


def _lost(each: _Class, seqs: list[int]) -> Evicted | None:
    if each.why != EVICTED:
        return None
    return Evicted(counts={each.name: len(seqs)}, first=seqs[0], last=seqs[-1])
