"""Dead units cost the healthy ones next to nothing, and come back within a minute."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.modbus.sections import Bus, Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedUnit
from tests.protocols.modbus.world import World, contact, serial_bus, tcp_bus

WATCHED_S = 60.0
NOTICED_S = 60.0
MEAN_RISE_MAX = 1.1
ROUNDING_S = 1e-6
SETTLED_S = 30.3
FOUND_OUT_S = 25.0
EXCHANGE_S = 0.05  # a read at 9600 baud that was begun just before another one became due


def bus(driver: str, count: int, period_s: float) -> Bus:
    units = [
        Unit(id=f"u{n}", unit=n, period_s=period_s, point=(contact(f"p{n}"),))
        for n in range(1, count + 1)
    ]
    return tcp_bus(units) if driver == "tcp" else serial_bus(units)


def world(config: Bus, dead: set[int]) -> World:
    delay_s = 0.002 if config.port is None else 0.02
    units = [SimulatedUnit(unit=unit.unit, delay_s=delay_s) for unit in config.unit]
    for unit in units:
        if unit.unit in dead:
            unit.misbehaviour = Misbehaviour.SILENT
    return World(config, units)


def periods(found: World, healthy: set[int]) -> tuple[float, float]:
    """Return the worst mean and the longest single period of the healthy units."""
    means, longest = [], []
    for unit in healthy:
        gaps = [after - before for before, after in pairwise(found.polls(unit))]
        means.append(sum(gaps) / len(gaps))
        longest.append(max(gaps))
    return max(means), max(longest)


CASES = [
    (driver, count, dead, period_s)
    for driver in ("rtu", "tcp")
    for count in (8, 16, 32)
    for dead in sorted({1, count // 4, count // 2, count - 1})
    for period_s in (0.2, 1.0)
]


@pytest.mark.parametrize(("driver", "count", "dead", "period_s"), CASES)
def test_healthy_units_keep_their_period_while_others_are_dead(
    driver: str, count: int, dead: int, period_s: float
) -> None:
    config = bus(driver, count, period_s)
    gone = set(range(count - dead + 1, count + 1))
    healthy = set(range(1, count + 1)) - gone
    undisturbed, disturbed = world(config, set()), world(config, gone)
    undisturbed.run(WATCHED_S)
    disturbed.run(WATCHED_S)
    mean_before, longest_before = periods(undisturbed, healthy)
    mean, longest = periods(disturbed, healthy)
    probe_s = config.timeout_s(config.unit[0]) + config.late_window_s(config.unit[0])
    assert mean <= MEAN_RISE_MAX * mean_before
    assert longest <= longest_before + probe_s + ROUNDING_S
    faults = [seen.point for _, seen in disturbed.seen if seen.kind == "fault"]
    assert sorted(faults) == sorted(f"bus/u{unit}" for unit in gone), "one each, and no other"


DEATHS = [
    (driver, count, dead, period_s)
    for driver in ("rtu", "tcp")
    for count in (8, 16)
    for dead in sorted({1, count // 4, count // 2, count - 1})
    for period_s in (0.5, 1.0, 5.0)
    if (driver, count, period_s) != ("rtu", 16, 0.5)  # more than the line can carry
]


def allowed_lateness_s(config: Bus, dead: int, period_s: float) -> float:
    """Return by how much a read may come late when so many units die at once.

    One probe where the share of the period that is a unit's own holds one. Where it does not, each
    of the dead that is due before may add what is missing, and a retry of the first as well: who
    died with it shows only by being asked.
    """
    unit = config.unit[0]
    probe_s = config.timeout_s(unit) + config.late_window_s(unit)
    missing_s = max(0.0, probe_s - period_s / len(config.unit))
    return probe_s + (dead * missing_s if dead > 1 else 0.0)


@pytest.mark.parametrize("place", ["first", "scattered"])
@pytest.mark.parametrize(("driver", "count", "dead", "period_s"), DEATHS)
def test_units_that_die_together_are_found_out_one_by_one(
    driver: str, count: int, dead: int, period_s: float, place: str
) -> None:
    config = bus(driver, count, period_s)
    order = list(range(1, count + 1))
    if place == "scattered":
        order.sort(key=lambda unit: (unit * 5) % 17)
    gone = set(order[:dead])
    healthy = set(order) - gone
    undisturbed, found = world(config, set()), world(config, set())
    for each in (undisturbed, found):
        each.run(SETTLED_S)
        each.asked.clear()
    died_s = found.now_s
    for unit in gone:
        found.units[unit].misbehaviour = Misbehaviour.SILENT
    undisturbed.run(WATCHED_S)
    found.run(WATCHED_S)
    mean_before, longest_before = periods(undisturbed, healthy)
    mean, longest = periods(found, healthy)
    assert mean <= MEAN_RISE_MAX * mean_before
    late_s = longest - longest_before
    assert late_s <= allowed_lateness_s(config, dead, period_s) + EXCHANGE_S
    faults = {seen.point: at_s - died_s for at_s, seen in found.seen if seen.kind == "fault"}
    assert set(faults) == {f"bus/u{unit}" for unit in gone}
    assert max(faults.values()) <= FOUND_OUT_S
    for unit in gone:
        found.units[unit].misbehaviour = None
    found.run(NOTICED_S)
    back = {seen.point for _, seen in found.seen if seen.qualifier == "restore"}
    assert back == set(faults)


@pytest.mark.parametrize("driver", ["rtu", "tcp"])
@pytest.mark.parametrize(("count", "dead"), [(8, 1), (8, 7), (32, 9), (32, 31)])
@pytest.mark.parametrize("after_s", [30.0, 120.0])
def test_a_unit_that_comes_back_is_noticed_within_a_minute(
    driver: str, count: int, dead: int, after_s: float
) -> None:
    config = bus(driver, count, 1.0)
    gone = set(range(count - dead + 1, count + 1))
    for unit in (min(gone), max(gone)):
        found = world(config, gone)
        found.run(after_s)
        found.units[unit].misbehaviour = None
        back_s = found.now_s
        found.run(NOTICED_S)
        restores = [
            at_s - back_s
            for at_s, seen in found.seen
            if seen.point == f"bus/u{unit}" and seen.qualifier == "restore"
        ]
        polls = [at_s for at_s in found.polls(unit) if at_s > back_s]
        # Whoever came back before the fault was certain has nothing to restore.
        assert restores or not found.observed(f"bus/u{unit}")
        assert polls


@settings(max_examples=20)
@given(count=st.integers(2, 12), data=st.data(), driver=st.sampled_from(["rtu", "tcp"]))
def test_any_set_of_dead_units_leaves_the_others_alone(
    count: int, data: st.DataObject, driver: str
) -> None:
    config = bus(driver, count, data.draw(st.sampled_from([0.5, 1.0, 3.0])))
    gone = data.draw(st.sets(st.integers(1, count), min_size=1, max_size=count - 1))
    healthy = set(range(1, count + 1)) - gone
    undisturbed, disturbed = world(config, set()), world(config, gone)
    undisturbed.run(30)
    disturbed.run(30)
    mean_before, longest_before = periods(undisturbed, healthy)
    mean, longest = periods(disturbed, healthy)
    assert mean <= MEAN_RISE_MAX * mean_before
    assert longest <= longest_before + 0.6 + ROUNDING_S


def test_the_first_scan_asks_everybody_at_once() -> None:
    found = world(bus("tcp", 8, 5.0), set())
    found.run(1.0)
    assert all(len(found.polls(unit)) == 1 for unit in range(1, 9))
    serial = world(bus("rtu", 8, 5.0), set())
    serial.run(1.0)
    assert all(len(serial.polls(unit)) == 1 for unit in range(1, 9))


def test_reads_keep_to_the_grid_of_their_period() -> None:
    found = world(bus("rtu", 4, 1.0), set())
    found.run(100)
    for unit in range(1, 5):
        polls = found.polls(unit)
        assert len(polls) == pytest.approx(100, abs=1)
        assert max(abs((at_s - polls[0]) % 1.0 - 0.5) for at_s in polls) > 0.4, "no drift"


def test_high_priority_goes_first_and_low_priority_is_never_starved() -> None:
    points = [
        contact("low", priority="low"),
        *(contact(f"n{n}", table="coil", address=200 * n) for n in range(1, 20)),
        contact("high", priority="high", address=300),
    ]
    config = serial_bus(
        [
            Unit(id=f"u{n}", unit=n, period_s=0.2, point=(point,))
            for n, point in enumerate(points, start=1)
        ]
    )
    units = [
        SimulatedUnit(unit=n, delay_s=0.02, coils=[False] * 5000, discrete_inputs=[False] * 500)
        for n in range(1, len(points) + 1)
    ]
    found = World(config, units)
    found.run(60)
    low, normal, high = (len(found.polls(unit)) for unit in (1, 5, len(points)))
    assert high > normal > low > 15


def test_an_untrusted_unit_is_asked_only_what_it_left_unanswered() -> None:
    points = (contact("a"), contact("b", table="coil"), contact("c", table="input", type="int16"))
    config = serial_bus([Unit(id="u1", unit=1, point=points)])
    unit = SimulatedUnit(unit=1)
    found = World(config, [unit])
    found.run(5)
    unit.misbehaviour = Misbehaviour.SILENT
    since_s = found.now_s
    found.run(100)
    asked = {data for at_s, data in found.asked if at_s > since_s}
    assert len(asked) == 1
    unit.misbehaviour = None
    found.run(61)
    assert {data[1] for at_s, data in found.asked if at_s > since_s + 100} == {1, 2, 4}
