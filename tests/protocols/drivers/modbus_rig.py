"""A Modbus driver that runs, simulated units that are served, and cables between pseudo-terminals."""

import asyncio
import contextlib
import os
import time
import tty
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from events.model import Instant, Observation
from protocols.drivers.base import Context, Report
from protocols.drivers.modbus import ModbusDriver
from protocols.modbus.sections import Bus, Point, Unit
from protocols.modbus.simulated import SimulatedBus, SimulatedUnit
from protocols.ports import SerialPort
from tests.protocols.modbus.world import Remembered, contact

SETTLE_S = 0.05  # for the other side of a closed connection to notice


def now() -> Instant:
    return Instant(monotonic=time.monotonic())


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
