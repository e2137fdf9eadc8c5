"""The driver against other people's programs, and other people's master against our units."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hil.parts.network import free_port
from protocols.modbus.exchange import write_coil, write_register
from protocols.modbus.sections import Unit
from protocols.modbus.simulated import SimulatedUnit
from protocols.ports import SerialPort
from tests.protocols.drivers.modbus_rig import (
    SETTLE_S,
    Line,
    Run,
    Served,
    bus,
    cable,
    now,
    points,
    running,
    until,
)
from tests.protocols.modbus.world import contact

LIBMODBUS_HEADER = Path("/usr/include/modbus/modbus.h")


async def prove(run: Run) -> None:
    """Hold what the driver says against a unit with DI 0 set, input register 2 = 200."""
    await until(lambda: run.values("input") == [200])
    await until(lambda: run.qualifiers("gone", "fault") == ["new"])
    assert run.qualifiers("di", "alarm") == ["new"]
    assert run.qualifiers("quiet", "alarm") == []
    assert run.qualifiers("coil", "alarm") == []
    engine = run.driver.bus
    engine.write(write_coil(7, 2, True), now())
    engine.write(write_register(7, 3, 1000), now())
    await until(lambda: run.qualifiers("coil", "alarm") == ["new"])
    await until(lambda: run.qualifiers("number", "alarm") == ["new"])
    engine.write(write_coil(7, 2, False), now())
    engine.write(write_register(7, 3, 989), now())
    await until(lambda: run.qualifiers("coil", "alarm") == ["new", "restore"])
    await until(lambda: run.qualifiers("number", "alarm") == ["new", "restore"])
    assert {str(each.verdict) for each in engine.written()} == {"applied"}
    health = run.driver.health()
    assert health.up
    assert health.units["u7"]["answering"] is True
    assert health.counters["timeouts"] == 0
    assert health.counters["answers"] > 10
    assert run.qualifiers("bus/u7", "fault") == []


# pymodbus


def sim_device(unit: int) -> SimDevice:
    return SimDevice(
        unit,
        simdata=(
            [SimData(0, count=16, values=False, datatype=DataType.BITS)],
            [SimData(0, count=16, values=[True, False] * 15, datatype=DataType.BITS)],
            [SimData(0, count=16, values=0, datatype=DataType.REGISTERS)],
            [SimData(2, values=200, datatype=DataType.REGISTERS)],
        ),
    )


def test_the_driver_reads_and_writes_a_pymodbus_server_over_tcp() -> None:
    async def scenario() -> None:
        port = free_port()
        server = ModbusTcpServer([sim_device(7)], address=("127.0.0.1", port))
        await server.serve_forever(background=True)
        try:
            async with running(bus(f"127.0.0.1:{port}")) as run:
                await prove(run)
        finally:
            await asyncio.sleep(SETTLE_S)
            await server.shutdown()  # type: ignore[no-untyped-call]  # pymodbus gives it no type

    asyncio.run(scenario())


class Silent(dict[int, Any]):
    """Devices of a server that is silent for units it has not, as a real bus is."""

    def __missing__(self, unit: int) -> Any:
        raise NoSuchIdException(str(unit))


def test_the_driver_reads_and_writes_a_pymodbus_server_on_a_serial_line() -> None:
    async def scenario() -> None:
        async with cable() as line:
            server = ModbusSerialServer(
                [sim_device(7)], port=line.ends[1], baudrate=19200, ignore_missing_devices=True
            )
            context: Any = server.context
            context.devices = Silent(context.devices)
            await server.serve_forever(background=True)
            units = (
                Unit(id="u7", unit=7, period_s=0.1, point=points()),
                Unit(id="u8", unit=8, point=(contact("absent"),)),
            )
            config = bus(SerialPort(path=line.ends[0], baud=19200), units, timeout_ms=100)
            try:
                async with running(config) as run:
                    await until(lambda: run.qualifiers("bus/u8", "fault") == ["new"])
                    await until(lambda: run.values("input") == [200])
                    assert run.qualifiers("di", "alarm") == ["new"]
                    assert run.qualifiers("absent", "alarm") == []
                    assert run.driver.health().units["u8"]["answering"] is False
            finally:
                await server.shutdown()  # type: ignore[no-untyped-call]  # as above

    asyncio.run(scenario())


# libmodbus


@pytest.fixture(scope="module")
def slave(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not LIBMODBUS_HEADER.exists():
        pytest.skip("needs libmodbus-dev; see requirements/debian-test.txt")
    program = tmp_path_factory.mktemp("slave") / "modbus_slave"
    source = Path(__file__).with_name("modbus_slave.c")
    include = LIBMODBUS_HEADER.parent
    subprocess.run(
        ["gcc", "-O1", f"-I{include}", str(source), "-lmodbus", "-o", str(program)],
        check=True,
        capture_output=True,
    )
    return program


@contextlib.contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


@pytest.mark.needs("gcc")
def test_the_driver_reads_and_writes_a_libmodbus_slave_over_tcp(slave: Path) -> None:
    async def scenario() -> None:
        port = free_port()
        with process(str(slave), "tcp", str(port)):
            async with running(bus(f"tcp://127.0.0.1:{port}")) as run:
                await prove(run)

    asyncio.run(scenario())


@pytest.mark.needs("gcc")
def test_the_driver_reads_and_writes_a_libmodbus_slave_on_a_serial_line(slave: Path) -> None:
    async def scenario() -> None:
        async with cable() as line:
            with process(str(slave), "rtu", line.ends[1], "115200", "7"):
                async with running(bus(SerialPort(path=line.ends[0], baud=115_200))) as run:
                    await prove(run)

    asyncio.run(scenario())


# mbpoll, which is libmodbus as master, against our own simulated units


async def mbpoll(*arguments: str) -> str:
    program = shutil.which("mbpoll")
    assert program is not None
    started = await asyncio.create_subprocess_exec(
        program, "-1", "-q", *arguments, stdout=asyncio.subprocess.PIPE, stderr=-2
    )
    output, _ = await started.communicate()
    return output.decode()


@pytest.mark.needs("mbpoll")
def test_mbpoll_reads_and_writes_a_simulated_unit_over_tcp() -> None:
    async def scenario() -> None:
        port = free_port()
        unit = SimulatedUnit(unit=7, input_registers=[0, 251, 65336], discrete_inputs=[True] * 9)
        async with Served([unit]).tcp(port):
            where = ("-m", "tcp", "-a", "7", "-p", str(port), "127.0.0.1")
            out = await mbpoll("-t", "3", "-r", "2", "-c", "2", *where)
            assert "251" in out
            assert "65336" in out
            assert (await mbpoll("-t", "1", "-r", "1", "-c", "9", *where)).count("1\n") == 9
            assert "Written" in await mbpoll("-t", "4", "-r", "3", *where, "1234")
            assert unit.holding_registers[2] == 1234
            assert "Written" in await mbpoll("-t", "0", "-r", "2", *where, "1", "0", "1")
            assert unit.coils[:4] == [False, True, False, True]
            assert "Illegal data address" in await mbpoll("-t", "4", "-r", "999", *where)

    asyncio.run(scenario())


@pytest.mark.needs("mbpoll")
def test_mbpoll_reads_a_simulated_unit_on_a_serial_line_and_misses_an_absent_one() -> None:
    async def scenario() -> None:
        line = Line()
        try:
            Served([SimulatedUnit(unit=7, holding_registers=[42] * 4)]).serial(line.masters[0])
            where = ("-m", "rtu", "-b", "9600", "-P", "none", "-t", "4", "-r", "1", line.ends[0])
            assert (await mbpoll("-a", "7", "-c", "4", *where)).count("42") == 4
            assert "timed out" in await mbpoll("-a", "8", "-o", "0.2", *where)
        finally:
            line.close()

    asyncio.run(scenario())
