"""Modbus PDUs: lengths, checks, and decoding into `Frame` through `pymodbus.pdu`.

pymodbus decodes; it does not check that byte counts agree with counts, that nothing is left over,
or that a single coil is written with FF00 or 0000. Those checks are here, before it sees a PDU.
Function codes, limits and field names are those of the MODBUS Application Protocol V1.1b3.
"""

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pymodbus.pdu import DecodePDU

from protocols.modbus.codes import (
    BITS_MAX,
    COIL_OFF,
    COIL_ON,
    DIAGNOSTICS,
    EXCEPTION_BIT,
    PDU_LENGTH_MAX,
    READ_EXCEPTION_STATUS,
    READ_HOLDING_REGISTERS,
    READ_INPUT_REGISTERS,
    READS,
    READS_OF_BITS,
    REGISTERS_MAX,
    WRITE_BITS_MAX,
    WRITE_MULTIPLE_COILS,
    WRITE_MULTIPLE_REGISTERS,
    WRITE_REGISTERS_MAX,
    WRITE_SINGLE_COIL,
    WRITE_SINGLE_REGISTER,
)

Plain = str | int | bool | list[bool] | list[int] | dict[str, str]


class Direction(StrEnum):
    REQUEST = "request"
    RESPONSE = "response"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One checked request or response; a field that this function code has not is None.

    value: of function 05 True or False, or the raw number where a vendor gave it a meaning of its
        own (anything but FF00 and 0000); of function 06 the register.
    bits: in a response all bits of all bytes; in a request exactly `count`.
    data: what has no field of its own, as bytes; the whole body of an unknown function code.
    transaction, protocol, length: of the MBAP header, on TCP.
    """

    direction: Direction
    unit: int
    fc: int
    address: int | None = None
    count: int | None = None
    value: bool | int | None = None
    byte_count: int | None = None
    bits: tuple[bool, ...] | None = None
    registers: tuple[int, ...] | None = None
    exception: int | None = None
    status: int | None = None
    subfunction: int | None = None
    and_mask: int | None = None
    or_mask: int | None = None
    read_address: int | None = None
    read_count: int | None = None
    write_address: int | None = None
    write_count: int | None = None
    event_count: int | None = None
    message_count: int | None = None
    mei_type: int | None = None
    read_code: int | None = None
    object_id: int | None = None
    conformity: int | None = None
    more_follows: int | None = None
    next_object_id: int | None = None
    objects: tuple[tuple[int, bytes], ...] | None = None
    data: bytes | None = None
    transaction: int | None = None
    protocol: int | None = None
    length: int | None = None

    def plain(self) -> dict[str, Plain]:
        """Return the fields that are present, ready for JSON: bytes as hex, sequences as lists."""
        shown: dict[str, Plain] = {}
        for name in _NAMES:
            value = getattr(self, name)
            if value is None:
                continue
            if name == "direction":
                shown[name] = str(value)
            elif name == "objects":
                shown[name] = {f"{key:02x}": content.hex() for key, content in value}
            elif isinstance(value, bytes):
                shown[name] = value.hex()
            elif isinstance(value, tuple):
                shown[name] = list(value)
            else:
                shown[name] = value
        return shown


_NAMES = tuple(field.name for field in dataclasses.fields(Frame))

MORE = 0  # the length of this PDU is known only when more of it is there
NEVER = -1  # no PDU of a known function begins like this


def pdu_length(start: bytes, direction: Direction) -> int:
    """Return the length of the PDU that begins with `start`, or `MORE`, or `NEVER`."""
    if not start:
        return MORE
    code = start[0]
    if code & EXCEPTION_BIT:
        return 2 if direction is Direction.RESPONSE else NEVER
    rule = (_REQUEST_LENGTHS if direction is Direction.REQUEST else _RESPONSE_LENGTHS).get(code)
    if rule is None:
        return NEVER
    length = rule if isinstance(rule, int) else rule(start)
    return length if length <= PDU_LENGTH_MAX else NEVER


def _counted(position: int) -> Callable[[bytes], int]:
    """Return the rule for PDUs that end with the bytes counted at `position`."""
    return lambda start: position + 1 + start[position] if len(start) > position else MORE


def _queue_length(start: bytes) -> int:
    return 3 + int.from_bytes(start[1:3], "big") if len(start) > 2 else MORE


def _identification_request_length(start: bytes) -> int:
    return MORE if len(start) < 2 else 4 if start[1] == 0x0E else NEVER


def _identification_length(start: bytes) -> int:
    if len(start) > 1 and start[1] != 0x0E:
        return NEVER
    if len(start) < 7:
        return MORE
    length = 7
    for _ in range(start[6]):
        if len(start) < length + 2:
            return MORE
        length += 2 + start[length + 1]
    return length


_Rule = int | Callable[[bytes], int]
_REQUEST_LENGTHS: dict[int, _Rule] = {
    **dict.fromkeys((1, 2, 3, 4, 5, 6, 8), 5),
    **dict.fromkeys((0x07, 0x0B, 0x0C, 0x11), 1),
    **dict.fromkeys((0x0F, 0x10), _counted(5)),
    **dict.fromkeys((0x14, 0x15), _counted(1)),
    0x16: 7,
    0x17: _counted(9),
    0x18: 3,
    0x2B: _identification_request_length,
}
_RESPONSE_LENGTHS: dict[int, _Rule] = {
    **dict.fromkeys((1, 2, 3, 4, 0x0C, 0x11, 0x14, 0x15, 0x17), _counted(1)),
    **dict.fromkeys((5, 6, 8, 0x0B, 0x0F, 0x10), 5),
    0x07: 2,
    0x16: 7,
    0x18: _queue_length,
    0x2B: _identification_length,
}

_requests = DecodePDU(is_server=True)
_responses = DecodePDU(is_server=False)


def decode(pdu: bytes, *, unit: int, direction: Direction) -> Frame | None:
    """Return the checked frame of a whole PDU, or None where it breaks its function's rules.

    A function code that V1.1b3 does not define gives a frame with `data` alone.
    """
    if not 1 <= len(pdu) <= PDU_LENGTH_MAX:
        return None
    code, length = pdu[0], pdu_length(pdu, direction)
    if code not in _REQUEST_LENGTHS and not code & EXCEPTION_BIT:
        return Frame(direction=direction, unit=unit, fc=code, data=pdu[1:]) if code else None
    # Return Query Data may carry more than one word where the frame's length is known otherwise.
    if length != len(pdu) and not (code == DIAGNOSTICS and len(pdu) > 5 and len(pdu) % 2):
        return None
    if code & EXCEPTION_BIT:
        return Frame(direction=direction, unit=unit, fc=code, exception=pdu[1])
    decoder, fields = (
        (_requests, _REQUEST_FIELDS)
        if direction is Direction.REQUEST
        else (_responses, _RESPONSE_FIELDS)
    )
    message = decoder.decode(pdu)
    found = None if message is None else fields[code](message, pdu)
    return None if found is None else Frame(direction=direction, unit=unit, fc=code, **found)


_Fields = dict[str, Any] | None


def _read_request(message: Any, _pdu: bytes) -> _Fields:
    if message.address + message.count > 0x10000:
        return None
    return {"address": message.address, "count": message.count}


def _bits(message: Any, pdu: bytes) -> _Fields:
    if not 1 <= pdu[1] <= BITS_MAX // 8:
        return None
    return {"byte_count": pdu[1], "bits": tuple(message.bits)}


def _registers(message: Any, pdu: bytes) -> _Fields:
    if pdu[1] % 2 or not 2 <= pdu[1] <= 2 * REGISTERS_MAX:
        return None
    return {"byte_count": pdu[1], "registers": tuple(message.registers)}


def _coil(message: Any, pdu: bytes) -> _Fields:
    raw = int.from_bytes(pdu[3:5], "big")  # pymodbus reads every number but zero as True
    value = {COIL_ON: True, COIL_OFF: False}.get(raw, raw)
    return {"address": message.address, "value": value}


def _register(message: Any, _pdu: bytes) -> _Fields:
    return {"address": message.address, "value": message.registers[0]}


def _coils_request(message: Any, pdu: bytes) -> _Fields:
    if message.count > WRITE_BITS_MAX or pdu[5] != (message.count + 7) // 8:
        return None
    return {**(_written(message, pdu) or {}), "byte_count": pdu[5], "bits": tuple(message.bits)}


def _registers_request(message: Any, pdu: bytes) -> _Fields:
    if message.count > WRITE_REGISTERS_MAX or pdu[5] != 2 * message.count:
        return None
    found = _written(message, pdu)
    return found and {**found, "byte_count": pdu[5], "registers": tuple(message.registers)}


def _written(message: Any, _pdu: bytes) -> _Fields:
    if not message.count or message.address + message.count > 0x10000:
        return None
    return {"address": message.address, "count": message.count}


def _diagnostics(_message: Any, pdu: bytes) -> _Fields:
    return {"subfunction": int.from_bytes(pdu[1:3], "big"), "data": pdu[3:]}


def _event_counter(message: Any, pdu: bytes) -> _Fields:
    return {"status": int.from_bytes(pdu[1:3], "big"), "event_count": message.count}


def _event_log(message: Any, pdu: bytes) -> _Fields:
    if pdu[1] < 6:
        return None
    return {
        "byte_count": pdu[1],
        "status": int.from_bytes(pdu[2:4], "big"),
        "event_count": message.event_count,
        "message_count": message.message_count,
        "data": pdu[8:],
    }


def _mask(message: Any, _pdu: bytes) -> _Fields:
    return {
        "address": message.address,
        "and_mask": message.and_mask,
        "or_mask": message.or_mask,
    }


def _read_write_request(message: Any, pdu: bytes) -> _Fields:
    if pdu[9] != 2 * message.write_count:
        return None
    return {
        "read_address": message.read_address,
        "read_count": message.read_count,
        "write_address": message.write_address,
        "write_count": message.write_count,
        "byte_count": pdu[9],
        "registers": tuple(message.write_registers),
    }


def _queue(message: Any, pdu: bytes) -> _Fields:
    byte_count = int.from_bytes(pdu[1:3], "big")
    if byte_count != 2 + 2 * len(message.values):
        return None
    return {
        "byte_count": byte_count,
        "count": len(message.values),
        "registers": tuple(message.values),
    }


def _identification_request(message: Any, pdu: bytes) -> _Fields:
    return {"mei_type": pdu[1], "read_code": message.read_code, "object_id": message.object_id}


def _identification(message: Any, pdu: bytes) -> _Fields:
    objects, rest = [], pdu[7:]
    while rest:
        objects.append((rest[0], rest[2 : 2 + rest[1]]))
        rest = rest[2 + rest[1] :]
    return {
        "mei_type": pdu[1],
        "read_code": message.read_code,
        "conformity": message.conformity,
        "more_follows": pdu[4],
        "next_object_id": message.next_object_id,
        "count": pdu[6],
        "objects": tuple(objects),
    }


def _counted_data(_message: Any, pdu: bytes) -> _Fields:
    return {"byte_count": pdu[1], "data": pdu[2:]}


def _nothing(_message: Any, _pdu: bytes) -> _Fields:
    return {}


_BOTH_FIELDS: dict[int, Callable[[Any, bytes], _Fields]] = {
    WRITE_SINGLE_COIL: _coil,
    WRITE_SINGLE_REGISTER: _register,
    DIAGNOSTICS: _diagnostics,
    0x14: _counted_data,
    0x15: _counted_data,
    0x16: _mask,
}
_REQUEST_FIELDS: dict[int, Callable[[Any, bytes], _Fields]] = {
    **_BOTH_FIELDS,
    **dict.fromkeys(READS, _read_request),
    **dict.fromkeys((0x07, 0x0B, 0x0C, 0x11), _nothing),
    WRITE_MULTIPLE_COILS: _coils_request,
    WRITE_MULTIPLE_REGISTERS: _registers_request,
    0x17: _read_write_request,
    0x18: lambda message, _pdu: {"address": message.address},
    0x2B: _identification_request,
}
_RESPONSE_FIELDS: dict[int, Callable[[Any, bytes], _Fields]] = {
    **_BOTH_FIELDS,
    **dict.fromkeys(READS_OF_BITS, _bits),
    **dict.fromkeys((READ_HOLDING_REGISTERS, READ_INPUT_REGISTERS, 0x17), _registers),
    READ_EXCEPTION_STATUS: lambda message, _pdu: {"status": message.status},
    0x0B: _event_counter,
    0x0C: _event_log,
    **dict.fromkeys((WRITE_MULTIPLE_COILS, WRITE_MULTIPLE_REGISTERS), _written),
    0x11: _counted_data,
    0x18: _queue,
    0x2B: _identification,
}


def bits_of(data: bytes) -> tuple[bool, ...]:
    """Return the bits of packed bytes, the lowest of each byte first."""
    return tuple(bool(byte >> bit & 1) for byte in data for bit in range(8))


def words_of(registers: tuple[int, ...]) -> bytes:
    """Return registers as they stand on the wire, high byte first."""
    return struct.pack(f">{len(registers)}H", *registers)
