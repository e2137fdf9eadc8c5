"""Reading rows out of a store that SQLite does not open: page by page, never writing.

Follows https://sqlite.org/fileformat2.html: sections 1.6 (b-tree pages), 2.1 (records) and 4
(write-ahead log). The tree above the leaves is not needed: a leaf names its rows itself, and what
a row is can be told from its columns. Every length is checked; damage costs the rows it hit.
"""

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct, unpack
from typing import Final, Self

from buffer.schema import PAGE_BYTES
from events.wire import BODY_LENGTH_MAX

Value = int | float | bytes | str | None

FRAMES_AT_ONCE: Final = 32  # of the write-ahead log, summed up in one slice

_LEAF: Final = 0x0D
_POINTER: Final = Struct(">H")
_WORD: Final = Struct(">I")
_WAL_HEADER: Final = Struct(">8I")
_FRAME_HEADER: Final = Struct(">6I")
_WAL_MAGIC: Final = 0x377F0682  # the lowest bit: sums are big-endian
_LOCAL_MAX: Final = PAGE_BYTES - 35
_LOCAL_MIN: Final = (PAGE_BYTES - 12) * 32 // 255 - 23
_PAYLOAD_MAX: Final = BODY_LENGTH_MAX + 4096
_INTEGER_LENGTHS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_COLUMNS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it lies there: `page` names its leaf."""

    page: int
    rowid: int
    values: tuple[Value, ...]


@dataclass(slots=True)
class DamagedFile:
    """An open file and the committed pages of its write-ahead log. Close it."""

    descriptor: int
    wal: int  # -1: none
    pages: int
    newer: dict[int, int] = field(default_factory=dict)  # page → where it lies in the log

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a file for reading; `replay` is still to be run. Raises `OSError`."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            wal = os.open(path.with_name(path.name + "-wal"), os.O_RDONLY)
        except OSError:
            wal = -1
        return cls(descriptor, wal, -(-os.fstat(descriptor).st_size // PAGE_BYTES))

    def close(self) -> None:
        os.close(self.descriptor)
        if self.wal >= 0:
            os.close(self.wal)

    def replay(self) -> Generator[None, None, None]:
        """Find the committed pages of the write-ahead log, up to the first broken frame."""
        header = os.pread(self.wal, _WAL_HEADER.size, 0) if self.wal >= 0 else b""
        if len(header) < _WAL_HEADER.size:
            return
        magic, _version, page_bytes, _number, *salts_and_sums = _WAL_HEADER.unpack(header)
        if magic & ~1 != _WAL_MAGIC or page_bytes != PAGE_BYTES:
            return
        order = ">" if magic & 1 else "<"
        sums = _summed(order, (0, 0), header[:24])
        if sums != tuple(salts_and_sums[2:]):
            return
        at, pending, frame_bytes = _WAL_HEADER.size, {}, _FRAME_HEADER.size + PAGE_BYTES
        while True:
            for _ in range(FRAMES_AT_ONCE):
                frame = os.pread(self.wal, frame_bytes, at)
                if len(frame) < frame_bytes:
                    return
                page, size, *rest = _FRAME_HEADER.unpack_from(frame)
                sums = _summed(order, sums, frame[:8] + frame[_FRAME_HEADER.size :])
                if rest != [*salts_and_sums[:2], *sums]:
                    return
                pending[page] = at + _FRAME_HEADER.size
                if size:  # a commit
                    self.newer |= pending
                    pending = {}
                    self.pages = max(self.pages, size)
                at += frame_bytes
            yield

    def page(self, number: int) -> bytes:
        """Return a page as of the last commit; short or empty where the file ends. May raise."""
        at = self.newer.get(number)
        if at is not None:
            return os.pread(self.wal, PAGE_BYTES, at)
        return os.pread(self.descriptor, PAGE_BYTES, (number - 1) * PAGE_BYTES)

    def rows(self, number: int) -> Iterator[Row]:
        """Return the rows of a page, if it is a leaf of a table, as far as they can be read."""
        page = self.page(number)
        if len(page) < PAGE_BYTES or page[0] != _LEAF:
            return
        count = _POINTER.unpack_from(page, 3)[0]
        if 8 + 2 * count > PAGE_BYTES:
            return
        for index in range(count):
            try:
                row = self._row(page, number, _POINTER.unpack_from(page, 8 + 2 * index)[0])
            except (IndexError, ValueError):
                continue  # this cell is damaged; the next one need not be
            if row is not None:
                yield row

    def _row(self, page: bytes, number: int, at: int) -> Row | None:
        length, at = _varint(page, at)
        rowid, at = _varint(page, at)
        if not 0 < length <= _PAYLOAD_MAX or rowid >= 1 << 63:
            return None
        payload = self._payload(page, at, length)
        return None if payload is None else Row(number, rowid, _values(payload))

    def _payload(self, page: bytes, at: int, length: int) -> bytes | None:
        if length <= _LOCAL_MAX:
            return page[at : at + length] if at + length <= PAGE_BYTES else None
        local = _LOCAL_MIN + (length - _LOCAL_MIN) % (PAGE_BYTES - 4)
        local = local if local <= _LOCAL_MAX else _LOCAL_MIN
        parts = [page[at : at + local]]
        following = _WORD.unpack(page[at + local : at + local + 4].ljust(4, b"\0"))[0]
        missing = length - local
        while missing > 0:  # bounded by the length
            if not 0 < following <= self.pages:
                return None
            more = self.page(following)
            if len(more) < PAGE_BYTES:
                return None
            parts.append(more[4 : 4 + min(missing, PAGE_BYTES - 4)])
            missing -= PAGE_BYTES - 4
            following = _WORD.unpack_from(more)[0]
        return b"".join(parts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[at + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + index + 1
    return value << 8 | data[at + 8], at + 9


def _values(payload: bytes) -> tuple[Value, ...]:
    """Return the columns of a record. Raises `ValueError` or `IndexError` where it is damaged."""
    header_end, at = _varint(payload, 0)
    kinds: list[int] = []
    while at < header_end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
        if len(kinds) > _COLUMNS_MAX:
            raise ValueError("more columns than a table of ours has")
    values: list[Value] = []
    for kind in kinds:
        value, at = _value(payload, at, kind)
        values.append(value)
    if at != len(payload) or header_end > len(payload):
        raise ValueError("a record that does not fill its payload")
    return tuple(values)


def _value(payload: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, at
    if kind in {8, 9}:
        return kind - 8, at
    if kind >= 12:
        end = at + (kind - 12) // 2
        raw = payload[at:end]
        if end > len(payload):
            raise ValueError("a column beyond the end")
        return (raw.decode() if kind % 2 else raw), end
    if kind == 7:
        return float(unpack(">d", payload[at : at + 8].ljust(8, b"\0"))[0]), at + 8
    end = at + _INTEGER_LENGTHS[kind] if kind in _INTEGER_LENGTHS else -1
    if not at < end <= len(payload):
        raise ValueError("a column of no kind")
    return int.from_bytes(payload[at:end], "big", signed=True), end


def _summed(order: str, sums: tuple[int, int], data: bytes) -> tuple[int, int]:
    """Go on with the checksum of a write-ahead log (section 4.2)."""
    first, second = sums
    words = iter(unpack(f"{order}{len(data) // 4}I", data))
    for even, odd in zip(words, words, strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second
