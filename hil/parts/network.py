"""A network that can be cut: a TCP proxy with faults, where there is no other machine to unplug."""

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Literal, Self

PIECE_BYTES = 65_536
CONNECTIONS_MAX = 256
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends RST

State = Literal["pass", "stall", "reset", "refuse"]


class Network:
    """Carry connections to `host:port`, as well as `state` lets it.

    pass: everything. stall: nothing, silently, in both directions and for new connections too: a
    cut cable or a dead radio link. reset: each connection is reset at once. refuse: open
    connections are reset, and new ones as soon as they are made.
    """

    def __init__(self, host: str, port: int) -> None:
        self.delay_s = 0.0
        self.rate_bytes_per_s = 0.0
        self.piece_bytes = PIECE_BYTES  # at most so many go on at once
        self.carried_bytes = 0
        self.connections = 0  # that were ever made
        self._far = (host, port)
        self._state: State = "pass"
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._server = None

    @property
    def port(self) -> int:
        if self._server is None:
            raise RuntimeError("the network is not up")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def state(self) -> State:
        return self._state

    def become(self, state: State) -> None:
        """Let the network be in `state` from now on."""
        self._state = state
        if state == "stall":
            self._open.clear()
        else:
            self._open.set()
        if state in ("reset", "refuse"):
            for writer in list(self._writers):
                _reset(writer)
        if state == "reset":
            self._state = "pass"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._writers) >= CONNECTIONS_MAX or self._state == "refuse":
            _reset(writer)
            return
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        except asyncio.CancelledError:
            if self._server is not None and self._server.is_serving():
                raise
        finally:
            self._tasks.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far_writer = None
        try:
            await self._open.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._far)
            self.connections += 1
            self._writers.add(far_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        except OSError:
            _reset(writer)
        finally:
            for each in filter(None, (writer, far_writer)):
                self._writers.discard(each)
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction to its end. A broken connection ends both."""
        with suppress(ConnectionError):
            while data := await reader.read(self.piece_bytes):
                await self._open.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
                self.carried_bytes += len(data)
                if self.rate_bytes_per_s:
                    await asyncio.sleep(len(data) / self.rate_bytes_per_s)
        await self._open.wait()  # through a cut cable no end of a connection is seen either
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    own: socket.socket | None = writer.get_extra_info("socket")
    if own is not None:
        with suppress(OSError):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def free_port() -> int:
    """Return a TCP port of this machine that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
