"""Register maps: from bits and registers to values.

Modbus defines registers of 16 bits, high byte first, and nothing wider: the order of the words of
a 32 or 64-bit number is each maker's own. With A the highest byte of a 32-bit number:

    big           ABCD    as the standard orders the bytes of one register
    word-swapped  CDAB    low register first
    byte-swapped  BADC    high register first, each with its bytes exchanged
    little        DCBA    low register first, each with its bytes exchanged

The same rule holds for 64 bits, and for one register, of which only the byte orders differ.
"""

import math
import struct
from dataclasses import dataclass

from protocols.modbus.pdu import words_of
from protocols.modbus.sections import BIT_TABLES, Point, WordOrder

_FORMATS = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "float32": ">f",
    "int64": ">q",
    "uint64": ">Q",
    "float64": ">d",
}
_SWAPPED_BYTES = frozenset({"byte-swapped", "BADC", "little", "DCBA"})
_SWAPPED_WORDS = frozenset({"word-swapped", "CDAB", "little", "DCBA"})
_FLOAT32_DIGITS = 7
_DECIMALS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a point's bits or registers say; `value` is None where they hold no number."""

    value: bool | int | float | None
    raw: bool | int | float | str


def number(registers: tuple[int, ...], type_name: str, order: WordOrder) -> int | float:
    """Return the number of type `int16` … `float64` in its registers."""
    if order in _SWAPPED_BYTES:
        registers = tuple((word & 0xFF) << 8 | word >> 8 for word in registers)
    if order in _SWAPPED_WORDS:
        registers = registers[::-1]
    found: int | float = struct.unpack(_FORMATS[type_name], words_of(registers))[0]
    return found


def registers_of(value: float, type_name: str, order: WordOrder) -> tuple[int, ...]:
    """Return the registers that hold a number: the inverse of `number`."""
    data = struct.pack(_FORMATS[type_name], value)
    registers = struct.unpack(f">{len(data) // 2}H", data)
    if order in _SWAPPED_WORDS:
        registers = registers[::-1]
    if order in _SWAPPED_BYTES:
        registers = tuple((word & 0xFF) << 8 | word >> 8 for word in registers)
    return registers


def read_point(point: Point, cells: tuple[bool, ...] | tuple[int, ...]) -> Reading:
    """Return what `cells`, the bits or registers of this point's span, say."""
    if point.table in BIT_TABLES:
        return Reading(value=bool(cells[0]), raw=bool(cells[0]))
    registers = tuple(int(cell) for cell in cells)
    if point.value_type == "bool" or point.bit is not None:
        if point.word_order in _SWAPPED_BYTES:
            registers = ((registers[0] & 0xFF) << 8 | registers[0] >> 8,)
        word = registers[0]
        level = word != 0 if point.bit is None else bool(word >> point.bit & 1)
        return Reading(value=level, raw=word)
    raw = number(registers, point.value_type, point.word_order)
    value = _scaled(point, raw)
    if not math.isfinite(raw) or not math.isfinite(value):
        return Reading(value=None, raw=str(raw))
    return Reading(value=value, raw=raw)


def _scaled(point: Point, raw: float) -> int | float:
    if point.value_type == "float32":
        raw = float(f"{raw:.{_FLOAT32_DIGITS}g}")
    if point.scale == 1 and point.offset == 0:
        return raw
    return round(raw * point.scale + point.offset, _DECIMALS)
