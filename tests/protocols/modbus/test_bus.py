"""The bus owner on a virtual clock: polling, silences, faults of units and points."""

from itertools import pairwise

import pytest

from events.model import Instant, Observation
from protocols.modbus import rtu
from protocols.modbus.bus import ModbusBus
from protocols.modbus.sections import Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedUnit
from protocols.modbus.timing import t3_5_s, transmission_s
from tests.protocols.modbus.buses import BOTH, changes_of, one_unit, open_world
from tests.protocols.modbus.world import Remembered, World, contact, serial_bus


@BOTH
def test_a_change_at_the_unit_is_observed_within_a_period(driver: str) -> None:
    found, unit = open_world(driver)
    found.run(5)
    assert changes_of(found) == []
    unit.discrete_inputs[0] = True
    found.run(1.1)
    assert changes_of(found) == ["new"]
    unit.discrete_inputs[0] = False
    found.run(1.1)
    assert changes_of(found) == ["new", "restore"]
    assert unit.levels(2, 0) == [False, True, False]


@BOTH
def test_an_observation_names_unit_input_and_bytes(driver: str) -> None:
    found, unit = open_world(driver)
    unit.discrete_inputs[0] = True
    found.run(1.5)
    (alarm,) = found.observed("door", "alarm")
    assert alarm.source == "bus"
    assert alarm.address == {"unit": "1", "discrete-input": "0"}
    assert alarm.integrity == (("transaction",) if driver == "tcp" else ("crc",))
    if driver == "rtu":
        assert alarm.raw == rtu.frame(1, b"\x02\x01\x01")


def test_frames_are_apart_by_t3_5_and_never_overlap() -> None:
    units = [Unit(id=f"u{n}", unit=n, point=(contact(f"p{n}"),), period_s=0.05) for n in (1, 2)]
    found = World(serial_bus(units), [SimulatedUnit(unit=1), SimulatedUnit(unit=2)])
    found.run(10)
    least_s = transmission_s(8 + 6, 9600) + 0.005 + t3_5_s(9600)
    gaps = [after - before for (before, _), (after, _) in pairwise(found.asked)]
    assert min(gaps) == pytest.approx(least_s, abs=1e-9)


@BOTH
def test_one_fault_after_the_retries_and_one_restore(driver: str) -> None:
    found, unit = open_world(driver, retries=2)
    found.run(3)
    unit.misbehaviour = Misbehaviour.SILENT
    since_s = found.now_s
    found.run(100)
    (fault,) = found.observed("bus/u1")
    assert (fault.kind, fault.subkind, fault.qualifier) == ("fault", "communication", "new")
    assert fault.details == {"misses": 3}
    at_s = next(at_s for at_s, seen in found.seen if seen is fault)
    assert at_s - since_s <= 1.0 + 3 * 0.6, "period, and three probes"
    unit.misbehaviour = None
    unit.discrete_inputs[0] = True
    found.run(60)
    assert [each.qualifier for each in found.observed("bus/u1")] == ["new", "restore"]
    order = [seen.point for _, seen in found.seen[-2:]]
    assert order == ["bus/u1", "door"], "the unit is back before its level is compared"


def test_a_unit_stored_as_silent_is_restored_or_says_nothing() -> None:
    silent = Observation(point="bus/u1", kind="fault", subkind="communication", qualifier="new")
    for misbehaviour, expected in ((Misbehaviour.SILENT, []), (None, ["restore"])):
        unit = SimulatedUnit(unit=1, misbehaviour=misbehaviour)
        found = World(one_unit("rtu"), [unit], Remembered([silent]))
        found.run(30)
        assert [each.qualifier for each in found.observed("bus/u1")] == expected


@pytest.mark.parametrize("code", [0x0A, 0x0B])
def test_a_gateway_that_finds_no_unit_behind_it_says_that_the_unit_is_silent(code: int) -> None:
    found, _ = open_world("tcp", exception=code)
    found.run(5)
    (fault,) = found.observed("bus/u1")
    assert fault.native is not None
    assert fault.native.code == f"exception-{code}"
    assert found.observed("door") == []


@pytest.mark.parametrize("code", [1, 2, 3, 4, 8])
@BOTH
def test_an_exception_is_a_fault_of_the_points_and_not_of_the_unit(driver: str, code: int) -> None:
    found, unit = open_world(driver)
    unit.exception = code
    found.run(10)
    (fault,) = found.observed("door", "fault")
    assert (fault.subkind, fault.qualifier) == ("communication", "new")
    assert fault.native is not None
    assert fault.native.fields["exception"] == code
    assert found.observed("bus/u1") == []
    unit.exception = None
    found.run(5)
    assert [each.qualifier for each in found.observed("door", "fault")] == ["new", "restore"]


@pytest.mark.parametrize("code", [5, 6])
def test_a_busy_unit_is_asked_again_soon_and_is_at_fault_if_it_stays_busy(code: int) -> None:
    found, unit = open_world(exception=code)
    found.run(0.5)
    assert len(found.asked) == 3, "asked again every 0.2 s"
    unit.exception = None
    found.run(5)
    assert found.observed("door", "fault") == []
    unit.exception = code
    found.run(20)
    assert [each.qualifier for each in found.observed("door", "fault")] == ["new"]
    assert found.observed("bus/u1") == []


def test_a_merged_read_that_is_refused_is_taken_apart() -> None:
    points = (
        contact("low", table="holding", address=0),
        contact("high", table="holding", address=8),
        contact("gone", table="holding", address=30),
    )
    unit = SimulatedUnit(unit=1)
    found = World(serial_bus([Unit(id="u1", unit=1, point=points)], baud=1200), [unit])
    found.run(10)
    assert found.observed("low", "fault") == []
    assert found.observed("high", "fault") == []
    assert [each.qualifier for each in found.observed("gone", "fault")] == ["new"]
    unit.holding_registers[8] = 1
    found.run(5)
    assert [each.qualifier for each in found.observed("high", "alarm")] == ["new"]


@BOTH
def test_levels_are_compared_with_the_stored_ones_once_per_point(driver: str) -> None:
    stored = Observation(point="door", kind="alarm", subkind="burglary", qualifier="new")
    unit = SimulatedUnit(unit=1)
    found = World(one_unit(driver), [unit], Remembered([stored]))
    found.run(10)
    assert [(each.kind, each.qualifier) for each in found.observed("door")] == [
        ("information", "new"),
        ("alarm", "restore"),
    ]


@BOTH
def test_a_line_opened_again_does_not_repeat_what_was_said(driver: str) -> None:
    found, unit = open_world(driver)
    unit.discrete_inputs[0] = True
    found.run(3)
    before = len(found.seen)
    found.engine.start(found.now)
    found.run(5)
    assert len(found.seen) == before
    unit.discrete_inputs[0] = False
    found.engine.start(found.now)
    found.run(5)
    assert changes_of(found) == ["new", "restore"]


def test_a_bus_without_points_does_nothing() -> None:
    engine = ModbusBus(serial_bus([Unit(id="u1", unit=1)]), Remembered())
    engine.start(Instant(monotonic=0.0))
    assert engine.deadline() is None
    assert engine.to_send() == b""
    assert engine.observations() == []
