"""The simulated bus behaves like units, keeps a true journal, and misbehaves only when told."""

import pytest

from protocols.modbus import rtu, tcp
from protocols.modbus.exchange import judge, read, write_coil, write_registers
from protocols.modbus.simulated import Misbehaviour, SimulatedBus, SimulatedUnit


def test_units_answer_what_is_theirs_and_are_silent_otherwise() -> None:
    unit = SimulatedUnit(unit=3, delay_s=0.02, input_registers=[7, 8])
    bus = SimulatedBus([unit])
    (reply,) = bus.receive(rtu.frame(3, read(3, 4, 0, 2).pdu), 1.0)
    assert reply.after_s == 0.02
    assert reply.data == rtu.frame(3, bytes.fromhex("040400070008"))
    assert bus.receive(rtu.frame(4, read(4, 4, 0, 2).pdu), 2.0) == []
    (refusal,) = bus.receive(rtu.frame(3, read(3, 4, 1, 2).pdu), 3.0)
    assert refusal.data == rtu.frame(3, bytes.fromhex("8402"))
    (unknown,) = bus.receive(rtu.frame(3, b"\x07"), 4.0)
    assert unknown.data == rtu.frame(3, bytes.fromhex("8701"))


def test_requests_may_come_in_pieces_and_half_ones_are_forgotten() -> None:
    bus = SimulatedBus([SimulatedUnit(unit=1)])
    request = rtu.frame(1, read(1, 3, 0, 1).pdu)
    assert bus.receive(request[:5], 1.0) == []
    assert len(bus.receive(request[5:], 1.01)) == 1
    assert bus.receive(request[:5], 2.0) == []
    assert len(bus.receive(request, 3.0)) == 1


def test_the_journal_says_what_was_answered() -> None:
    unit = SimulatedUnit(unit=1)
    bus = SimulatedBus([unit], tcp=True)

    def poll(at_s: float) -> None:
        bus.receive(tcp.frame(1, 1, read(1, 2, 0, 8).pdu), at_s)

    poll(1.0)
    unit.discrete_inputs[3] = True
    poll(2.0)
    poll(3.0)
    unit.discrete_inputs[3] = False
    unit.misbehaviour = Misbehaviour.SILENT
    poll(4.0)
    unit.misbehaviour = None
    poll(5.0)
    assert unit.levels(2, 3) == [False, True, False]
    assert unit.levels(2, 4) == [False]
    assert unit.levels(2, 8) == []
    assert [entry.response is None for entry in unit.journal] == [False] * 3 + [True, False]


def test_writes_take_effect_and_broadcasts_reach_everybody() -> None:
    units = [SimulatedUnit(unit=1), SimulatedUnit(unit=2)]
    bus = SimulatedBus(units)
    bus.receive(rtu.frame(1, write_registers(1, 2, [5, 6]).pdu), 1.0)
    assert units[0].holding_registers[2:4] == [5, 6]
    assert units[1].holding_registers[2:4] == [0, 0]
    assert bus.receive(rtu.frame(0, write_coil(0, 1, True).pdu), 2.0) == []
    assert [unit.coils[1] for unit in units] == [True, True]


@pytest.mark.parametrize("over_tcp", [False, True])
@pytest.mark.parametrize("wrong", Misbehaviour)
def test_a_misbehaving_unit_gives_what_no_master_may_take(
    wrong: Misbehaviour, over_tcp: bool
) -> None:
    unit = SimulatedUnit(unit=1, misbehaviour=wrong)
    bus = SimulatedBus([unit], tcp=over_tcp)
    request = read(1, 3, 0, 2)
    sent = tcp.frame(9, 1, request.pdu) if over_tcp else rtu.frame(1, request.pdu)
    data = b"".join(reply.data for reply in bus.receive(sent, 1.0))
    good = SimulatedBus([SimulatedUnit(unit=1)], tcp=over_tcp).receive(sent, 1.0)[0].data
    if wrong in {Misbehaviour.TWICE, Misbehaviour.NOISE_BEFORE, Misbehaviour.PREVIOUS}:
        assert good in data
        return
    assert data != good
    if over_tcp:
        adus = tcp.Reader().receive(data)
        assert not any(adu.transaction == 9 and judge(request, adu.unit, adu.pdu) for adu in adus)
    else:
        reader = rtu.AnswerReader()
        reader.expect(request, sent)
        assert reader.receive(data) is None


def test_a_broken_tcp_header_is_noticed() -> None:
    bus = SimulatedBus([SimulatedUnit(unit=1)], tcp=True)
    assert not bus.broken
    bus.receive(b"GET / HTTP/1.1\r\n", 1.0)
    assert bus.broken
