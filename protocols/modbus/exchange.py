"""One exchange: the request that a master sends, and the strict judgement of what comes back.

An answer counts only when unit, function, byte count and echoed fields are those that were asked
for. pymodbus' own client checks the unit alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pymodbus.pdu import ModbusPDU, ReadCoilsRequest, ReadHoldingRegistersRequest
from pymodbus.pdu.bit_message import (
    ReadDiscreteInputsRequest,
    WriteMultipleCoilsRequest,
    WriteSingleCoilRequest,
)
from pymodbus.pdu.register_message import (
    ReadInputRegistersRequest,
    WriteMultipleRegistersRequest,
    WriteSingleRegisterRequest,
)

from events.errors import LocalProtocolError
from protocols.modbus.codes import (
    BITS_MAX,
    DIAGNOSTICS,
    EXCEPTION_BIT,
    READ_COILS,
    READ_DISCRETE_INPUTS,
    READ_HOLDING_REGISTERS,
    READ_INPUT_REGISTERS,
    READS,
    READS_OF_BITS,
    REGISTERS_MAX,
    WRITE_BITS_MAX,
    WRITE_REGISTERS_MAX,
    WRITE_SINGLE_COIL,
    WRITE_SINGLE_REGISTER,
)
from protocols.modbus.pdu import MORE, NEVER, Direction, Frame, decode, pdu_length

EXCEPTION_PDU_LENGTH = 2

_READ_CLASSES: dict[int, type[ModbusPDU]] = {
    READ_COILS: ReadCoilsRequest,
    READ_DISCRETE_INPUTS: ReadDiscreteInputsRequest,
    READ_HOLDING_REGISTERS: ReadHoldingRegistersRequest,
    READ_INPUT_REGISTERS: ReadInputRegistersRequest,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it goes on the wire.

    head: what a normal answer's PDU must begin with.
    answer_length: of a normal answer's PDU; 0 where it is not known beforehand.
    """

    unit: int
    fc: int
    address: int
    count: int
    pdu: bytes
    head: bytes
    answer_length: int


def read(unit: int, fc: int, address: int, count: int) -> Request:
    """Return the request to read `count` bits or registers.

    Raises `LocalProtocolError` for what the standard does not allow.
    """
    limit = BITS_MAX if fc in READS_OF_BITS else REGISTERS_MAX
    if fc not in READS:
        raise LocalProtocolError(f"function {fc} does not read")
    _check(address, count, limit)
    byte_count = (count + 7) // 8 if fc in READS_OF_BITS else 2 * count
    pdu = bytes((fc,)) + _READ_CLASSES[fc](address=address, count=count).encode()
    return Request(
        unit=unit,
        fc=fc,
        address=address,
        count=count,
        pdu=pdu,
        head=bytes((fc, byte_count)),
        answer_length=2 + byte_count,
    )


def write_coil(unit: int, address: int, value: bool) -> Request:
    """Return the request to switch one coil. The answer repeats it."""
    _check(address, 1, 1)
    return _echoed(unit, WriteSingleCoilRequest(address=address, bits=[value]), 1)


def write_register(unit: int, address: int, value: int) -> Request:
    """Return the request to set one holding register. The answer repeats it."""
    _check(address, 1, 1)
    _check_words((value,))
    return _echoed(unit, WriteSingleRegisterRequest(address=address, registers=[value]), 1)


def write_coils(unit: int, address: int, values: Sequence[bool]) -> Request:
    """Return the request to switch adjacent coils. The answer repeats address and count."""
    _check(address, len(values), WRITE_BITS_MAX)
    return _echoed(unit, WriteMultipleCoilsRequest(address=address, bits=values), len(values))


def write_registers(unit: int, address: int, values: Sequence[int]) -> Request:
    """Return the request to set adjacent registers. The answer repeats address and count."""
    _check(address, len(values), WRITE_REGISTERS_MAX)
    _check_words(values)
    message = WriteMultipleRegistersRequest(address=address, registers=values)
    return _echoed(unit, message, len(values))


def _echoed(unit: int, message: ModbusPDU, count: int) -> Request:
    pdu = bytes((message.function_code,)) + message.encode()
    return Request(
        unit=unit,
        fc=message.function_code,
        address=message.address,
        count=count,
        pdu=pdu,
        head=pdu[:5],
        answer_length=5,
    )


def parse_request(unit: int, pdu: bytes) -> Request | None:
    """Return the request in a captured PDU, so that answers to it can be judged; None if unfit."""
    frame = decode(pdu, unit=unit, direction=Direction.REQUEST)
    if frame is None or frame.fc not in _HEADS:
        return None
    known = frame.fc in READS
    byte_count = frame.count or 0
    if known:
        byte_count = (byte_count + 7) // 8 if frame.fc in READS_OF_BITS else 2 * byte_count
    head = bytes((frame.fc, byte_count)) if known else pdu[: _HEADS[frame.fc]]
    fixed = pdu_length(head, Direction.RESPONSE)
    return Request(
        unit=unit,
        fc=frame.fc,
        address=frame.address or 0,
        count=frame.count or 1,
        pdu=pdu,
        head=head,
        answer_length=0 if fixed in {MORE, NEVER} else fixed,
    )


# How much of a request its answer repeats; for reads the byte count follows from the request.
_HEADS: dict[int, int] = {
    **dict.fromkeys(READS | {0x07, 0x0B, 0x0C, 0x11, 0x14, 0x17, 0x18}, 1),
    **dict.fromkeys((WRITE_SINGLE_COIL, WRITE_SINGLE_REGISTER, 0x0F, 0x10), 5),
    DIAGNOSTICS: 3,
    0x15: 253,
    0x16: 7,
    0x2B: 3,
}


def judge(request: Request, unit: int, pdu: bytes, *, any_exception: bool = False) -> Frame | None:
    """Return the frame if this PDU answers `request`, else None.

    `any_exception` also takes exceptions whose function byte is 0x80 alone, as some detectors
    send them; whose they are is then known by the unit only.
    """
    if unit != request.unit or not pdu:
        return None
    if pdu[0] & EXCEPTION_BIT:
        fits = pdu[0] == request.fc | EXCEPTION_BIT or (any_exception and pdu[0] == EXCEPTION_BIT)
    else:
        fits = pdu.startswith(request.head) and request.answer_length in {0, len(pdu)}
    return decode(pdu, unit=unit, direction=Direction.RESPONSE) if fits else None


def _check(address: int, count: int, limit: int) -> None:
    if not 1 <= count <= limit or address < 0 or address + count > 0x10000:
        raise LocalProtocolError(
            f"{count} from address {address} is beyond what one request holds"
        )


def _check_words(values: Sequence[int]) -> None:
    if any(not 0 <= value <= 0xFFFF for value in values):
        raise LocalProtocolError("a register holds 0 to 65535")
