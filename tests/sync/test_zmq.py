"""Real sockets on the loopback, real keys, real time with the promised deadline as the limit."""

import asyncio
import contextlib
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
from sync.keys import public_of
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
