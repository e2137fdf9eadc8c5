"""The bus owner before a store that is slow, refuses, or takes alarms alone."""

from typing import Any

from events.model import Observation
from protocols.modbus.outbox import RETRY_S, WAITING_MAX
from protocols.modbus.sections import Unit
from protocols.modbus.simulated import SimulatedUnit
from tests.protocols.modbus.buses import BOTH, changes_of, one_unit, open_world
from tests.protocols.modbus.world import World, contact, serial_bus, tcp_bus


def toggling(count: int) -> tuple[World, list[SimulatedUnit]]:
    points = tuple(contact(f"p{n}", address=n) for n in range(64))
    config = tcp_bus([Unit(id="u1", unit=1, point=points, period_s=0.05)])
    unit = SimulatedUnit(unit=1, discrete_inputs=[False] * 64)
    return World(config, [unit]), [unit]


def test_a_store_that_is_slow_pauses_polling_and_loses_no_change() -> None:
    found, (unit,) = toggling(64)
    found.run(1)
    found.stores = False
    for step in range(200):
        unit.discrete_inputs[:] = [step % 2 == 0] * 64
        found.run(0.06)
    asked = len(found.asked)
    found.run(10)
    assert len(found.asked) == asked, "the bus is left alone"
    assert len(found.seen) <= 64 * 2 + WAITING_MAX
    found.stores = True
    in_flight = sum(1 for at_s, seen in found.seen if at_s > 101.0)
    found.engine.stored(in_flight, found.now)
    found.settle()
    found.run(10)
    assert len(found.asked) > asked
    for n in range(64):
        answered = unit.levels(2, n)
        told = [False] + [q == "new" for q in changes_of(found, f"p{n}")]
        assert told == answered, "every level that was read, in order"


def test_a_refused_change_is_offered_again_until_it_is_stored() -> None:
    found, unit = open_world()
    found.run(1)
    found.stores = False
    unit.discrete_inputs[0] = True
    found.run(1.5)
    assert changes_of(found) == ["new"]
    for attempt in range(2, 5):
        found.engine.dropped(1, found.now)
        found.run(RETRY_S + 0.1)
        assert changes_of(found) == ["new"] * attempt
    found.engine.stored(1, found.now)
    found.run(20)
    assert changes_of(found) == ["new"] * 4


def status_points(count: int) -> tuple[Any, ...]:
    return tuple(
        contact(f"s{n}", address=n + 1, kind="status", subkind="door") for n in range(count)
    )


def not_urgent(observation: Observation) -> bool:
    return observation.kind != "alarm"


@BOTH
def test_a_store_that_refuses_routine_changes_still_gets_every_alarm(driver: str) -> None:
    count = 200
    points = (contact("door"), *status_points(count))
    section = Unit(id="u1", unit=1, point=points, period_s=1.0)
    unit = SimulatedUnit(unit=1)
    unit.discrete_inputs[:] = [False] * (count + 1)
    config = tcp_bus([section]) if driver == "tcp" else serial_bus([section], baud=38400)
    found = World(config, [unit])
    found.run(3)
    found.refuses = not_urgent
    for step in range(12):  # 2400 changes, and the points' levels end as they began but one
        unit.discrete_inputs[1:] = [step % 2 == 0] * count
        found.run(1.1)
        assert found.engine.polling
    unit.discrete_inputs[1] = True
    assert found.engine.totals()["unrecorded_changes"] > WAITING_MAX
    for level, told in ((True, ["new"]), (False, ["new", "restore"])):
        unit.discrete_inputs[0] = level
        found.run(1.1)
        stored = [each.qualifier for each in found.recorded if each.kind == "alarm"]
        assert stored == told
    found.refuses = lambda _: False
    found.run(RETRY_S + 1)
    last = {each.point: each for each in found.recorded if each.kind == "status"}
    assert len(last) == count
    assert last["s0"].qualifier == "new"
    assert {last[f"s{n}"].qualifier for n in range(1, count)} == {"restore"}
    assert last["s1"].details == {"unrecorded_changes": 11}
    assert last["s0"].details == {"unrecorded_changes": 12}
    assert sum(each.kind == "status" for each in found.recorded) == count, "the newest alone"


def test_an_alarm_of_a_point_that_was_never_recorded_is_not_behind_its_first_reading() -> None:
    found = World(one_unit("rtu"), [unit := SimulatedUnit(unit=1)])
    found.refuses = not_urgent
    unit.discrete_inputs[0] = True
    found.run(1.1)
    assert [each.kind for each in found.recorded] == ["alarm"]


def test_alarms_that_nobody_stores_stop_the_polling_and_it_is_said() -> None:
    found, (unit,) = toggling(64)
    found.stores = False
    assert found.engine.polling
    for step in range(200):
        unit.discrete_inputs[:] = [step % 2 == 0] * 64
        found.run(0.06)
    assert not found.engine.polling
