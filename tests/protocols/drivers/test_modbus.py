"""The driver against other people's programs, and other people's master against our units."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import time
import tty
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from events.errors import LinkLost, StoreFull
from events.model import Instant, Observation
from protocols.drivers.base import Context, Report
from protocols.drivers.modbus import ModbusDriver
from protocols.modbus.exchange import write_coil, write_register
from protocols.modbus.sections import Bus, Point, Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedBus, SimulatedUnit
from protocols.ports import SerialPort
from tests.protocols.modbus.world import Remembered, contact

SETTLE_S = 0.05  # for the other side of a closed connection to notice
LIBMODBUS_HEADER = Path("/usr/include/modbus/modbus.h")


def now() -> Instant:
    return Instant(monotonic=time.monotonic())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other people's programs set no event
            await asyncio.sleep(0.01)


class Line:
    """A cable between two pseudo-terminals; `ends` are the paths to open."""

    def __init__(self) -> None:
        pairs = [os.openpty() for _ in range(2)]
        self._fds = [fd for pair in pairs for fd in pair]
        for _, slave in pairs:
            tty.setraw(slave)
        self.ends = [os.ttyname(slave) for _, slave in pairs]
        self.masters = [master for master, _ in pairs]
        for master in self.masters:
            os.set_blocking(master, False)

    def join(self) -> None:
        loop = asyncio.get_running_loop()
        for here, there in (self.masters, self.masters[::-1]):
            loop.add_reader(here, self._copy, here, there)

    def close(self) -> None:
        loop = asyncio.get_running_loop()
        for master in self.masters:
            loop.remove_reader(master)
        for fd in self._fds:
            os.close(fd)

    @staticmethod
    def _copy(here: int, there: int) -> None:
        with contextlib.suppress(OSError):
            os.write(there, os.read(here, 4096))


@contextlib.asynccontextmanager
async def cable() -> AsyncIterator[Line]:
    line = Line()
    line.join()
    try:
        yield line
    finally:
        line.close()


class Run:
    """A driver that runs, and what it reported."""

    def __init__(self, driver: ModbusDriver) -> None:
        self.driver = driver
        self.seen: list[Observation] = []

    def qualifiers(self, point: str, kind: str) -> list[str]:
        return [seen.qualifier for seen in self.seen if (seen.point, seen.kind) == (point, kind)]

    def values(self, point: str) -> list[Any]:
        return [
            seen.value for seen in self.seen if seen.point == point and seen.subkind != "unwatched"
        ]

    async def report(self, observations: Sequence[Observation]) -> None:
        self.seen += observations


@contextlib.asynccontextmanager
async def running(config: Bus, report: Report | None = None) -> AsyncIterator[Run]:
    driver = ModbusDriver(config, Context(clock=now, memory=Remembered()))
    run = Run(driver)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(driver.run(report or run.report))
        try:
            yield run
        finally:
            task.cancel()


def points() -> tuple[Point, ...]:
    return (
        contact("di", table="discrete", address=0),
        contact("quiet", table="discrete", address=1),
        contact("coil", table="coil", address=2),
        contact("number", table="holding", address=3, threshold=1000, hysteresis=10),
        contact("input", table="input", address=2, kind="measurement", subkind="level"),
        contact("gone", table="input", address=40),
    )


def bus(where: str | SerialPort, units: tuple[Unit, ...] | None = None, **more: Any) -> Bus:
    units = units or (Unit(id="u7", unit=7, period_s=0.05, point=points()),)
    place: dict[str, Any] = (
        {"driver": "modbus-tcp", "address": where}
        if isinstance(where, str)
        else {"driver": "modbus-rtu", "port": where}
    )
    return Bus(id="bus", unit=units, **{"timeout_ms": 300, **place, **more})


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


class Served:
    """Simulated units behind a TCP port, or at the far end of a pseudo-terminal."""

    def __init__(self, units: list[SimulatedUnit]) -> None:
        self.units = units
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far = SimulatedBus(self.units, tcp=True)
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while not far.broken and (data := await reader.read(4096)):
                for reply in far.receive(data, time.monotonic()):
                    await asyncio.sleep(reply.after_s)
                    writer.write(reply.data)
        writer.close()

    @contextlib.asynccontextmanager
    async def tcp(self, port: int) -> AsyncIterator[None]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()
            self.hang_up()
            await asyncio.sleep(SETTLE_S)

    def serial(self, master: int) -> None:
        far = SimulatedBus(self.units)
        loop = asyncio.get_running_loop()

        def hear() -> None:
            with contextlib.suppress(OSError):
                for reply in far.receive(os.read(master, 4096), time.monotonic()):
                    loop.call_later(reply.after_s, os.write, master, reply.data)

        loop.add_reader(master, hear)


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


# the driver's own promises


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
