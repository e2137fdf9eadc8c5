"""The `[[bus]]` section: a Modbus line, its units and their points.

`sample.toml` beside this file shows every kind of point.
"""

from typing import Annotated, Literal

import msgspec

from events.kinds import Kind
from events.points import NAME_PATTERN, POINT_LENGTH_MAX, POINT_PATTERN
from protocols.ports import SerialPort

TCP_PORT = 502
RTU, TCP = "modbus-rtu", "modbus-tcp"

NOTICE_S = 55.0  # every silent unit is asked that often: one that is back is noticed within 60 s

UNITS_MAX = 247
POINTS_MAX = 512  # of one unit

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, max_length=64)]
PointId = Annotated[str, msgspec.Meta(pattern=POINT_PATTERN, max_length=POINT_LENGTH_MAX)]
Word = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=60_000)]
AtLeast1Ms = Annotated[int, msgspec.Meta(ge=1, le=60_000)]
PeriodS = Annotated[float, msgspec.Meta(ge=0.01, le=86_400)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]

Table = Literal["discrete", "coil", "input", "holding"]
Type = Literal[
    "bool", "int16", "uint16", "int32", "uint32", "float32", "int64", "uint64", "float64"
]
WordOrder = Literal[
    "big", "word-swapped", "byte-swapped", "little", "ABCD", "CDAB", "BADC", "DCBA"
]
Priority = Literal["high", "normal", "low"]

BIT_TABLES = frozenset({"discrete", "coil"})
REGISTERS_OF: dict[str, int] = {
    "bool": 1,
    "int16": 1,
    "uint16": 1,
    "int32": 2,
    "uint32": 2,
    "float32": 2,
    "int64": 4,
    "uint64": 4,
    "float64": 4,
}


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One input: a bit, a bit of a register, a number with a threshold, or a measurement.

    table, address: as in the request; the first coil or register is 0, not 1 or 40001.
    type: `bool` for the bit tables and where `bit` is given, else `uint16` unless set.
    word_order: how the bytes ABCD of a number (A is the highest) arrive: `big` ABCD,
        `word-swapped` CDAB, `byte-swapped` BADC, `little` DCBA. The letters are accepted as names.
    scale, offset: value = number * scale + offset, in `unit`.
    bit: of the register, 0 is the lowest. active: the level at which the condition holds.
    threshold, side: the condition holds from the threshold on, above or below it; it is over once
        the value is back by more than `hysteresis`. A number without threshold, of any kind but
        measurement, holds while it is not zero.
    deadband, report_s: a measurement is stored when it differs from the last stored one, by the
        deadband at least, and not more often than every `report_s` seconds.
    """

    id: PointId
    table: Table
    address: Word
    kind: Kind
    subkind: str = ""
    label: str = ""
    urgent: bool = False
    period_s: PeriodS | None = None
    priority: Priority = "normal"
    type: Type | None = None
    word_order: WordOrder = "big"
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""
    bit: Annotated[int, msgspec.Meta(ge=0, le=15)] | None = None
    active: bool = True
    threshold: float | None = None
    side: Literal["above", "below"] = "above"
    hysteresis: NotNegative = 0.0
    deadband: NotNegative = 0.0
    report_s: NotNegative = 60.0

    @property
    def value_type(self) -> str:
        if self.type is not None:
            return self.type
        return "bool" if self.table in BIT_TABLES or self.bit is not None else "uint16"

    @property
    def span(self) -> int:
        """Return how many bits or registers it takes."""
        return 1 if self.table in BIT_TABLES else REGISTERS_OF[self.value_type]


class Unit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device on the bus.

    unit: its address: 1 to 247; over TCP also 0 and 255 for the device that is addressed directly.
    period_s: for points that give none. timeout_ms, late_window_ms: instead of the bus' own.
    read_max: the most registers this device gives in one answer; 1 reads each point by itself.
    exception_80: take exceptions whose function byte is 0x80, as some arc-fault detectors send.
    """

    id: Name
    unit: Annotated[int, msgspec.Meta(ge=0, le=255)]
    point: Annotated[tuple[Point, ...], msgspec.Meta(max_length=POINTS_MAX)] = ()
    period_s: PeriodS = 1.0
    timeout_ms: AtLeast1Ms | None = None
    late_window_ms: Milliseconds | None = None
    read_max: Annotated[int, msgspec.Meta(ge=1, le=125)] = 125
    exception_80: bool = False


class Bus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line: a serial port, or a TCP connection.

    timeout_ms: from sending a request to its answer. late_window_ms: the silence kept after a
        timeout, in which a late answer is discarded; as long as the timeout unless set, and none
        over TCP, where answers carry a number.
    retries: repeats after a missing answer before a unit counts as silent.
    gap_ms: least silence between exchanges, where a device needs more than t3.5.
    turnaround_ms: the silence after a broadcast.
    """

    id: Name
    driver: Literal["modbus-rtu", "modbus-tcp"]
    port: SerialPort | None = None
    address: str | None = None
    unit: Annotated[tuple[Unit, ...], msgspec.Meta(max_length=UNITS_MAX)] = ()
    timeout_ms: AtLeast1Ms = 300
    late_window_ms: Milliseconds | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 1
    gap_ms: Milliseconds = 0
    turnaround_ms: Milliseconds = 100
    connect_timeout_ms: AtLeast1Ms = 3000

    def timeout_s(self, unit: Unit) -> float:
        return (unit.timeout_ms or self.timeout_ms) / 1000

    def late_window_s(self, unit: Unit) -> float:
        """Return the silence after an unanswered request to `unit`."""
        for window_ms in (unit.late_window_ms, self.late_window_ms):
            if window_ms is not None:
                return window_ms / 1000
        return 0.0 if self.driver == TCP else self.timeout_s(unit)
