"""A simulated Modbus bus: units that behave, a journal of what they answered, and faults on demand.

Bytes and time in, replies out; whoever owns the port waits as long as each reply says. Values are
plain lists, to be set by index: `unit.discrete_inputs[3] = True`.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.bit_message import (
    ReadCoilsResponse,
    ReadDiscreteInputsResponse,
    WriteMultipleCoilsResponse,
    WriteSingleCoilResponse,
)
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersResponse,
    ReadInputRegistersResponse,
    WriteMultipleRegistersResponse,
    WriteSingleRegisterResponse,
)

from protocols.modbus import rtu
from protocols.modbus.codes import (
    BROADCAST,
    READ_COILS,
    READ_DISCRETE_INPUTS,
    READ_HOLDING_REGISTERS,
    READ_INPUT_REGISTERS,
    WRITE_MULTIPLE_COILS,
    WRITE_MULTIPLE_REGISTERS,
    WRITE_SINGLE_COIL,
    WRITE_SINGLE_REGISTER,
)
from protocols.modbus.pdu import Direction, Frame, decode
from protocols.modbus.tcp import TRANSACTIONS, Reader
from protocols.modbus.tcp import frame as tcp_frame

JOURNAL_MAX = 100_000
FRAME_GAP_S = 0.05  # silence after which half a frame is forgotten
ILLEGAL_FUNCTION = 1
ILLEGAL_DATA_ADDRESS = 2


class Misbehaviour(StrEnum):
    """What a unit does wrong, as long as it is set."""

    SILENT = "silent"
    WRONG_UNIT = "wrong-unit"
    WRONG_FUNCTION = "wrong-function"
    WRONG_COUNT = "wrong-count"
    WRONG_CHECK = "wrong-check"  # of the CRC, over TCP of the transaction number
    TRUNCATED = "truncated"
    TWICE = "twice"
    NOISE_BEFORE = "noise-before"
    PREVIOUS = "previous"  # answers with what it answered before


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Bytes that a unit puts on the line, `after_s` seconds after the request."""

    after_s: float
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A line of a journal: what was asked, and what was answered, None where nothing was."""

    at_s: float
    request: Frame
    response: Frame | None


@dataclass(slots=True, kw_only=True, eq=False)
class SimulatedUnit:
    """A device with four tables. What lies beyond a table is refused with exception 02.

    delay_s: from request to reply. exception: refuses everything with this code while set.
    """

    unit: int
    coils: list[bool] = field(default_factory=lambda: [False] * 16)
    discrete_inputs: list[bool] = field(default_factory=lambda: [False] * 16)
    holding_registers: list[int] = field(default_factory=lambda: [0] * 16)
    input_registers: list[int] = field(default_factory=lambda: [0] * 16)
    delay_s: float = 0.005
    exception: int | None = None
    misbehaviour: Misbehaviour | None = None
    journal: deque[Entry] = field(default_factory=lambda: deque(maxlen=JOURNAL_MAX))
    previous: bytes = b""

    def levels(self, fc: int, address: int) -> list[bool | int]:
        """Return the values of one cell as they were answered, each run of equal ones once.

        That is what a master can know of it: levels between two reads are in no journal.
        """
        found: list[bool | int] = []
        for entry in self.journal:
            request, response = entry.request, entry.response
            if request.fc != fc or response is None or response.exception is not None:
                continue
            index = address - (request.address or 0)
            cells = response.bits if response.bits is not None else response.registers or ()
            if 0 <= index < (request.count or 0) and found[-1:] != [cells[index]]:
                found.append(cells[index])
        return found

    def answer(self, pdu: bytes) -> bytes:
        """Return the PDU that answers this one, with its effect on the tables."""
        code = pdu[0]
        request = decode(pdu, unit=self.unit, direction=Direction.REQUEST)
        serve = _SERVICES.get(code)
        if request is None or serve is None:
            return _encoded(ExceptionResponse(code, ILLEGAL_FUNCTION))
        if self.exception is not None:
            return _encoded(ExceptionResponse(code, self.exception))
        message = serve(self, request)
        return _encoded(message or ExceptionResponse(code, ILLEGAL_DATA_ADDRESS))


class SimulatedBus:
    """One line, or one connection, to simulated units. Several may share the same units."""

    def __init__(self, units: Iterable[SimulatedUnit], *, tcp: bool = False) -> None:
        self._units = {unit.unit: unit for unit in units}
        self._tcp = Reader() if tcp else None
        self._scanner = rtu.Scanner((Direction.REQUEST,))
        self._heard_at = 0.0

    @property
    def broken(self) -> bool:
        """Tell whether a TCP connection must be closed."""
        return self._tcp is not None and self._tcp.broken

    def receive(self, data: bytes, now_s: float) -> list[Reply]:
        """Take bytes from the master; return the replies they cause."""
        if self._tcp is not None:
            return [
                reply
                for adu in self._tcp.receive(data)
                for reply in self._serve(adu.unit, adu.pdu, now_s, adu.transaction)
            ]
        if now_s - self._heard_at > FRAME_GAP_S:
            self._scanner = rtu.Scanner((Direction.REQUEST,))
        self._heard_at = now_s
        return [
            reply
            for adu in self._scanner.receive(data)
            for reply in self._serve(adu.unit, adu.pdu, now_s, None)
        ]

    def _serve(
        self, number: int, pdu: bytes, now_s: float, transaction: int | None
    ) -> list[Reply]:
        if number == BROADCAST and transaction is None:
            for each in self._units.values():
                each.answer(pdu)
            return []
        unit = self._units.get(number)
        if unit is None:
            return []
        request = decode(pdu, unit=number, direction=Direction.REQUEST)
        silent = unit.misbehaviour is Misbehaviour.SILENT
        answer = b"" if silent else unit.answer(pdu)
        if request is not None:
            response = decode(answer, unit=number, direction=Direction.RESPONSE)
            unit.journal.append(Entry(at_s=now_s, request=request, response=response))
        if silent:
            return []
        data = _framed(unit, answer, transaction)
        unit.previous = answer
        return [Reply(after_s=unit.delay_s, data=data)]


def _framed(unit: SimulatedUnit, answer: bytes, transaction: int | None) -> bytes:
    """Return the frame around an answer, wrong in the way that the unit is told to be."""
    wrong = unit.misbehaviour
    number = unit.unit
    if wrong is Misbehaviour.WRONG_UNIT:
        number = number % 247 + 1
    elif wrong is Misbehaviour.WRONG_FUNCTION:
        answer = bytes((answer[0] % 4 + 1,)) + answer[1:]
    elif wrong is Misbehaviour.WRONG_COUNT:
        answer = bytes((answer[0], answer[1] + 2 & 0xFF)) + answer[2:] + b"\x00\x00"
    elif wrong is Misbehaviour.PREVIOUS and unit.previous:
        answer = unit.previous
    if transaction is None:
        data = rtu.frame(number, answer)
        if wrong is Misbehaviour.WRONG_CHECK:
            data = data[:-1] + bytes((data[-1] ^ 0x55,))
    else:
        wrong_number = wrong is Misbehaviour.WRONG_CHECK
        data = tcp_frame((transaction - wrong_number) % TRANSACTIONS, number, answer)
    return _shapes(data, wrong, transaction)


def _shapes(data: bytes, wrong: Misbehaviour | None, transaction: int | None) -> bytes:
    if wrong is Misbehaviour.TRUNCATED:
        return data[:-3]
    if wrong is Misbehaviour.TWICE:
        return data + data
    if wrong is Misbehaviour.NOISE_BEFORE and transaction is None:
        return b"\xff\x00" + data
    return data


def _encoded(message: ModbusPDU) -> bytes:
    return bytes((message.function_code,)) + message.encode()


def _read_bits(
    table: Callable[[SimulatedUnit], list[bool]], message: type[ModbusPDU]
) -> "_Service":
    def serve(unit: SimulatedUnit, request: Frame) -> ModbusPDU | None:
        span = _span(table(unit), request)
        return None if span is None else message(bits=table(unit)[span])

    return serve


def _read_registers(
    table: Callable[[SimulatedUnit], list[int]], message: type[ModbusPDU]
) -> "_Service":
    def serve(unit: SimulatedUnit, request: Frame) -> ModbusPDU | None:
        span = _span(table(unit), request)
        return None if span is None else message(registers=table(unit)[span])

    return serve


def _write_coil(unit: SimulatedUnit, request: Frame) -> ModbusPDU | None:
    span = _span(unit.coils, request)
    if span is None:
        return None
    unit.coils[span] = [bool(request.value)]
    return WriteSingleCoilResponse(address=span.start, bits=[bool(request.value)])


def _write_register(unit: SimulatedUnit, request: Frame) -> ModbusPDU | None:
    span = _span(unit.holding_registers, request)
    if span is None or request.value is None:
        return None
    unit.holding_registers[span] = [int(request.value)]
    return WriteSingleRegisterResponse(address=span.start, registers=[int(request.value)])


def _write_coils(unit: SimulatedUnit, request: Frame) -> ModbusPDU | None:
    span = _span(unit.coils, request)
    if span is None or request.bits is None:
        return None
    unit.coils[span] = request.bits
    return WriteMultipleCoilsResponse(address=span.start, count=len(request.bits))


def _write_registers(unit: SimulatedUnit, request: Frame) -> ModbusPDU | None:
    span = _span(unit.holding_registers, request)
    if span is None or request.registers is None:
        return None
    unit.holding_registers[span] = request.registers
    return WriteMultipleRegistersResponse(address=span.start, count=len(request.registers))


def _span(table: Sequence[bool | int], request: Frame) -> slice | None:
    """Return the cells that a request is about, None where the table has not all of them."""
    start = request.address or 0
    end = start + (request.count or 1)
    return slice(start, end) if end <= len(table) else None


_Service = Callable[[SimulatedUnit, Frame], ModbusPDU | None]
_SERVICES: dict[int, _Service] = {
    READ_COILS: _read_bits(lambda unit: unit.coils, ReadCoilsResponse),
    READ_DISCRETE_INPUTS: _read_bits(
        lambda unit: unit.discrete_inputs, ReadDiscreteInputsResponse
    ),
    READ_HOLDING_REGISTERS: _read_registers(
        lambda unit: unit.holding_registers, ReadHoldingRegistersResponse
    ),
    READ_INPUT_REGISTERS: _read_registers(
        lambda unit: unit.input_registers, ReadInputRegistersResponse
    ),
    WRITE_SINGLE_COIL: _write_coil,
    WRITE_SINGLE_REGISTER: _write_register,
    WRITE_MULTIPLE_COILS: _write_coils,
    WRITE_MULTIPLE_REGISTERS: _write_registers,
}
