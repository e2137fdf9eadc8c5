"""Which reads to send: adjacent bits or registers of a unit merged where that is cheaper.

One more read costs its frames' overhead, the unit's own time and the silences around it; reading
across a gap costs the bytes of the gap. The plan with the least total is found exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocols.modbus.codes import (
    BITS_MAX,
    READ_COILS,
    READ_DISCRETE_INPUTS,
    READ_HOLDING_REGISTERS,
    READ_INPUT_REGISTERS,
)
from protocols.modbus.sections import BIT_TABLES, Bus, Point, Unit
from protocols.modbus.timing import RTU_OVERHEAD, TCP_OVERHEAD, character_s, poll_s, t3_5_s

READ_CODES = {
    "coil": READ_COILS,
    "discrete": READ_DISCRETE_INPUTS,
    "holding": READ_HOLDING_REGISTERS,
    "input": READ_INPUT_REGISTERS,
}
REQUEST_PDU_LENGTH = 5
ANSWER_PDU_LENGTH = 2  # without its data
UNIT_S = 0.020  # what a unit usually takes to answer; a plan is not worse for being a little off
TCP_TURN_S = 0.003
TCP_BAUD = 10_000_000  # Ethernet in the words of `timing`: a character costs next to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """One read of a plan: `count` cells from `address`, and the points that lie in them."""

    table: str
    address: int
    count: int
    points: tuple[Point, ...]

    @property
    def fc(self) -> int:
        return READ_CODES[self.table]


Cost = Callable[[str, int], float]
"""Seconds that a read of so many cells of a table takes."""


def rtu_cost(baud: int) -> Cost:
    """Return the cost of reads on a serial line."""
    return _cost(baud, RTU_OVERHEAD, UNIT_S)


def tcp_cost() -> Cost:
    """Return the cost of reads over TCP."""
    return _cost(TCP_BAUD, TCP_OVERHEAD, TCP_TURN_S)


def _cost(baud: int, overhead: int, unit_s: float) -> Cost:
    fixed_s = poll_s(
        REQUEST_PDU_LENGTH + overhead, ANSWER_PDU_LENGTH + overhead, baud, unit_s=unit_s
    )
    byte_s = character_s(baud)

    def seconds(table: str, count: int) -> float:
        length = (count + 7) // 8 if table in BIT_TABLES else 2 * count
        return fixed_s + length * byte_s

    return seconds


def plan(unit: Unit, cost: Cost) -> list[Read]:
    """Return the reads that give every point of a unit, in the order of the configuration.

    Points are merged only with points of the same table, period and priority.
    """
    groups: dict[tuple[str, float, str], list[Point]] = {}
    for point in unit.point:
        key = (point.table, point.period_s or unit.period_s, point.priority)
        groups.setdefault(key, []).append(point)
    reads = []
    for (table, _, _), points in groups.items():
        limit = BITS_MAX if table in BIT_TABLES else unit.read_max
        reads += _merge(table, points, limit, cost)
    return reads


def split(read: Read) -> list[Read]:
    """Return one read per point, for a unit that refuses the merged one."""
    return [_over(read.table, (point,)) for point in read.points]


def worst_scan_s(bus: Bus) -> float:
    """Return the seconds in which every read of a bus is done once, all units answering."""
    cost = cost_of(bus)
    return sum(cost(read.table, read.count) for unit in bus.unit for read in plan(unit, cost))


def cost_of(bus: Bus) -> Cost:
    return tcp_cost() if bus.port is None else rtu_cost(bus.port.baud)


def gap_s(bus: Bus) -> float:
    """Return the silence to keep before a frame is sent."""
    least_s = 0.0 if bus.port is None else t3_5_s(bus.port.baud)
    return max(least_s, bus.gap_ms / 1000)


def _merge(table: str, points: Sequence[Point], limit: int, cost: Cost) -> list[Read]:
    """Cut the points, in order of address, into the runs that cost least together."""
    ordered = sorted(points, key=lambda point: (point.address, point.span))
    best = [0.0]
    cuts = [0]
    for end in range(1, len(ordered) + 1):
        choices = []
        top = 0
        for start in range(end - 1, -1, -1):
            top = max(top, ordered[start].address + ordered[start].span)
            count = top - ordered[start].address
            if count > limit and start < end - 1:
                break  # a wider one only grows
            choices.append((best[start] + cost(table, count), start))
        seconds, start = min(choices)
        best.append(seconds)
        cuts.append(start)
    reads = []
    end = len(ordered)
    while end:
        start = cuts[end]
        reads.append(_over(table, tuple(ordered[start:end])))
        end = start
    return reads[::-1]


def _over(table: str, points: tuple[Point, ...]) -> Read:
    address = min(point.address for point in points)
    end = max(point.address + point.span for point in points)
    return Read(table=table, address=address, count=end - address, points=points)
