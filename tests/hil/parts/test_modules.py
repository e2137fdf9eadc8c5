"""Somebody else's master at the near end: mbpoll where it is installed, pymodbus otherwise."""

import asyncio
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusTcpClient

from hil.parts.journal import Journal
from hil.parts.modules import Modules, serve_rtu, serve_tcp
from hil.parts.programs import answer
from hil.parts.waiting import until
from protocols.modbus.simulated import SimulatedBus

INPUTS = {1: {0: "smoke", 1: "call-point"}, 2: {3: "water"}}


def test_answers_are_written_down_with_what_they_said() -> None:
    async def run() -> Journal:
        journal = Journal("plant")
        modules = Modules(INPUTS, journal)
        async with serve_tcp(modules) as port:
            client = AsyncModbusTcpClient("127.0.0.1", port=port)
            await client.connect()
            read = await client.read_discrete_inputs(0, count=2, device_id=1)
            assert read.bits[:2] == [False, False]
            modules.set("call-point", on=True)
            read = await client.read_discrete_inputs(0, count=2, device_id=1)
            assert read.bits[:2] == [False, True]
            read = await client.read_discrete_inputs(3, count=1, device_id=2)
            assert read.bits[0] is False
            client.close()
        return journal

    journal = asyncio.run(run())
    said = [(e.event, e.point, e.on) for e in journal.entries[3:]]
    assert said == [
        ("answered", "smoke", False),
        ("answered", "call-point", False),
        ("level", "call-point", True),
        ("answered", "smoke", False),
        ("answered", "call-point", True),
        ("answered", "water", False),
    ]


def test_an_answer_that_leaves_after_a_change_tells_of_the_level_before_it() -> None:
    async def run() -> Journal:
        journal = Journal("plant")
        modules = Modules(INPUTS, journal)
        request = bytes.fromhex("000100000006010200000002")
        modules.hear(SimulatedBus(modules.units.values(), tcp=True), request, lambda data: None)
        modules.set("call-point", on=True)
        await until(lambda: bool(journal.of("answered")), within_s=5, what="the answer")
        return journal

    journal = asyncio.run(run())
    (change,) = [entry for entry in journal.of("level") if entry.on]
    (answer,) = journal.of("answered", point="call-point")
    assert answer.on is False
    assert answer.read_s is not None
    assert answer.read_s <= change.at_s <= answer.at_s


def test_it_is_known_when_every_point_was_answered() -> None:
    async def run() -> None:
        modules = Modules(INPUTS, Journal("plant"))
        async with serve_tcp(modules) as port:
            start_s = asyncio.get_running_loop().time()
            client = AsyncModbusTcpClient("127.0.0.1", port=port)
            await client.connect()
            await client.read_discrete_inputs(0, count=2, device_id=1)
            assert not modules.answered_since(start_s)
            await client.read_discrete_inputs(3, count=1, device_id=2)
            assert modules.answered_since(start_s)
            assert not modules.answered_since(asyncio.get_running_loop().time() + 1)
            client.close()

    asyncio.run(run())


def test_setting_an_input_to_what_it_is_is_no_change() -> None:
    journal = Journal("plant")
    modules = Modules(INPUTS, journal)
    modules.set("water", on=True)
    modules.set("water", on=True)
    assert modules.on("water")
    assert [e.on for e in journal.of("level", point="water")] == [False, True]


@pytest.mark.needs("mbpoll")
def test_another_master_reads_them_over_the_line(tmp_path: Path) -> None:
    async def run() -> tuple[int, bytes, Journal]:
        journal = Journal("bus")
        modules = Modules(INPUTS, journal)
        modules.set("water", on=True)
        link = tmp_path / "bus"
        async with serve_rtu(modules, link):
            command = f"mbpoll -m rtu -a 2 -b 19200 -P none -t 1 -r 4 -c 1 -1 -q {link}".split()
            status, out, _ = await answer(command)
            await until(lambda: bool(journal.of("answered")), within_s=5, what="the answer")
            return status, out, journal

    status, out, journal = asyncio.run(run())
    assert status == 0
    assert b"1" in out.split()
    assert [(e.point, e.on) for e in journal.of("answered")] == [("water", True)]
