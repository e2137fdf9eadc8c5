"""What a gateway costs: start to first scan, memory and processor under a steady polling load."""

import asyncio
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from pymodbus.client import AsyncModbusTcpClient

from hil.parts.programs import Program
from protocols.modbus.simulated import SimulatedBus, SimulatedUnit
from tests.benchmarks.site import Site, running

UNITS = 8
POINTS = 8
PERIOD_S = 0.2


class Module:
    """Eight units of eight registers behind one TCP port; knows when it was first asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.first_asked: float | None = None
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Module":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bus = SimulatedBus([SimulatedUnit(unit=number + 1) for number in range(UNITS)], tcp=True)
        with suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(4096):
                self.first_asked = self.first_asked or time.monotonic()
                for reply in bus.receive(data, time.monotonic()):
                    self.asked += 1
                    writer.write(reply.data)
        writer.close()


def sections(port: int) -> str:
    text = f'[[bus]]\nid = "field"\ndriver = "modbus-tcp"\naddress = "127.0.0.1:{port}"\n'
    for unit in range(UNITS):
        text += f'[[bus.unit]]\nid = "u{unit}"\nunit = {unit + 1}\n'
        for point in range(POINTS):
            text += (
                f'[[bus.unit.point]]\nid = "u{unit}/p{point}"\ntable = "discrete"\n'
                f'address = {point}\nkind = "alarm"\nsubkind = "smoke"\nperiod_s = {PERIOD_S}\n'
            )
    return text


async def first_scan(count: int) -> list[float]:
    """Return seconds from starting the process to its first question on the bus."""
    result = []
    for _ in range(count):
        with tempfile.TemporaryDirectory() as name:
            async with Module() as module:
                site = Site(Path(name))
                await site.prepare(sections(module.port))
                started = time.monotonic()
                async with site.gateway() as gateway:
                    while module.first_asked is None:
                        if time.monotonic() > started + 20:
                            raise RuntimeError(gateway.last_words(20))
                        await asyncio.sleep(0.002)
                    result.append(module.first_asked - started)
    return result


async def polling(seconds: float) -> dict[str, float]:
    """Return the gateway's resident bytes and share of a core while it polls, and its rate."""
    with tempfile.TemporaryDirectory() as name:
        async with Module() as module:
            site = Site(Path(name))
            await site.prepare(sections(module.port))
            async with running(site) as (_, gateway):
                return await _watch(_product(gateway), module, seconds)


async def peer_polling(seconds: float) -> dict[str, float]:
    """Return the same of pymodbus' own client that only reads, in this process."""
    async with Module() as module:
        client = AsyncModbusTcpClient("127.0.0.1", port=module.port)
        await client.connect()

        async def read(unit: int) -> None:
            while True:
                due = time.monotonic() + PERIOD_S
                await client.read_discrete_inputs(0, count=POINTS, device_id=unit)
                await asyncio.sleep(max(0.0, due - time.monotonic()))

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read(unit + 1)) for unit in range(UNITS)]
            result = await _watch(psutil.Process(), module, seconds)
            for task in tasks:
                task.cancel()
        client.close()
        return result


def _product(program: Program) -> psutil.Process:
    return psutil.Process(program.pid)


async def _watch(process: psutil.Process, module: Module, seconds: float) -> dict[str, float]:
    await asyncio.sleep(2.0)
    times, asked, started = process.cpu_times(), module.asked, time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - started
    now = process.cpu_times()
    return {
        "resident_bytes": float(process.memory_info().rss),
        "core": (now.user + now.system - times.user - times.system) / elapsed,
        "rate": (module.asked - asked) / elapsed,
    }
