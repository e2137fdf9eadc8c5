"""Reading the log by lane, in slices that never hold up an append.

Each query gives its whole answer in one row. SQLite's Python module lets go of the interpreter
lock at every row; with a busy event loop, getting it back can take 5 ms each time, and a thousand
rows seconds. (The LIMIT of the inner queries also keeps SQLite from dropping their ORDER BY.)
"""

import sqlite3
from collections.abc import Callable, Generator
from typing import Final

from buffer.faults import HINTS, translated
from events.chain import CHAIN_LENGTH
from events.errors import StoreCorrupt
from events.replication import Entry, Gap, Lane, Reading

SLICE_BYTES: Final = 256 * 1024
SLICE_ROWS: Final = 1024
GAPS_MAX: Final = 1024  # in one reading; a slice may add at most as many as it has rows
ENTRY_BYTES: Final = 32  # number, chain value and framing of an entry on the wire

_BARE: Final = -1

_MAIN_SIZES: Final = """
SELECT group_concat(seq), group_concat(size) FROM (
    SELECT seq, length(body) AS size FROM routine_event WHERE seq > :after
    UNION ALL
    SELECT seq, CASE WHEN seq <= :bare THEN -1 ELSE length(body) END FROM urgent_event
    WHERE seq > :after
    ORDER BY seq LIMIT :rows)
"""
_MAIN_BODIES: Final = """
SELECT group_concat(hex(chain), ''), group_concat(hex(body), '') FROM (
    SELECT seq, chain, body FROM routine_event WHERE seq > :after AND seq <= :last
    UNION ALL
    SELECT seq, chain, CASE WHEN seq <= :bare THEN NULL ELSE body END FROM urgent_event
    WHERE seq > :after AND seq <= :last
    ORDER BY seq LIMIT :rows)
"""
_URGENT_SIZES: Final = """
SELECT group_concat(seq), group_concat(size) FROM (
    SELECT seq, length(body) AS size FROM urgent_event WHERE seq > :after
    ORDER BY seq LIMIT :rows)
"""
_URGENT_BODIES: Final = """
SELECT group_concat(hex(chain), ''), group_concat(hex(body), '') FROM (
    SELECT seq, chain, body FROM urgent_event WHERE seq > :after AND seq <= :last
    ORDER BY seq LIMIT :rows)
"""
_QUERIES: Final = {
    Lane.MAIN: (_MAIN_SIZES, _MAIN_BODIES),
    Lane.URGENT: (_URGENT_SIZES, _URGENT_BODIES),
}
_GAPS: Final = """
SELECT first, last, chain_before, chain_after, why FROM gap WHERE last >= ? AND first <= ? ORDER BY first
"""


class LogReader:
    """Reads through the log's own connection. `head` gives the newest number."""

    def __init__(self, connection: sqlite3.Connection, head: Callable[[], int]) -> None:
        self._connection = connection
        self._head = head

    def read(
        self, lane: Lane, after: int, *, limit_bytes: int, bare_through: int = 0
    ) -> Generator[None, None, Reading]:
        """Return a `Reading`; every step of the generator is one slice.

        Raises `StoreCorrupt` when numbers are missing that no gap declares.
        """
        entries: list[Entry] = []
        gaps: list[Gap] = []
        position = after
        room = limit_bytes
        while True:
            with translated("cannot read the log"):
                taken, exhausted = self._slice(lane, position, room, bare_through, not entries)
                last = taken[-1].seq if taken else position
                # Asked in the same step: between slices an append may have moved the head.
                last = self._head() if exhausted and last < self._head() else last
                if lane is Lane.MAIN:
                    gaps += self._gaps(position, taken, last)
            entries += taken
            position = last
            room -= sum(ENTRY_BYTES + len(entry.body or b"") for entry in taken)
            if exhausted or room <= 0 or not taken or len(gaps) >= GAPS_MAX:
                break
            yield
        return Reading(
            entries=tuple(entries), gaps=tuple(gaps), through=position, head=self._head()
        )

    def _slice(
        self, lane: Lane, after: int, room: int, bare: int, at_least_one: bool
    ) -> tuple[list[Entry], bool]:
        """Return some entries, and whether nothing of the lane comes after them."""
        sizes_query, bodies_query = _QUERIES[lane]
        where = {"after": after, "bare": bare, "rows": SLICE_ROWS}
        seqs_text, sizes_text = self._connection.execute(sizes_query, where).fetchone()
        if seqs_text is None:
            return [], True
        seqs = [int(text) for text in seqs_text.split(",")]
        sizes = [int(text) for text in sizes_text.split(",")]
        count = _fitting(sizes, min(room, SLICE_BYTES), at_least_one=at_least_one)
        if not count:
            return [], False
        where["last"] = seqs[count - 1]
        chains_hex, bodies_hex = self._connection.execute(bodies_query, where).fetchone()
        entries = _entries(seqs[:count], sizes[:count], chains_hex, bodies_hex)
        return entries, count == len(seqs) < SLICE_ROWS

    def _gaps(self, after: int, entries: list[Entry], last: int) -> list[Gap]:
        """Return the gaps that make `entries` contiguous from `after + 1` to `last`."""
        gaps: list[Gap] = []
        expected = after + 1
        for entry in entries:
            if entry.seq != expected:
                gaps += self._declared(expected, entry.seq - 1)
            expected = entry.seq + 1
        if expected <= last:
            gaps += self._declared(expected, last)
        return gaps

    def _declared(self, first: int, last: int) -> list[Gap]:
        gaps = []
        expected = first
        rows = self._connection.execute(_GAPS, (first, last))
        for gap_first, gap_last, before, chain, why in rows:
            if gap_first > expected or gap_last > last:
                break
            known = before if gap_first == expected else b""
            gaps.append(Gap(expected, gap_last, chain, why, known))
            expected = gap_last + 1
        if expected <= last:
            raise StoreCorrupt(
                f"events {expected} to {last} are missing and nothing says why",
                hint=HINTS[StoreCorrupt],
            )
        return gaps


def _fitting(sizes: list[int], room: int, *, at_least_one: bool) -> int:
    """Return how many of the next entries fit."""
    for index, size in enumerate(sizes):
        room -= ENTRY_BYTES + max(size, 0)
        if room < 0:
            return max(index, 1) if at_least_one else index
    return len(sizes)


def _entries(
    seqs: list[int], sizes: list[int], chains_hex: str, bodies_hex: str | None
) -> list[Entry]:
    chains = bytes.fromhex(chains_hex)
    bodies = bytes.fromhex(bodies_hex or "")
    if len(chains) != CHAIN_LENGTH * len(seqs) or len(bodies) != sum(max(s, 0) for s in sizes):
        raise StoreCorrupt("the log contradicts itself", hint=HINTS[StoreCorrupt])
    entries = []
    at = 0
    for index, (seq, size) in enumerate(zip(seqs, sizes, strict=True)):
        chain = chains[index * CHAIN_LENGTH : (index + 1) * CHAIN_LENGTH]
        end = at + max(size, 0)
        entries.append(Entry(seq, chain, None if size == _BARE else bodies[at:end]))
        at = end
    return entries
