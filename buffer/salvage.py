"""A set-aside store, offered again under its own numbers, as far as it can be read.

One pass over all pages notes on which leaf each event lies (four bytes for each number); readings
then go to the leaf. Nothing is written. An event whose leaf is lost is taken from the copy of the
newest states where it lies there too. A range that cannot be found is a gap with the reason
`corrupt`, up to the highest number that any table names.
"""

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from buffer.damaged_file import DamagedFile, Row
from buffer.faults import HINTS, translated
from buffer.memory import readable
from buffer.reading import ENTRY_BYTES, GAPS_MAX
from buffer.schema import CHAIN_ALGORITHM
from events.chain import CHAIN_LENGTH, link
from events.errors import StoreError
from events.kinds import is_urgent
from events.replication import Entry, Gap, Lane, LogHead, Reading

CORRUPT: Final = "corrupt"
UNKNOWN_CHAIN: Final = bytes(CHAIN_LENGTH)  # what follows cannot be checked against it
PAGES_AT_ONCE: Final = 32  # in one slice, about 2 ms
ROWS_AT_ONCE: Final = 128
BLOCK: Final = 4096  # numbers
BLOCKS_MAX: Final = 4096  # of 16 KiB each
HOLE_BLOCKS_MAX: Final = 4096  # a number so far beyond all others is damage itself
GAPS_KEPT_MAX: Final = 100_000
COPIES_MAX: Final = 40_000  # numbers; more than there are conditions
COPIED_BYTES_MAX: Final = 4 * 1024 * 1024
COPIED: Final = 1  # in place of a page: the first holds no rows
STATION_KEY_LENGTH: Final = 40


@dataclass(slots=True)
class Salvage:
    """What a damaged file holds. `scan` first; then `head` and `read`.

    head: None where nothing at all was found. known: what was known of the log when it was set
    aside. events: how many were found.
    """

    path: Path
    known: LogHead | None = None
    head: LogHead | None = None
    events: int = 0
    dropped: int = 0
    scanned_pages: int = 0
    pages: int = 0
    _file: DamagedFile | None = None
    _log_id: str = ""
    _blocks: dict[int, "array[int]"] = field(default_factory=dict)
    _gaps: dict[int, tuple[int, bytes, bytes, str]] = field(default_factory=dict)
    _numbers: list[int] = field(default_factory=list)  # of blocks, in order
    _starts: list[int] = field(default_factory=list)  # of gaps, in order
    _leaf: tuple[int, dict[int, Row]] = (0, {})
    _copies: dict[int, int] = field(default_factory=dict)  # number → page of the newest states
    _copied: dict[int, Row] = field(default_factory=dict)
    _named: int = 0  # the highest number that any table names

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def scan(self) -> Generator[None, None, None]:
        """Look at every page, in slices. Raises `StoreError` when the medium gives nothing."""
        with translated(f"cannot read {self.path}"):
            file = self._file = DamagedFile.open(self.path)
        yield from file.replay()
        self.pages = file.pages
        for number in range(2, file.pages + 1):  # the first page holds no rows of ours
            try:
                for row in file.rows(number):
                    self._note(row)
            except OSError:  # a sector that cannot be read any more
                self.dropped += 1
            if number % PAGES_AT_ONCE == 0:
                self.scanned_pages = number
                yield
        self.scanned_pages = self.pages
        self._drop_strays()
        self._take_copies()
        self._numbers, self._starts = sorted(self._blocks), sorted(self._gaps)
        self.head = self._find_head()

    def missing(self) -> int:
        """Return how many numbers up to the head neither an event nor a gap of old accounts for."""
        if self.head is None:
            return 0
        declared = sum(last - first + 1 for first, (last, *_) in self._gaps.items())
        return max(0, self.head.head - self.events - declared)

    def read(
        self, lane: Lane, after: int, *, limit_bytes: int, bare_through: int = 0
    ) -> Generator[None, None, Reading]:
        """Return entries of a lane in slices; see `sync.log.Log.read` for the meaning.

        Raises `StoreError` once the file is closed, between two slices too.
        """
        assert self.head is not None  # noqa: S101 - nothing else is offered
        entries: list[Entry] = []
        gaps: list[Gap] = []
        position, room, head = after, limit_bytes, self.head.head
        while position < head and len(gaps) < GAPS_MAX:
            seq = self._next(position, lane)
            row = None if seq is None else self._event(seq)
            if seq is not None and row is None:
                self._forget(seq)  # it could be read a moment ago
                continue
            if row is not None and room <= 0 and entries:
                break
            if lane is Lane.MAIN and (row is None or row.rowid > position + 1):
                gaps += self._missing_between(position + 1, head if row is None else row.rowid - 1)
            if row is None:
                position = head
                break
            bare = lane is Lane.MAIN and row.rowid <= bare_through and self._is_urgent(row.rowid)
            entry = _entry(row, bare=bare)
            entries.append(entry)
            room -= ENTRY_BYTES + len(entry.body or b"")
            position = row.rowid
            if len(entries) % ROWS_AT_ONCE == 0:
                yield
        return Reading(
            entries=tuple(entries), gaps=tuple(gaps), through=max(after, position), head=head
        )

    # ------------------------------------------------------------------ the pass over all pages

    def _note(self, row: Row) -> None:
        values = row.values
        if _is_event(row):
            self._note_event(row)
        elif len(values) >= 6 and values[4] == CHAIN_ALGORITHM and isinstance(values[1], str):
            self._log_id = values[1]
            self._name_number(values[5])
        elif _is_copy(row):
            self._name_number(values[4])
            if len(self._copies) < COPIES_MAX:
                self._copies[int(str(values[4]))] = row.page
        elif len(values) == 3 and len(str(values[0])) == STATION_KEY_LENGTH:  # a mark
            self._name_number(values[2] if values[1] in set(Lane) else None)
        elif len(values) == 5 and len(self._gaps) < GAPS_KEPT_MAX:
            _, last, before, after, why = values
            if (
                isinstance(last, int)
                and row.rowid <= last < 1 << 48
                and isinstance(before, bytes)
                and isinstance(after, bytes)
                and len(before) == len(after) == CHAIN_LENGTH
                and isinstance(why, str)
            ):
                self._gaps[row.rowid] = (last, before, after, why)

    def _name_number(self, number: object) -> None:
        if isinstance(number, int) and 0 < number < 1 << 48:
            self._named = max(self._named, number)

    def _note_event(self, row: Row) -> None:
        number, offset = divmod(row.rowid, BLOCK)
        block = self._blocks.get(number)
        if block is None:
            if len(self._blocks) >= BLOCKS_MAX:
                self.dropped += 1
                return
            block = self._blocks[number] = array("I", bytes(4 * BLOCK))
        if not block[offset]:
            self.events += 1
            block[offset] = row.page << 1 | _urgent(row)

    def _drop_strays(self) -> None:
        numbers = sorted(self._blocks)
        for before, number in zip([-1, *numbers], numbers, strict=False):
            if number - before > HOLE_BLOCKS_MAX and before >= 0:
                for stray in numbers[numbers.index(number) :]:
                    block = self._blocks.pop(stray)
                    self.events -= BLOCK - block.count(0)
                    self.dropped += BLOCK - block.count(0)
                return

    def _take_copies(self) -> None:
        """Take lost events from the newest states, where the event before gives the chain value."""
        size = 0
        for seq in sorted(self._copies):
            before = self._event(seq - 1)
            if before is None or self._event(seq) is not None:
                continue
            body = self._copy(seq)
            chain, after = before.values[1], self._event(seq + 1)
            if body is None or not isinstance(chain, bytes):
                continue
            chain = link(chain, seq, body)
            if after is not None and after.values[1] != link(chain, seq + 1, _body(after)):
                continue  # of another time
            size += len(body)
            if size > COPIED_BYTES_MAX:
                break
            row = Row(COPIED, seq, (None, chain, "", "", None, body))
            self._copied[seq] = row
            self._note_event(row)

    def _copy(self, seq: int) -> bytes | None:
        assert self._file is not None  # noqa: S101 - it was read a moment ago
        try:
            rows = [row for row in self._file.rows(self._copies[seq]) if _is_copy(row)]
        except OSError:
            return None
        body = next((row.values[5] for row in rows if row.values[4] == seq), None)
        return body if isinstance(body, bytes) and readable(body) is not None else None

    def _find_head(self) -> LogHead | None:
        known = self.known
        last = self._last()
        first = self._next(0, Lane.MAIN) or last + 1
        row = self._event(last) if last else None
        chain = row.values[1] if row is not None else UNKNOWN_CHAIN
        for end, _before, after, _why in self._gaps.values():
            if end > last:
                last, chain = end, after
        if known is not None and known.head > last:
            last, chain = known.head, known.chain
        if last < self._named <= last + HOLE_BLOCKS_MAX * BLOCK:
            last, chain = self._named, UNKNOWN_CHAIN
        if not last:
            return None
        log_id = self._log_id or (known.log_id if known is not None else "")
        if not log_id:  # the row that names the log is lost: the same name at every start
            row = self._event(first)
            seed = self.path.name.encode() if row is None else bytes(repr(row.values[1]), "ascii")
            log_id = hashlib.sha256(b"salvaged" + seed).hexdigest()[:16]
        assert isinstance(chain, bytes)  # noqa: S101 - a row is an event by its types
        return LogHead(log_id=log_id, first=first, head=last, chain=chain)

    # ------------------------------------------------------------------ finding an event again

    def _last(self) -> int:
        if not self._blocks:
            return 0
        number = max(self._blocks)
        block = self._blocks[number]
        return number * BLOCK + max(at for at in range(BLOCK) if block[at])

    def _next(self, after: int, lane: Lane) -> int | None:
        """Return the number of the next event of a lane, None if there is none."""
        start, offset = divmod(after + 1, BLOCK)
        for number in self._numbers[bisect_left(self._numbers, start) :]:
            block = self._blocks[number]
            for at in range(offset if number == start else 0, BLOCK):
                if block[at] and (lane is Lane.MAIN or block[at] & 1):
                    return number * BLOCK + at
        return None

    def _event(self, seq: int) -> Row | None:
        number, offset = divmod(seq, BLOCK)
        if number not in self._blocks:
            return None
        page = self._blocks[number][offset] >> 1
        if page <= COPIED:
            return self._copied.get(seq)
        if self._leaf[0] != page:
            if self._file is None:  # delivered while a station that need not have it was reading
                raise StoreError(f"{self.path} is no longer offered", hint=HINTS[StoreError])
            try:
                rows = {row.rowid: row for row in self._file.rows(page) if _is_event(row)}
            except OSError:
                rows = {}
            self._leaf = (page, rows)
        return self._leaf[1].get(seq)

    def _is_urgent(self, seq: int) -> bool:
        number, offset = divmod(seq, BLOCK)
        return bool(self._blocks[number][offset] & 1)

    def _forget(self, seq: int) -> None:
        number, offset = divmod(seq, BLOCK)
        self._blocks[number][offset] = 0
        self.events -= 1

    def _missing_between(self, first: int, last: int) -> list[Gap]:
        """Return the gaps from `first` to `last`: those of old, and what is between them."""
        gaps: list[Gap] = []
        known = self.known
        at = max(0, bisect_left(self._starts, first) - 1)  # one may reach in from before
        while first <= last and at < len(self._starts) and self._starts[at] <= last:
            start = self._starts[at]
            end, before, after, why = self._gaps[start]
            at += 1
            if end < first:
                continue
            if start > first:
                gaps.append(Gap(first, start - 1, before, CORRUPT))
            chain = after if end <= last else UNKNOWN_CHAIN
            gaps.append(Gap(max(first, start), min(end, last), chain, why))
            first = end + 1
        if first <= last:
            is_end = known is not None and known.head == last
            gaps.append(
                Gap(first, last, known.chain if is_end and known else UNKNOWN_CHAIN, CORRUPT)
            )
        return gaps


def _is_event(row: Row) -> bool:
    """Tell an event from a row of another table by its columns; minors add columns at the end."""
    values = row.values
    if len(values) < 6 or not 0 < row.rowid < 1 << 48:
        return False
    seq, chain, kind, point, at_us, body = values[:6]
    return (
        seq is None
        and isinstance(chain, bytes)
        and len(chain) == CHAIN_LENGTH
        and isinstance(kind, str)
        and isinstance(point, str)
        and (at_us is None or isinstance(at_us, int))
        and isinstance(body, bytes)
    )


def _is_copy(row: Row) -> bool:
    """Tell a row of the newest states by its columns."""
    values = row.values
    if len(values) < 6:
        return False
    seq, body = values[4:6]
    return (
        isinstance(seq, int)
        and 0 < seq < 1 << 48
        and isinstance(body, bytes)
        and all(isinstance(text, str) for text in values[:4])
    )


def _body(row: Row) -> bytes:
    body = row.values[5]
    assert isinstance(body, bytes)  # noqa: S101 - `_is_event` looked
    return body


def _urgent(row: Row) -> bool:
    body, kind = row.values[5], str(row.values[2])
    record = readable(body) if isinstance(body, bytes) else None
    return is_urgent(kind, configured=False) if record is None else record.urgent


def _entry(row: Row, *, bare: bool) -> Entry:
    chain = row.values[1]
    assert isinstance(chain, bytes)  # noqa: S101 - `_is_event` looked
    return Entry(row.rowid, chain, None if bare else _body(row))
