"""Writes of the bus owner: confirmed, refused, unknown, never repeated."""

import pytest

from events.commands import Verdict
from events.errors import LocalProtocolError
from protocols.modbus import rtu
from protocols.modbus.exchange import read, write_coil, write_register, write_registers
from protocols.modbus.sections import Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedUnit
from protocols.modbus.writes import BUSY_MAX, WRITES_MAX, Written
from tests.protocols.modbus.buses import BOTH, open_world
from tests.protocols.modbus.world import World, contact, serial_bus


@BOTH
def test_a_write_is_confirmed_by_its_echo(driver: str) -> None:
    found, unit = open_world(driver)
    found.run(1)
    tickets = [
        found.engine.write(request, found.now)
        for request in (write_coil(1, 3, True), write_registers(1, 2, [7, 8]))
    ]
    found.run(1)
    assert found.engine.written() == [
        Written(ticket=ticket, verdict=Verdict.APPLIED) for ticket in tickets
    ]
    assert unit.coils[3] is True
    assert unit.holding_registers[2:4] == [7, 8]
    assert found.engine.written() == []


@BOTH
def test_a_write_without_answer_is_unknown_and_never_repeated(driver: str) -> None:
    found, unit = open_world(driver)
    found.run(1)
    unit.misbehaviour = Misbehaviour.SILENT
    found.engine.write(write_register(1, 0, 5), found.now)
    found.run(10)
    assert [each.verdict for each in found.engine.written()] == [Verdict.OUTCOME_UNKNOWN]
    code_at = 7 if driver == "tcp" else 1
    assert [data[code_at] for _, data in found.asked].count(6) == 1


def test_a_write_on_a_line_that_may_echo_is_not_called_confirmed() -> None:
    config = serial_bus([])
    unit = SimulatedUnit(unit=1)
    found = World(config, [unit])
    found.engine.write(write_coil(1, 0, True), found.now)
    found.run(2)
    assert [each.verdict for each in found.engine.written()] == [Verdict.APPLIED_UNCONFIRMED]


def test_on_a_line_that_echoes_only_the_unit_confirms_a_write() -> None:
    found, unit = open_world()

    def echoing(after_s: float, data: bytes) -> list[tuple[float, bytes]]:
        return [(0.0, found.asked[-1][1]), (after_s, data)]

    found.wire = echoing
    found.run(3)
    found.engine.write(write_coil(1, 0, True), found.now)
    found.run(1)
    assert [each.verdict for each in found.engine.written()] == [Verdict.APPLIED]
    unit.misbehaviour = Misbehaviour.SILENT
    found.at(found.now_s + 0.011, lambda: None)
    found.engine.write(write_coil(1, 0, False), found.now)
    echo = rtu.frame(1, write_coil(1, 0, False).pdu)
    found.hears(found.now_s + 0.02, echo)
    found.run(2)
    assert [each.verdict for each in found.engine.written()] == [Verdict.OUTCOME_UNKNOWN]


def test_a_write_that_is_refused_says_why_and_a_busy_unit_is_asked_again() -> None:
    found, unit = open_world()
    found.run(1)
    unit.exception = 3
    found.engine.write(write_register(1, 0, 5), found.now)
    found.run(1)
    (refused,) = found.engine.written()
    assert (refused.verdict, refused.exception) == (Verdict.FAILED, 3)
    unit.exception = 6
    found.engine.write(write_register(1, 0, 5), found.now)
    found.run(0.3)
    unit.exception = None
    found.run(2)
    assert [each.verdict for each in found.engine.written()] == [Verdict.APPLIED]
    unit.exception = 6
    writes = found.engine.totals()["writes"]
    found.engine.write(write_register(1, 0, 5), found.now, expires_s=60)
    found.run(5)
    (busy,) = found.engine.written()
    assert (busy.verdict, busy.exception) == (Verdict.FAILED, 6)
    assert found.engine.totals()["writes"] - writes == BUSY_MAX + 1


def test_a_broadcast_reaches_all_units_and_waits_for_none() -> None:
    units = [Unit(id=f"u{n}", unit=n, point=(contact(f"p{n}"),)) for n in (1, 2)]
    far = [SimulatedUnit(unit=1), SimulatedUnit(unit=2)]
    found = World(serial_bus(units, turnaround_ms=150), far)
    found.run(0.5)
    sent_s = found.now_s
    found.engine.write(write_coil(0, 5, True), found.now)
    found.run(2)
    assert [each.verdict for each in found.engine.written()] == [Verdict.APPLIED_UNCONFIRMED]
    assert all(unit.coils[5] for unit in far)
    later = [at_s for at_s, _ in found.asked if at_s > sent_s]
    assert later[0] - sent_s >= 0.15
    assert found.engine.totals()["timeouts"] == 0


def test_writes_are_bounded_and_reads_are_not_starved_by_them() -> None:
    found, _ = open_world()
    with pytest.raises(LocalProtocolError):
        found.engine.write(read(1, 3, 0, 1), found.now)
    for _ in range(WRITES_MAX):
        found.engine.write(write_register(1, 0, 1), found.now, expires_s=60)
    with pytest.raises(LocalProtocolError):
        found.engine.write(write_register(1, 0, 1), found.now)
    found.run(0.5)
    codes = [data[1] for _, data in found.asked]
    assert codes.index(2) <= 2
    found.run(60)
    assert len(found.engine.written()) >= WRITES_MAX


def test_a_write_that_waits_too_long_expires() -> None:
    found, unit = open_world(timeout_ms=2000)
    unit.misbehaviour = Misbehaviour.SILENT
    found.run(0.1)
    found.engine.write(write_coil(1, 0, True), found.now, expires_s=1.0)
    found.run(10)
    assert [each.verdict for each in found.engine.written()] == [Verdict.EXPIRED]
    assert unit.coils[0] is False
