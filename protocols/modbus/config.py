"""The `[[bus]]` section and what cannot be right about it beyond the shape of each field."""

from collections.abc import Iterator

from events.kinds import Kind
from protocols.modbus.codes import BROADCAST, UNIT_MAX
from protocols.modbus.plan import worst_scan_s
from protocols.modbus.sections import (
    BIT_TABLES,
    NOTICE_S,
    REGISTERS_OF,
    RTU,
    TCP_PORT,
    Bus,
    Point,
    Unit,
)
from protocols.ports import split_address

__all__ = ["Bus", "Path", "Point", "Unit", "check"]

Path = tuple[str | int, ...]
Found = tuple[Path, str, bool]

_LEAST_ANSWER_S = 0.05


def check(bus: Bus) -> Iterator[Found]:
    """Yield every cross-field fault of one `[[bus]]`: path inside it, message, is it a warning."""
    yield from _line(bus)
    yield from _twice(bus)
    for index, unit in enumerate(bus.unit):
        yield from _unit(bus, unit, ("unit", index))
    yield from _time(bus)


def _line(bus: Bus) -> Iterator[Found]:
    serial = bus.driver == RTU
    if bus.port is not None and bus.address is not None:
        yield ("address",), "a bus has a port or an address, not both", False
    elif serial and bus.port is None:
        yield ("driver",), f"{bus.driver} needs a port = {{path, baud …}}", False
    elif not serial and bus.address is None:
        yield ("driver",), f'{bus.driver} needs an address = "host:port"', False
    if bus.address is not None:
        try:
            split_address(bus.address.removeprefix("tcp://"), default_port=TCP_PORT)
        except ValueError as error:
            yield ("address",), str(error), False
    if bus.port is not None and bus.port.data_bits != 8:
        yield ("port", "data_bits"), "Modbus RTU needs 8 data bits", False
    if not any(unit.point for unit in bus.unit):
        yield ("unit",), "no unit of this bus has a point: nothing is polled", True


def _twice(bus: Bus) -> Iterator[Found]:
    units: dict[int, str] = {}
    names: set[str] = set()
    points: dict[str, str] = {}
    for index, unit in enumerate(bus.unit):
        if unit.unit in units:
            yield (
                ("unit", index, "unit"),
                f"address {unit.unit} is taken by unit {units[unit.unit]!r}",
                False,
            )
        if unit.id in names:
            yield ("unit", index, "id"), f"another unit of this bus is called {unit.id!r}", False
        units.setdefault(unit.unit, unit.id)
        names.add(unit.id)
        for place, point in enumerate(unit.point):
            if point.id in points:
                yield (
                    ("unit", index, "point", place, "id"),
                    f"{point.id!r} is a point of unit {points[point.id]!r} already",
                    False,
                )
            points.setdefault(point.id, unit.id)
    for own in (f"{bus.id}/{unit.id}" for unit in bus.unit):
        if own in points:
            yield ("id",), f"{own!r} names the unit itself and cannot be a point too", False


def _unit(bus: Bus, unit: Unit, path: Path) -> Iterator[Found]:
    if bus.driver == RTU and not BROADCAST < unit.unit <= UNIT_MAX:
        yield (*path, "unit"), f"a unit on a serial line is 1 to {UNIT_MAX}", False
    if bus.driver != RTU and UNIT_MAX < unit.unit < 255:
        yield (*path, "unit"), f"units {UNIT_MAX + 1} to 254 are reserved", True
    if not unit.point:
        yield path, f"unit {unit.id!r} has no points: it is not polled", True
    for place, point in enumerate(unit.point):
        yield from _point(unit, point, (*path, "point", place))


def _point(unit: Unit, point: Point, path: Path) -> Iterator[Found]:
    if point.table in BIT_TABLES:
        yield from _bit_table(point, path)
    elif point.span > unit.read_max:
        yield (*path, "type"), f"{point.value_type} takes more than read_max registers", False
    if point.bit is not None and REGISTERS_OF[point.value_type] > 1:
        yield (*path, "bit"), f"a bit lies in one register, not in {point.value_type}", False
    if point.address + point.span > 0x10000:
        yield (*path, "address"), f"{point.value_type} from here ends beyond 65535", False
    number = point.bit is None and point.value_type != "bool"
    if not number:
        yield from _bit(point, path)
    if point.threshold is None and point.hysteresis:
        yield (*path, "hysteresis"), "without a threshold it has no effect", True
    if point.threshold is not None and not point.active:
        yield (*path, "active"), 'with a threshold, use side = "below" instead', False
    if point.kind != Kind.MEASUREMENT and point.deadband:
        yield (*path, "deadband"), "only measurements have a deadband", True
    if not point.scale:
        yield (*path, "scale"), "every value would be the same", False


def _bit_table(point: Point, path: Path) -> Iterator[Found]:
    if point.type not in {None, "bool"}:
        yield (*path, "type"), f"table {point.table!r} has bits, not {point.type}", False
    if point.bit is not None:
        yield (*path, "bit"), f"table {point.table!r} has bits already", False


def _bit(point: Point, path: Path) -> Iterator[Found]:
    if point.kind == Kind.MEASUREMENT:
        yield (*path, "kind"), "a bit is no measurement", False
    if point.threshold is not None:
        yield (*path, "threshold"), "a bit has no threshold; use active", False


def _time(bus: Bus) -> Iterator[Found]:
    if (bus.driver == RTU) != (bus.port is not None):
        return
    scan_s = worst_scan_s(bus)
    shortest = min(
        (point.period_s or unit.period_s for unit in bus.unit for point in unit.point),
        default=None,
    )
    if shortest is not None and scan_s > shortest:
        yield (
            ("unit",),
            f"all reads take {scan_s:.2f} s one after the other, the shortest period is "
            f"{shortest:g} s: reads will be late",
            True,
        )
    costs = [bus.timeout_s(unit) + bus.late_window_s(unit) for unit in bus.unit]
    if sum(costs) > NOTICE_S:
        yield (
            ("timeout_ms",),
            f"with every unit silent, asking each once takes {sum(costs):.0f} s: a unit that "
            "comes back is not noticed within 60 s",
            True,
        )
    for index, unit in enumerate(bus.unit):
        if bus.driver == RTU and bus.timeout_s(unit) < _LEAST_ANSWER_S:
            yield (
                ("unit", index, "timeout_ms"),
                "shorter than a USB adapter may hold an answer back",
                True,
            )
