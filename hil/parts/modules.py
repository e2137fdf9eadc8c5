"""Polled input modules: simulated Modbus units on a port or behind TCP, with a journal of answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from hil.parts.journal import Journal
from hil.parts.line import Port
from protocols.modbus.simulated import Entry, SimulatedBus, SimulatedUnit

READ_BYTES = 4096
READ_DISCRETE_INPUTS = 0x02


class Modules:
    """Units whose discrete inputs are points.

    Its journal: `level` (point, on), an input changed; `answered` (point, on), the bytes of an
    answer that says so went onto the line; `read_s` is when the unit took the level for it. A level
    may change in between, and the answer still tells of the one before.
    """

    def __init__(self, inputs: Mapping[int, Mapping[int, str]], journal: Journal) -> None:
        """Take the point of each unit's addresses."""
        self.journal = journal
        self.units = {number: SimulatedUnit(unit=number) for number in inputs}
        self._inputs = inputs
        self._places = {
            point: (self.units[number], address)
            for number, points in inputs.items()
            for address, point in points.items()
        }
        self._answered_s = dict.fromkeys(self._places, 0.0)
        for point in self._places:
            journal.note("level", point=point, on=False)

    def on(self, point: str) -> bool:
        unit, address = self._places[point]
        return unit.discrete_inputs[address]

    def set(self, point: str, *, on: bool) -> None:
        """Let an input be on or off. Setting it to what it is does nothing."""
        if self.on(point) != on:
            unit, address = self._places[point]
            unit.discrete_inputs[address] = on
            self.journal.note("level", point=point, on=on)

    def answered_since(self, since_s: float) -> bool:
        """Tell whether every point has been answered after this monotonic second."""
        return all(at_s > since_s for at_s in self._answered_s.values())

    def hear(self, bus: SimulatedBus, data: bytes, send: Callable[[bytes], None]) -> None:
        """Take bytes from a master; answer after the time that a unit takes."""
        known = {number: len(unit.journal) for number, unit in self.units.items()}
        read_s = time.monotonic()
        replies = bus.receive(data, read_s)
        served = [
            (unit.unit, entry)
            for unit in self.units.values()
            for entry in list(unit.journal)[known[unit.unit] :]
        ]
        loop = asyncio.get_running_loop()
        for reply in replies:
            loop.call_later(reply.after_s, send, reply.data)
        if replies:
            loop.call_later(
                max(reply.after_s for reply in replies), self._answered, served, read_s
            )

    def _answered(self, served: list[tuple[int, Entry]], read_s: float) -> None:
        for number, entry in served:
            response = entry.response
            if entry.request.fc != READ_DISCRETE_INPUTS or response is None or not response.bits:
                continue
            for index, on in enumerate(response.bits[: entry.request.count or 0]):
                point = self._inputs[number].get((entry.request.address or 0) + index)
                if point is not None:
                    noted = self.journal.note("answered", point=point, on=bool(on), read_s=read_s)
                    self._answered_s[point] = noted.at_s


@asynccontextmanager
async def serve_rtu(modules: Modules, link: Path) -> AsyncIterator[Port]:
    """Put the modules on a serial line that a master opens by `link`."""
    bus = SimulatedBus(modules.units.values())
    with Port(link) as port:
        port.received = lambda data: modules.hear(bus, data, port.send)
        yield port


@asynccontextmanager
async def serve_tcp(modules: Modules) -> AsyncIterator[int]:
    """Put the modules behind a TCP port of this machine; gives the port's number."""
    conversations: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bus = SimulatedBus(modules.units.values(), tcp=True)
        if (own := asyncio.current_task()) is not None:
            conversations.add(own)
            own.add_done_callback(conversations.discard)
        with suppress(ConnectionError, asyncio.CancelledError):
            while not bus.broken and (data := await reader.read(READ_BYTES)):
                modules.hear(bus, data, writer.write)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for conversation in conversations:
            conversation.cancel()
        if conversations:
            await asyncio.wait(conversations)
