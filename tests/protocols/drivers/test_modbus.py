"""The driver's own promises: lost links, refused changes, deaf and strange peers."""

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from events.errors import LinkLost, StoreFull
from events.model import Observation
from hil.parts.network import free_port
from protocols.drivers.base import Context, Report
from protocols.drivers.modbus import ModbusDriver
from protocols.modbus.sections import Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedUnit
from protocols.ports import SerialPort
from tests.protocols.drivers.modbus_rig import (
    SETTLE_S,
    Line,
    Run,
    Served,
    bus,
    now,
    points,
    running,
    until,
)
from tests.protocols.modbus.world import Remembered


async def is_lost(driver: ModbusDriver, report: Report) -> LinkLost | None:
    try:
        await driver.run(report)
    except LinkLost as error:
        return error
    return None


def test_a_connection_that_ends_is_a_lost_link_and_the_next_run_repeats_nothing() -> None:
    async def scenario() -> None:
        port = free_port()
        unit = SimulatedUnit(unit=7, input_registers=[0, 0, 200], discrete_inputs=[True, False])
        served = Served([unit])
        two = (Unit(id="u7", unit=7, period_s=0.05, point=points()[:2]),)
        config = bus(f"127.0.0.1:{port}", two)
        driver = ModbusDriver(config, Context(clock=now, memory=Remembered()))
        run = Run(driver)

        def says(expected: list[str]) -> bool:
            return run.qualifiers("quiet", "alarm") == expected

        refused = await is_lost(driver, run.report)
        assert refused is not None
        assert refused.hint
        for told in (["new"], ["new", "restore"]):
            async with served.tcp(port), asyncio.TaskGroup() as group:
                task = group.create_task(is_lost(driver, run.report))
                unit.discrete_inputs[1] = not unit.discrete_inputs[1]
                await until(partial(says, told))
                assert driver.health().up
                served.hang_up()
                assert await task is not None
            assert not driver.health().up
        assert run.qualifiers("di", "alarm") == ["new"]
        assert [seen.subkind for seen in run.seen].count("unwatched") == 2, "once per point"

    asyncio.run(scenario())


def test_a_store_that_refuses_gets_the_change_again_once_it_takes_it() -> None:
    async def scenario() -> None:
        port = free_port()
        served = Served([SimulatedUnit(unit=7, discrete_inputs=[True] * 2)])
        stored: list[Observation] = []
        refusals = 0

        async def report(observations: Sequence[Observation]) -> None:
            nonlocal refusals
            if refusals < 4:
                refusals += 1
                raise StoreFull("no room")
            stored.extend(observations)

        unit = Unit(id="u7", unit=7, period_s=0.05, point=points()[:2])
        async with served.tcp(port), running(bus(f"127.0.0.1:{port}", (unit,)), report):
            await until(lambda: sum(seen.kind == "alarm" for seen in stored) == 2)
        assert sorted(seen.point for seen in stored) == ["di", "di", "quiet", "quiet"]
        order = [seen.kind for seen in stored if seen.point == "di"]
        assert order == ["information", "alarm"], "in order, although both were refused before"

    asyncio.run(scenario())


def test_a_bus_that_is_not_polled_for_want_of_a_store_is_not_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocols.modbus.outbox.WAITING_MAX", 1)

    async def scenario() -> None:
        port = free_port()
        served = Served([SimulatedUnit(unit=7, discrete_inputs=[True])])
        writes = asyncio.Event()

        async def report(observations: Sequence[Observation]) -> None:
            if observations[0].kind == "alarm":
                await writes.wait()
                return
            raise StoreFull("no room")

        unit = Unit(id="u7", unit=7, period_s=0.05, point=points()[:1])
        async with served.tcp(port), running(bus(f"127.0.0.1:{port}", (unit,)), report) as run:
            await until(lambda: "not_polling" in run.driver.health().details)
            assert not run.driver.health().up
            writes.set()
            await until(lambda: run.driver.health().up)
            assert "not_polling" not in run.driver.health().details

    asyncio.run(scenario())


def test_a_peer_that_speaks_something_else_is_named() -> None:
    async def scenario() -> None:
        async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await reader.read()
            writer.close()

        port = free_port()
        server = await asyncio.start_server(web, "127.0.0.1", port)
        driver = ModbusDriver(bus(f"127.0.0.1:{port}"), Context(clock=now, memory=Remembered()))
        error = await is_lost(driver, Run(driver).report)
        server.close()
        await asyncio.sleep(SETTLE_S)
        assert error is not None
        assert "Modbus TCP" in str(error)
        assert error.hint

    asyncio.run(scenario())


def test_a_deaf_connection_is_replaced_without_losing_the_link(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protocols.modbus.bus.STALE_S", 0.3)

    async def scenario() -> None:
        port = free_port()
        unit = SimulatedUnit(unit=7, misbehaviour=Misbehaviour.SILENT)
        served = Served([unit])
        async with served.tcp(port), running(bus(f"127.0.0.1:{port}", timeout_ms=100)) as run:
            await until(lambda: served.connections >= 3)
            unit.misbehaviour = None
            await until(lambda: run.qualifiers("bus/u7", "fault") == ["new", "restore"])
            assert run.driver.health().counters["reconnects"] >= 2

    asyncio.run(scenario())


def test_an_unplugged_serial_port_is_a_lost_link() -> None:
    async def scenario() -> None:
        line = Line()
        Served([SimulatedUnit(unit=7)]).serial(line.masters[0])
        config = bus(SerialPort(path=line.ends[0]))
        driver = ModbusDriver(config, Context(clock=now, memory=Remembered()))
        async with asyncio.TaskGroup() as group:
            task = group.create_task(is_lost(driver, Run(driver).report))
            await until(lambda: driver.health().counters["answers"] > 0)
            line.close()
            assert await task is not None

    asyncio.run(scenario())
