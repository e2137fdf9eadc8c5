"""The bus owner on a bad wire: answers wrong, late, doubled, cut, of another, or none at all."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.modbus import rtu
from protocols.modbus.bus import STALE_S
from protocols.modbus.sections import Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedUnit
from tests.protocols.modbus.buses import BOTH, changes_of, open_world
from tests.protocols.modbus.world import World, contact, serial_bus, tcp_bus


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
