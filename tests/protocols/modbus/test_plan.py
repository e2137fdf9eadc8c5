"""Plans: every point once, within the limits, and never dearer than another way to cut them."""

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus.plan import (
    Cost,
    Read,
    gap_s,
    plan,
    rtu_cost,
    split,
    tcp_cost,
    worst_scan_s,
)
from protocols.modbus.sections import Point, Unit
from tests.protocols.modbus.world import contact, serial_bus, tcp_bus

costs = st.sampled_from([rtu_cost(1200), rtu_cost(9600), rtu_cost(115_200), tcp_cost()])


def points(places: list[tuple[int, str]], table: str) -> tuple[Point, ...]:
    return tuple(
        contact(f"p{index}", table=table, address=address, type=name if table != "coil" else None)
        for index, (address, name) in enumerate(places)
    )


placed = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(["uint16", "float32", "uint64"])),
    min_size=1,
    max_size=9,
)


@given(places=placed, table=st.sampled_from(["holding", "input", "coil"]), cost=costs)
def test_every_point_lies_in_exactly_one_read_within_the_limits(
    places: list[tuple[int, str]], table: str, cost: Cost
) -> None:
    unit = Unit(id="u", unit=1, point=points(places, table))
    reads = plan(unit, cost)
    assert sorted(point.id for read in reads for point in read.points) == sorted(
        point.id for point in unit.point
    )
    for read in reads:
        assert 1 <= read.count <= (2000 if table == "coil" else 125)
        for point in read.points:
            assert read.address <= point.address
            assert point.address + point.span <= read.address + read.count


@given(places=placed, cost=costs)
def test_no_other_cut_of_the_points_is_cheaper(places: list[tuple[int, str]], cost: Cost) -> None:
    unit = Unit(id="u", unit=1, point=points(places, "holding"))
    ordered = sorted(unit.point, key=lambda point: (point.address, point.span))

    def seconds(reads: list[Read]) -> float:
        return sum(cost(read.table, read.count) for read in reads)

    def counts(edges: tuple[int, ...]) -> list[int]:
        bounds = [0, *edges, len(ordered)]
        return [
            max(point.address + point.span for point in ordered[start:end])
            - ordered[start].address
            for start, end in pairwise(bounds)
        ]

    cuts = [
        sum(cost("holding", count) for count in counts(edges))
        for size in range(len(ordered))
        for edges in combinations(range(1, len(ordered)), size)
        if all(count <= 125 for count in counts(edges))
    ]
    assert seconds(plan(unit, cost)) <= min(cuts) + 1e-12


def test_neighbours_are_merged_and_far_ones_are_not_on_a_slow_line() -> None:
    near = Unit(id="u", unit=1, point=points([(0, "uint16"), (3, "uint16")], "holding"))
    far = Unit(id="u", unit=1, point=points([(0, "uint16"), (100, "uint16")], "holding"))
    assert [(read.address, read.count) for read in plan(near, rtu_cost(9600))] == [(0, 4)]
    assert [read.count for read in plan(far, rtu_cost(9600))] == [1, 1]
    assert [read.count for read in plan(far, tcp_cost())] == [101]


def test_different_periods_tables_and_priorities_are_read_apart() -> None:
    unit = Unit(
        id="u",
        unit=1,
        point=(
            contact("a", address=0),
            contact("b", address=1, period_s=5),
            contact("c", address=2, priority="high"),
            contact("d", address=3, table="coil"),
            contact("e", address=4),
        ),
    )
    assert [[point.id for point in read.points] for read in plan(unit, tcp_cost())] == [
        ["a", "e"],
        ["b"],
        ["c"],
        ["d"],
    ]


def test_a_device_that_gives_few_registers_is_asked_for_few() -> None:
    unit = Unit(
        id="u", unit=1, read_max=2, point=points([(n, "uint16") for n in range(5)], "input")
    )
    assert [read.count for read in plan(unit, tcp_cost())] == [1, 2, 2]


def test_a_refused_read_is_split_into_its_points() -> None:
    unit = Unit(id="u", unit=1, point=points([(0, "uint16"), (3, "float32")], "holding"))
    (merged,) = plan(unit, tcp_cost())
    assert [(part.address, part.count) for part in split(merged)] == [(0, 1), (3, 2)]


def test_a_scan_and_the_gap_between_frames_take_what_the_line_takes() -> None:
    units = [Unit(id=f"u{n}", unit=n, point=(contact(f"p{n}"),)) for n in range(1, 33)]
    bus = serial_bus(units)
    assert 1.3 < worst_scan_s(bus) < 1.6
    assert gap_s(bus) == 3.5 * 11 / 9600
    assert gap_s(serial_bus(units, gap_ms=25)) == 0.025
    assert gap_s(tcp_bus(units)) == 0
