"""Real sockets on the loopback, real keys, real time with the promised deadline as the limit."""

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import zmq

from buffer.clock import SystemClock
from events.chain import genesis
from events.model import Stamp
from events.replication import MESSAGE_LENGTH_MAX, Hello, Lane, LogHead
from sync.messages import encode
from sync.peers import Notice, Path, PathChange, Station
from sync.zmq_loop import FRAME_LENGTH_MAX
from sync.zmq_sink import Hub
from sync.zmq_source import Uplink
from tests.sync.fakes import ListLedger, ListLog, OneLog

NAMED_S = 10.0  # every fault of a connection is named within it


def new_keys() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


@dataclass
class Bench:
    """One station and the keys of one gateway. Names of tests say what happens to them."""

    ledger: ListLedger = field(default_factory=ListLedger)
    log: ListLog = field(default_factory=ListLog)
    allowed: dict[str, str] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    changes: list[PathChange] = field(default_factory=list)
    address: str = "127.0.0.1:0"
    stirred: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.station_public, self.station_secret = new_keys()
        self.gateway_public, self.gateway_secret = new_keys()
        self.allowed[self.gateway_public] = "building-1"
        self.ledger.changed = self.stirred.set

    def name_of(self, public_key: str) -> str | None:
        return self.allowed.get(public_key)

    @asynccontextmanager
    async def station(self) -> AsyncIterator[Hub]:
        hub = Hub(
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
        )
        async with running(hub.run()):
            await hub.listening.wait()
            self.address = hub.address
            yield hub

    @asynccontextmanager
    async def gateway(
        self, *, log: ListLog | None = None, station_key: str = "", address: str = "", **given: str
    ) -> AsyncIterator[Uplink]:
        station = Station(
            name="station-1",
            public_key=station_key or self.station_public,
            paths=(Path(name="lan", address=address or self.address),),
        )
        uplink = Uplink(
            [station],
            log=log or self.log,
            clock=SystemClock(),
            secret_key=given.get("secret", self.gateway_secret),
            name=given.get("name", "building-1"),
            program="test",
            on_fault=self._changed,
        )
        async with running(uplink.run()):
            yield uplink

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


def test_events_are_in_the_ledger_and_acknowledged_on_both_lanes() -> None:
    async def scenario() -> None:
        bench = Bench()
        for n in range(1000):
            bench.log.append(b"before %d" % n, urgent=n % 10 == 0)
        async with bench.station(), bench.gateway() as uplink:
            await bench.until(bench.holds)
            alarm = bench.log.append(b"alarm", urgent=True)
            await bench.until(bench.holds)
            await bench.until(
                lambda: (
                    [uplink.status()[0][key] for key in ("stored", "urgent_stored")]
                    == [alarm.seq, alarm.seq]
                )
            )
            await bench.until(lambda: path_up(uplink))
        key = bench.station_public
        assert bench.log.acknowledged[key, "disk", Lane.MAIN] == 1001
        assert bench.log.acknowledged[key, "disk", Lane.URGENT] == 1001
        assert bench.notices == []
        assert "building-1" in bench.seen

    asyncio.run(scenario())


def test_a_key_that_nobody_enrolled_is_refused_and_named_on_both_sides() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.append(b"1")
        bench.allowed.clear()
        async with bench.station(), bench.gateway() as uplink:
            await bench.until(lambda: "key-refused" in bench.faults())
            assert [notice.key for notice in bench.noticed("key-refused")] == [
                bench.gateway_public
            ]
            assert uplink.status()[0]["paths"][0]["fault"] == "key-refused"
            assert bench.ledger.gateways == {}
            bench.allowed[bench.gateway_public] = "building-1"
            await bench.until(bench.holds)
            await bench.until(lambda: bench.changes[-1].up)

    asyncio.run(scenario())


def test_a_station_with_another_key_gets_nothing_and_is_named() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.append(b"1")
        async with bench.station(), bench.gateway(station_key=new_keys()[0]):
            await bench.until(lambda: "wrong-station-key" in bench.faults())
        assert bench.ledger.gateways == {}

    asyncio.run(scenario())


def test_a_station_that_is_not_there_is_named() -> None:
    async def scenario() -> None:
        bench = Bench(address="127.0.0.1:1")
        async with bench.gateway():
            await bench.until(lambda: "unreachable" in bench.faults())
        assert [change.station_up for change in bench.changes] == [False]

    asyncio.run(scenario())


def test_revoking_a_key_ends_a_live_connection_within_a_second() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub, bench.gateway():
            bench.log.append(b"1")
            await bench.until(bench.holds)
            del bench.allowed[bench.gateway_public]
            await bench.until(lambda: hub.status() == [], 1.0)
            bench.log.append(b"2")
            await bench.until(lambda: "key-refused" in bench.faults())
            assert bench.ledger.held("building-1").numbers("disk") == [1]
            assert bench.noticed("key-refused")[0].gateway == "building-1"

    asyncio.run(scenario())


def test_an_enrolled_gateway_cannot_speak_for_another() -> None:
    async def scenario() -> None:
        bench = Bench()
        other_public, other_secret = new_keys()
        bench.allowed[other_public] = "building-2"
        mine, forged = bench.log, ListLog(OneLog("forged"))
        mine.append(b"mine")
        forged.append(b"forged")
        async with bench.station(), bench.gateway():
            await bench.until(bench.holds)
            async with bench.gateway(log=forged, secret=other_secret, name="building-1"):
                await bench.until(lambda: "identity-refused" in bench.faults())
            mine.append(b"mine too")
            await bench.until(bench.holds)
        assert [notice.gateway for notice in bench.noticed("identity-refused")] == ["building-2"]
        assert bench.ledger.held("building-1").numbers("forged") == []
        assert bench.ledger.held("building-2").rows == {}

    asyncio.run(scenario())


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


def test_another_protocol_version_is_refused_by_name_whatever_else_it_says() -> None:
    async def scenario() -> None:
        bench = Bench()
        future = {"type": "hello", "protocol_min": 7, "protocol_max": 9, "unheard_of": True}
        async with bench.station(), raw_client(bench) as send:
            send(msgspec.msgpack.encode(future))
            await bench.until(lambda: bool(bench.noticed("version-mismatch")))
        assert bench.noticed("version-mismatch")[0].gateway == "building-2"

    asyncio.run(scenario())


def test_malformed_and_oversized_messages_disturb_nobody_else() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub, bench.gateway():
            bench.log.append(b"before")
            await bench.until(bench.holds)
            async with raw_client(bench) as send:
                for data in (b"", b"\xc1junk", b"\x81" * 5000, encode(hello())[:-3]):
                    send(data)
                await bench.until(lambda: bool(bench.noticed("malformed-message")))
                bench.notices.clear()
                hub._noticed.clear()
                send(bytes(MESSAGE_LENGTH_MAX + 1))
                await bench.until(lambda: bool(bench.noticed("malformed-message")))
                send(bytes(FRAME_LENGTH_MAX + 1))
                send(encode(hello(name="building-1")))
                bench.log.append(b"after")
                await bench.until(bench.holds)
                await asyncio.sleep(1)
                bench.log.append(b"long after", urgent=True)
                await bench.until(bench.holds)
            assert bench.noticed("malformed-message")[0].gateway == "building-2"
            assert bench.faults() == []
            assert {each["gateway"] for each in hub.status()} == {"building-1"}

    asyncio.run(scenario())


def test_a_restarted_station_goes_on_where_its_ledger_is() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station():
            pass  # found a free port
        async with bench.gateway():
            for n in range(5):
                async with bench.station():
                    bench.log.append(b"up %d" % n, urgent=n % 2 == 0)
                    await bench.until(bench.holds)
                bench.log.append(b"down %d" % n, urgent=n % 2 == 1)
            async with bench.station():
                await bench.until(bench.holds)
        assert bench.notices == []

    asyncio.run(scenario())


def test_a_ledger_that_cannot_write_loses_nothing_and_acknowledges_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station(), bench.gateway():
            bench.ledger.failing = True
            bench.log.append(b"1", urgent=True)
            await asyncio.sleep(1.5)
            assert bench.log.acknowledged == {}
            bench.ledger.failing = False
            await bench.until(bench.holds)

    asyncio.run(scenario())


def test_a_volatile_log_that_appears_is_read_and_acknowledged_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.append(b"on disk")
        async with bench.station(), bench.gateway():
            await bench.until(bench.holds)
            volatile = OneLog("memory", volatile=True)
            bench.log.logs.append(volatile)
            volatile.append(b"alarm", urgent=True)
            bench.log.stir()
            mark = (bench.station_public, "memory", Lane.URGENT)
            await bench.until(lambda: bench.log.acknowledged.get(mark) == 1, 1.0)
            bench.log.logs.remove(volatile)
            bench.log.append(b"again on disk", urgent=True)
            await bench.until(bench.holds, 1.0)

    asyncio.run(scenario())


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


def test_a_black_hole_is_named_in_time_and_swallows_nothing_for_good() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station():
            proxy = StallingProxy(bench.address)
            async with proxy.serve(), bench.gateway(address=proxy.address) as uplink:
                bench.log.append(b"before")
                await bench.until(bench.holds)
                await bench.until(lambda: path_up(uplink))
                await asyncio.sleep(2.5)
                proxy.stall()
                for n in range(20):
                    bench.log.append(b"into the hole %d" % n, urgent=n % 3 == 0)
                await bench.until(lambda: len(bench.faults()) > 0)
                assert not bench.holds()
                proxy.heal()
                await bench.until(bench.holds, 15.0)
                await bench.until(lambda: bench.changes[-1].up)
        assert bench.notices == []
        assert bench.ledger.held("building-1").gaps == []

    asyncio.run(scenario())


def test_a_frozen_station_program_is_named_although_its_socket_still_answers() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub, bench.gateway() as uplink:
            await bench.until(lambda: path_up(uplink))
            hub._receive = lambda line, tasks: None  # type: ignore[method-assign] # its loop is stuck
            hub._tick = lambda tasks, now: None  # type: ignore[method-assign] # likewise
            await bench.until(lambda: "station-silent" in bench.faults())

    asyncio.run(scenario())


def test_many_reconnects_leave_no_sockets_behind() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub:
            before = 0
            for n in range(30):
                async with bench.gateway():
                    bench.log.append(b"%d" % n)
                    await bench.until(bench.holds)
                if n == 5:
                    before = open_descriptors()
            assert open_descriptors() <= before + 4
            assert len(hub._routes) <= 4

    asyncio.run(scenario())
