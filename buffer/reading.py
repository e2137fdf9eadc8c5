"""Reading the log by lane, in slices that never hold up an append.

Each query gives its whole answer in one row. SQLite's Python module lets go of the interpreter
lock at every row; with a busy event loop, getting it back can take 5 ms each time, and a thousand
rows seconds. (The LIMIT of the inner queries also keeps SQLite from dropping their ORDER BY.)

`group_concat` joins blobs byte by byte, zero bytes included; its documentation speaks of text alone,
so every reader tries that first, and goes by way of hexadecimal digits where it is not so.
"""

import sqlite3
import struct
from collections.abc import Callable, Generator
from itertools import accumulate
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
SELECT {chains}, {bodies} FROM (
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
SELECT {chains}, {bodies} FROM (
    SELECT seq, chain, body FROM urgent_event WHERE seq > :after AND seq <= :last
    ORDER BY seq LIMIT :rows)
"""
_QUERIES: Final = {
    Lane.MAIN: (_MAIN_SIZES, _MAIN_BODIES),
    Lane.URGENT: (_URGENT_SIZES, _URGENT_BODIES),
}
_JOINED: Final = "CAST(group_concat({}, '') AS BLOB)"
_JOINED_HEX: Final = "group_concat(hex({}), '')"
_PROBE: Final = (b"\x00\xff", b"\xc3", b"", b"\x00", b"\x80\x00\xfe\x00")
_GAPS: Final = """
SELECT first, last, chain_before, chain_after, why FROM gap WHERE last >= ? AND first <= ? ORDER BY first
"""


class LogReader:
    """Reads through the log's own connection. `head` gives the newest number.

    joins: whether this SQLite joins blobs byte by byte, where that is known.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        head: Callable[[], int],
        *,
        joins: bool | None = None,
    ) -> None:
        self._connection = connection
        self._head = head
        self._hex = not (joins_blobs(connection) if joins is None else joins)
        join = _JOINED_HEX if self._hex else _JOINED
        self._bodies = {
            lane: query.format(chains=join.format("chain"), bodies=join.format("body"))
            for lane, (_, query) in _QUERIES.items()
        }

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
                taken, used, exhausted = self._slice(
                    lane, position, room, bare_through, not entries
                )
                last = taken[-1].seq if taken else position
                # Asked in the same step: between slices an append may have moved the head.
                last = self._head() if exhausted and last < self._head() else last
                if lane is Lane.MAIN:
                    gaps += self._gaps(position, taken, last)
            entries += taken
            position = last
            room -= used
            if exhausted or room <= 0 or not taken or len(gaps) >= GAPS_MAX:
                break
            yield
        return Reading(
            entries=tuple(entries), gaps=tuple(gaps), through=position, head=self._head()
        )

    def _slice(
        self, lane: Lane, after: int, room: int, bare: int, at_least_one: bool
    ) -> tuple[list[Entry], int, bool]:
        """Return some entries, their bytes, and whether nothing of the lane comes after them."""
        sizes_query, _ = _QUERIES[lane]
        where = {"after": after, "bare": bare, "rows": SLICE_ROWS}
        seqs_text, sizes_text = self._connection.execute(sizes_query, where).fetchone()
        if seqs_text is None:
            return [], 0, True
        seqs = list(map(int, seqs_text.split(",")))
        sizes = list(map(int, sizes_text.split(",")))
        count, used = _fitting(sizes, min(room, SLICE_BYTES), at_least_one=at_least_one)
        if not count:
            return [], 0, False
        where["last"] = seqs[count - 1]
        chains, bodies = self._connection.execute(self._bodies[lane], where).fetchone()
        if self._hex:
            chains, bodies = bytes.fromhex(chains), bytes.fromhex(bodies or "")
        entries = _entries(seqs[:count], sizes[:count], chains, bodies or b"")
        return entries, used, count == len(seqs) < SLICE_ROWS

    def _gaps(self, after: int, entries: list[Entry], last: int) -> list[Gap]:
        """Return the gaps that make `entries` contiguous from `after + 1` to `last`."""
        gaps: list[Gap] = []
        if entries and last == entries[-1].seq == after + len(entries):
            return gaps  # numbers only grow: so many have no room for a hole
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


def _fitting(sizes: list[int], room: int, *, at_least_one: bool) -> tuple[int, int]:
    """Return how many of the next entries fit, and their bytes."""
    used = 0
    for index, needed in enumerate(accumulate(ENTRY_BYTES + max(size, 0) for size in sizes)):
        if needed > room and (index or not at_least_one):
            return index, used
        used = needed
        if needed > room:
            return 1, used
    return len(sizes), used


def _entries(seqs: list[int], sizes: list[int], chains: bytes, bodies: bytes) -> list[Entry]:
    try:
        each_chain = struct.unpack(f"{CHAIN_LENGTH}s" * len(seqs), chains)
        whole = _cut(bodies, [size for size in sizes if size != _BARE])
    except struct.error as error:
        raise StoreCorrupt("the log contradicts itself", hint=HINTS[StoreCorrupt]) from error
    if len(whole) == len(sizes):
        return list(map(Entry, seqs, each_chain, whole))
    rest = iter(whole)
    pieces = (None if size == _BARE else next(rest) for size in sizes)
    return list(map(Entry, seqs, each_chain, pieces))


def _cut(joined: bytes, sizes: list[int]) -> tuple[bytes, ...]:
    """Return the pieces of those sizes that `joined` is made of. Raises `struct.error`."""
    # Not through the module's functions: they keep what they compile, and this never comes again.
    return struct.Struct("".join(f"{size}s" for size in sizes)).unpack(joined)


def joins_blobs(connection: sqlite3.Connection) -> bool:
    """Tell whether this SQLite joins blobs byte by byte."""
    values = ", ".join(f"(x'{piece.hex()}')" for piece in _PROBE)
    query = f"SELECT {_JOINED.format('column1')} FROM (VALUES {values})"  # noqa: S608 - constants
    (joined,) = connection.execute(query).fetchone()
    return bool(joined == b"".join(_PROBE))
