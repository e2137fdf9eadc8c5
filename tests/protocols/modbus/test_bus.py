"""The bus owner on a virtual clock: silences, strict answers, faults, writes, slow stores."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.commands import Verdict
from events.errors import LocalProtocolError
from events.model import Instant, Observation
from protocols.modbus import rtu
from protocols.modbus.bus import STALE_S, ModbusBus
from protocols.modbus.exchange import read, write_coil, write_register, write_registers
from protocols.modbus.outbox import RETRY_S, WAITING_MAX
from protocols.modbus.sections import Bus, Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedUnit
from protocols.modbus.timing import t3_5_s, transmission_s
from protocols.modbus.writes import BUSY_MAX, WRITES_MAX, Written
from tests.protocols.modbus.world import Remembered, World, contact, serial_bus, tcp_bus

BOTH = pytest.mark.parametrize("driver", ["rtu", "tcp"])


def one_unit(driver: str, **changes: Any) -> Bus:
    unit = Unit(id="u1", unit=1, point=(contact(),), period_s=1.0)
    return tcp_bus([unit], **changes) if driver == "tcp" else serial_bus([unit], **changes)


def open_world(
    driver: str = "rtu",
    *,
    misbehaviour: Misbehaviour | None = None,
    exception: int | None = None,
    **changes: Any,
) -> tuple[World, SimulatedUnit]:
    unit = SimulatedUnit(unit=1, misbehaviour=misbehaviour, exception=exception)
    return World(one_unit(driver, **changes), [unit]), unit


def changes_of(found: World, point: str = "door") -> list[str]:
    return [each.qualifier for each in found.observed(point, "alarm")]


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


@pytest.mark.parametrize(
    "wrong",
    [
        Misbehaviour.WRONG_UNIT,
        Misbehaviour.WRONG_FUNCTION,
        Misbehaviour.WRONG_COUNT,
        Misbehaviour.WRONG_CHECK,
        Misbehaviour.TRUNCATED,
        Misbehaviour.SILENT,
    ],
)
@BOTH
def test_a_wrong_answer_is_no_answer_and_never_a_value(driver: str, wrong: Misbehaviour) -> None:
    found, unit = open_world(driver)
    found.run(3)
    unit.misbehaviour = wrong
    unit.discrete_inputs[0] = True
    found.run(5)
    assert changes_of(found) == []
    assert [each.qualifier for each in found.observed("bus/u1")] == ["new"]
    unit.misbehaviour = None
    found.engine.start(found.now)  # a truncated TCP answer leaves the stream out of step
    found.run(20)
    assert changes_of(found) == ["new"]
    assert [each.qualifier for each in found.observed("bus/u1")] == ["new", "restore"]


@pytest.mark.parametrize("harmless", [Misbehaviour.TWICE, Misbehaviour.NOISE_BEFORE])
def test_a_doubled_answer_and_a_glitch_before_it_do_no_harm(harmless: Misbehaviour) -> None:
    found, unit = open_world()
    unit.misbehaviour = harmless
    unit.discrete_inputs[0] = True
    found.run(5)
    assert changes_of(found) == ["new"]
    assert found.observed("bus/u1") == []
    assert found.engine.totals()["timeouts"] == 0


def test_a_late_answer_is_discarded_and_credited_to_nobody() -> None:
    """Two units, both asked for the same; the first answers when the second would be asked."""
    units = [Unit(id=f"u{n}", unit=n, point=(contact(f"p{n}"),), period_s=1.0) for n in (1, 2)]
    slow, quick = SimulatedUnit(unit=1), SimulatedUnit(unit=2)
    found = World(serial_bus(units, timeout_ms=300, late_window_ms=300), [slow, quick])
    found.run(3)
    slow.delay_s = 0.45
    slow.discrete_inputs[0] = True
    found.run(20)
    assert found.observed("p1", "alarm") == []
    assert found.observed("p2", "alarm") == []
    assert [each.qualifier for each in found.observed("bus/u1")] == ["new"]
    assert found.observed("bus/u2") == []
    assert found.engine.totals()["discarded_bytes"] > 0


@pytest.mark.parametrize("delay_s", [0.31, 0.45, 0.61, 0.7, 0.95, 1.3, 2.5])
def test_a_unit_later_than_every_window_is_at_fault_and_never_believed(delay_s: float) -> None:
    """Two blocks of one shape in one unit that answers one after the other, always too late."""
    points = (
        contact("low", table="holding", address=0, threshold=100),
        contact("high", table="holding", address=3000, threshold=100),
    )
    registers = [0] * 3001
    registers[3000] = 200
    unit = SimulatedUnit(unit=1, holding_registers=registers)
    found = World(serial_bus([Unit(id="u1", unit=1, point=points)]), [unit])
    found.run(5)
    assert changes_of(found, "high") == ["new"]
    unit.delay_s = delay_s
    free_at = 0.0

    def one_after_the_other(after_s: float, data: bytes) -> list[tuple[float, bytes]]:
        nonlocal free_at
        free_at = max(found.now_s, free_at) + after_s
        return [(free_at - found.now_s, data)]

    found.wire = one_after_the_other
    found.run(300)
    assert changes_of(found, "low") == []
    assert changes_of(found, "high") == ["new"]
    assert [each.qualifier for each in found.observed("bus/u1")] == ["new"]
    unit.delay_s = 0.01
    found.run(120)
    assert [each.qualifier for each in found.observed("bus/u1")] == ["new", "restore"]
    assert changes_of(found, "low") == []


def test_nothing_is_sent_during_the_late_window() -> None:
    found, _ = open_world(
        misbehaviour=Misbehaviour.SILENT, timeout_ms=200, late_window_ms=500, retries=3
    )
    found.run(3)
    gaps = [after - before for (before, _), (after, _) in pairwise(found.asked[:4])]
    assert gaps == [pytest.approx(0.7)] * 3


def test_over_tcp_an_answer_with_another_number_is_discarded() -> None:
    found, unit = open_world("tcp", timeout_ms=100)
    unit.discrete_inputs[0] = True
    unit.delay_s = 0.15
    found.run(10)
    assert changes_of(found) == []
    assert [each.qualifier for each in found.observed("bus/u1")] == ["new"]


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


def test_an_exception_with_a_bare_80_is_taken_only_where_it_is_configured() -> None:
    for tolerant in (False, True):
        config = serial_bus([Unit(id="u1", unit=1, point=(contact(),), exception_80=tolerant)])
        found = World(config, [SimulatedUnit(unit=1)])
        found.wire = lambda after_s, _data: [(after_s, bytes.fromhex("01800301c1"))]
        found.run(10)
        assert bool(found.observed("door", "fault")) == tolerant
        assert bool(found.observed("bus/u1")) != tolerant


def test_a_line_that_never_falls_silent_does_not_stop_the_bus() -> None:
    found, unit = open_world()
    for step in range(2000):
        found.hears(100.0 + step * 0.003, b"\x00")
    unit.discrete_inputs[0] = True
    found.run(6)
    assert len(found.asked) >= 3
    found.run(10)
    assert changes_of(found) == ["new"]


def test_an_answer_that_has_begun_may_end_after_the_timeout() -> None:
    """A long answer on a slow line takes longer than the timeout; it is not cut off."""
    point = contact("last", table="holding", address=99)
    config = serial_bus(
        [Unit(id="u1", unit=1, point=(contact("first", table="holding"), point))],
        baud=19200,
        timeout_ms=60,
    )
    found = World(config, [SimulatedUnit(unit=1, holding_registers=[0] * 100)])
    halves = [(0.0, b"")]

    def in_two(after_s: float, data: bytes) -> list[tuple[float, bytes]]:
        halves.append((after_s, data))
        return (
            [(after_s, data[:9]), (after_s + 0.05, data[9:])]
            if len(data) > 20
            else [(after_s, data)]
        )

    found.wire = in_two
    found.run(5)
    assert found.observed("bus/u1") == []
    assert len(halves) > 3


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


def test_half_an_answer_of_the_old_line_is_forgotten() -> None:
    found, unit = open_world()
    unit.discrete_inputs[0] = True
    answer = rtu.frame(1, b"\x02\x01\x01")
    found.wire = lambda after_s, data: [(after_s, data[:3])]
    found.run(0.02)
    found.engine.start(found.now)
    found.wire = lambda after_s, data: [(after_s, data)]
    found.engine.receive(answer[3:], found.now)
    assert found.observed("door") == []
    found.run(5)
    assert changes_of(found) == ["new"]


# writes


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


# the store


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


@BOTH
def test_a_connection_out_of_step_is_given_up(driver: str) -> None:
    found, _ = open_world(driver)
    found.run(1)
    found.engine.receive(b"\x00\x01\x00\x07\x00\x06\x01\x02\x00\x00", found.now)
    assert found.engine.broken == (driver == "tcp")
    if driver == "tcp":
        assert found.engine.deadline() is None
        found.engine.start(found.now)
        assert not found.engine.broken


@BOTH
def test_a_tcp_connection_on_which_nothing_comes_is_called_stale(driver: str) -> None:
    found, unit = open_world(driver)
    found.run(5)
    assert not found.engine.stale
    unit.misbehaviour = Misbehaviour.SILENT
    found.run(3 * STALE_S)
    assert found.engine.stale == (driver == "tcp")


def test_a_bus_without_points_does_nothing() -> None:
    engine = ModbusBus(serial_bus([Unit(id="u1", unit=1)]), Remembered())
    engine.start(Instant(monotonic=0.0))
    assert engine.deadline() is None
    assert engine.to_send() == b""
    assert engine.observations() == []


# whatever the wire does


@settings(max_examples=40)
@given(data=st.data(), driver=st.sampled_from(["rtu", "tcp"]))
def test_a_bad_wire_never_brings_a_level_that_no_unit_had(
    data: st.DataObject, driver: str
) -> None:
    """Late, lost, cut, doubled, garbled answers of two units that never agree."""
    units = [
        Unit(
            id=f"u{n}",
            unit=n,
            period_s=0.3,
            point=(contact(f"b{n}"), contact(f"r{n}", table="holding", threshold=100)),
        )
        for n in (1, 2)
    ]
    far = [
        SimulatedUnit(unit=1, holding_registers=[10] * 4),
        SimulatedUnit(unit=2, discrete_inputs=[True] * 4, holding_registers=[200] * 4),
    ]
    config = (
        tcp_bus(units, timeout_ms=100)
        if driver == "tcp"
        else serial_bus(units, timeout_ms=100, late_window_ms=100)
    )
    found = World(config, far)
    fates = st.sampled_from(["good", "late", "lost", "cut", "twice", "noise", "flipped", "split"])

    def bad_wire(after_s: float, answer: bytes) -> list[tuple[float, bytes]]:
        fate = data.draw(fates)
        if fate == "late":
            return [(data.draw(st.floats(0.09, 0.19)), answer)]
        if fate == "lost":
            return []
        if fate == "cut" and driver == "rtu":
            return [(after_s, answer[: data.draw(st.integers(0, len(answer) - 1))])]
        if fate == "twice":
            return [(after_s, answer), (after_s + 0.0005, answer)]
        if fate == "noise" and driver == "rtu":
            return [(after_s, data.draw(st.binary(max_size=8)) + answer)]
        if fate == "flipped" and driver == "rtu":
            place = data.draw(st.integers(0, len(answer) - 1))
            flipped = bytes((answer[place] ^ 1 << data.draw(st.integers(0, 7)),))
            return [(after_s, answer[:place] + flipped + answer[place + 1 :])]
        if fate == "split":
            cut = data.draw(st.integers(0, len(answer)))
            return [(after_s, answer[:cut]), (after_s + 0.01, answer[cut:])]
        return [(after_s, answer)]

    found.wire = bad_wire
    found.run(4)
    found.wire = lambda after_s, answer: [(after_s, answer)]
    found.run(61)
    assert changes_of(found, "b1") == []
    assert changes_of(found, "r1") == []
    assert changes_of(found, "b2") == ["new"]
    assert changes_of(found, "r2") == ["new"]
    for unit in (1, 2):
        told = [each.qualifier for each in found.observed(f"bus/u{unit}")]
        assert told == ["new", "restore"] * (len(told) // 2)


@given(junk=st.lists(st.tuples(st.floats(0, 3), st.binary(max_size=300)), max_size=20))
def test_junk_on_the_line_never_raises_and_is_survived(
    junk: list[tuple[float, bytes]],
) -> None:
    found, unit = open_world()
    for after_s, data in junk:
        found.hears(100 + after_s, data)
    unit.discrete_inputs[0] = True
    found.run(70)
    assert changes_of(found) == ["new"]
