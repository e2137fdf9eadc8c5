"""Real sockets on the loopback, real keys, real time with the promised deadline as the limit."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import zmq

from buffer.clock import SystemClock
from events.chain import genesis
from events.commands import Asked, Outcome, Told, Verdict
from events.model import Stamp
from events.replication import HOLD_S, Hello, Lane, LogHead
from sync.peers import Notice, Path, PathChange, Rewound, Station
from sync.zmq_sink import Hub
from sync.zmq_source import Uplink
from tests.sync.fakes import ListLedger, ListLog, OneLog

NAMED_S = 10.0  # every fault of a connection is named within it


def new_keys() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


class BootClock(SystemClock):
    """The real clock of a machine that was started as often as the test says."""

    def __init__(self, boot_id: str) -> None:
        super().__init__()
        self._boot_id = boot_id

    @property
    def boot_id(self) -> str:
        return self._boot_id


@dataclass
class Bench:
    """One station and the keys of one gateway. Names of tests say what happens to them."""

    ledger: ListLedger = field(default_factory=ListLedger)
    log: ListLog = field(default_factory=ListLog)
    allowed: dict[str, str] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    changes: list[PathChange] = field(default_factory=list)
    rewound: list[Rewound] = field(default_factory=list)
    address: str = "127.0.0.1:0"
    paths: dict[str, str] = field(default_factory=dict)
    periods: dict[str, float] = field(default_factory=dict)
    boot_id: str = "boot"
    asked: list[Asked] = field(default_factory=list)
    told: list[tuple[str, Told]] = field(default_factory=list)
    stirred: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.station_public, self.station_secret = new_keys()
        self.gateway_public, self.gateway_secret = new_keys()
        self.allowed[self.gateway_public] = "building-1"
        self.ledger.changed = self.stirred.set

    def name_of(self, public_key: str) -> str | None:
        return self.allowed.get(public_key)

    def hub(self) -> Hub:
        return Hub(
            listen=self.address,
            secret_key=self.station_secret,
            name="station-1",
            program="test",
            ledger=self.ledger,
            allowed=self,
            clock=SystemClock(),
            on_notice=self._noticed,
            on_seen=lambda name, now: self.seen.__setitem__(name, now.monotonic),
            on_hello=lambda name, hello: None,
            on_told=lambda name, told: self.told.append((name, told)),
        )

    @asynccontextmanager
    async def station(self) -> AsyncIterator[Hub]:
        hub = self.hub()
        async with running(hub.run()):
            await hub.listening.wait()
            self.address = hub.address
            yield hub

    @asynccontextmanager
    async def gateway(
        self,
        *,
        log: ListLog | None = None,
        station_key: str = "",
        next_key: str = "",
        address: str = "",
        others: Sequence[Station] = (),
        **given: str,
    ) -> AsyncIterator[Uplink]:
        station = replace(
            self.as_station("station-1", address),
            public_key=station_key or self.station_public,
            next_key=next_key,
        )
        uplink = Uplink(
            [station, *others],
            log=log or self.log,
            clock=BootClock(given.get("boot_id", self.boot_id)),
            secret_key=given.get("secret", self.gateway_secret),
            name=given.get("name", "building-1"),
            program="test",
            on_fault=self._changed,
            on_rewound=self.rewound.append,
            on_asked=self._answer,
        )
        async with running(uplink.run()):
            yield uplink

    def as_station(self, name: str, address: str = "") -> Station:
        """Return this station as a gateway's configuration names it."""
        paths = self.paths or {"lan": address or self.address}
        return Station(
            name=name,
            public_key=self.station_public,
            paths=tuple(
                Path(name=path, address=where, period_s=self.periods.get(path, HOLD_S))
                for path, where in paths.items()
            ),
        )

    async def until(self, true: Callable[[], bool], limit_s: float = NAMED_S) -> None:
        """Wait until something is true; the limit is the promise under test."""
        async with asyncio.timeout(limit_s):
            while not true():
                self.stirred.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self.stirred.wait()

    def holds(self, log: OneLog | None = None, gateway: str = "building-1") -> bool:
        """Tell whether the ledger holds every event of a log, once."""
        log = log or self.log.logs[0]
        numbers = sorted(self.ledger.held(gateway).numbers(log.log_id))
        return numbers == list(range(1, len(log.rows) + 1))

    def noticed(self, reason: str) -> list[Notice]:
        return [notice for notice in self.notices if notice.reason == reason]

    def faults(self) -> list[str]:
        return [change.fault for change in self.changes if not change.up]

    def _answer(self, station: str, asked: Asked, tell: Callable[[Told], None]) -> None:
        self.asked.append(asked)
        tell(Outcome(command_id="c1", verdict=Verdict.APPLIED, text=station))

    def _noticed(self, notice: Notice) -> None:
        self.notices.append(notice)
        self.stirred.set()

    def _changed(self, change: PathChange) -> None:
        self.changes.append(change)
        self.stirred.set()


@asynccontextmanager
async def running(work: Awaitable[Any]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:

        async def run() -> None:
            await work

        task = tasks.create_task(run())
        try:
            yield
        finally:
            task.cancel()


def open_descriptors() -> int:
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


def path_up(uplink: Uplink) -> bool:
    return all(path["up"] for station in uplink.status() for path in station["paths"])


@asynccontextmanager
async def raw_client(bench: Bench) -> AsyncIterator[Callable[[bytes], None]]:
    """Somebody with an enrolled key and a program of their own."""
    public, secret = new_keys()
    bench.allowed[public] = "building-2"
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.curve_secretkey = secret.encode()
    socket.curve_publickey = public.encode()
    socket.curve_serverkey = bench.station_public.encode()
    socket.connect(bench.address)
    try:
        yield socket.send
    finally:
        socket.close()
        context.term()


def hello(**given: Any) -> Hello:
    fields: dict[str, Any] = {
        "protocol_min": 1,
        "protocol_max": 1,
        "program": "test",
        "name": "building-2",
        "boot_id": "boot",
        "lane": Lane.MAIN,
        "path": "lan",
        "logs": (LogHead(log_id="x", first=1, head=0, chain=genesis("x")),),
        "stamp": Stamp(monotonic_us=1, boot_id="boot"),
    }
    return Hello(**fields | given)


class StallingProxy:
    """A TCP relay that can swallow silently: nothing is refused, nothing arrives, no FIN."""

    def __init__(self, upstream: str) -> None:
        host, port = upstream.removeprefix("tcp://").split(":")
        self._upstream = (host, int(port))
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.address = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            relays: list[asyncio.Task[None]] = []

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                relays.append(tasks.create_task(self._relay(reader, writer)))

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            host, port = server.sockets[0].getsockname()
            self.address = f"{host}:{port}"
            try:
                yield
            finally:
                server.close()
                for relay in relays:
                    relay.cancel()

    def stall(self) -> None:
        self._flowing.clear()

    def heal(self) -> None:
        self._flowing.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._flowing.wait()
            to_reader, to_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, to_writer))
                tasks.create_task(self._pump(to_reader, writer))
        finally:
            writer.close()
            to_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()
