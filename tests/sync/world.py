"""A seeded world: real engines, a list for a log, a list for a ledger, and a bad network between.

Time is virtual. Everything random comes from the seed, so a failure is replayed by its number.
"""

import contextlib
import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from events.errors import StoreError
from events.kinds import Subkind
from events.model import Instant
from events.replication import HOLD_S, Lane
from sync.flight import Flight
from sync.peers import Notice
from sync.reading import Load, Lookup, Store, Work
from sync.rest import REST_MAX_S, Rest
from sync.sink import Sink, SinkState
from sync.source import ReadRequest, Source, SourceState
from sync.zmq_connections import Connection, Gateway
from tests.sync.fakes import ListLedger, ListLog, OneLog

GATEWAY = "building-1"
STATION = "station-1"
TICK_S = 0.3  # as the station's program looks at its connections
HEAL_S = 90.0  # a healed world has delivered everything by then


class Broken(AssertionError):  # noqa: N818 - what the world is, when a promise is
    """The world saw a promise broken."""


@dataclass
class Trouble:
    """How bad the network and the two programs are; probabilities for each message or second."""

    lose: float = 0.05
    double: float = 0.05
    late: float = 0.1  # overtaken by later ones
    cut: float = 0.03
    restart: float = 0.02
    restore: float = 0.01
    refuse: float = 0.1  # a commit or a reading fails
    hole: float = 0.03  # a path swallows everything for some seconds
    half: float = 0.05  # a commit is done, but nobody hears of it
    overtake: float = 0.05  # a commit comes to the ledger before the one before it


@dataclass
class Engines:
    """What is put under test; mutants replace one of them."""

    source: type[Source] = Source
    sink: type[Sink] = Sink
    ledger: type[ListLedger] = ListLedger


class Crowded(Rest):
    """Many other gateways send small batches as well."""

    def after(self, now: float) -> float:
        return REST_MAX_S


@dataclass
class Link:
    """One connection for one lane of one path, with its own two engines."""

    lane: Lane
    path: str
    source: Source
    connection: Connection
    alive: bool = True
    reading: ReadRequest | None = None
    busy_until: float = 0.0
    told_lost: bool = False

    @property
    def sink(self) -> Sink:
        return self.connection.sink


@dataclass
class World:
    seed: int
    trouble: Trouble = field(default_factory=Trouble)
    engines: Engines = field(default_factory=Engines)
    paths: tuple[str, ...] = ("lan",)
    periods: dict[str, float] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now_s = 1000.0
        self.log = ListLog(OneLog("disk"))
        self.ledger = self.engines.ledger()
        self.ever: set[tuple[str, int, bytes]] = set()
        self.backup = self.ledger.copy()
        self.gateway = Gateway(GATEWAY)
        self.flight = Flight()
        if self.seed % 3 == 0:
            self.flight.rest = Crowded()
        self.links: dict[tuple[Lane, str], Link] = {}
        self.calm = False
        self.dead: set[str] = set()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.boots = 0
        self.tick_at = self.now_s

    # --- time

    def now(self) -> Instant:
        return Instant(monotonic=self.now_s)

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now_s + delay_s, self._count, action))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; stop early when `until` is true."""
        end = self.now_s + seconds
        while not until():
            due = [self._queue[0][0]] if self._queue else []
            for link in self.links.values():
                due += [each for each in (link.source.deadline(), link.sink.deadline()) if each]
            step = min([*due, self.tick_at], default=end)
            if step > end:
                self.now_s = end
                return until()
            self.now_s = max(self.now_s, step)
            if self.now_s >= self.tick_at:
                self.tick_at = self.now_s + TICK_S
                for lane in Lane:
                    self.elect(lane)
            while self._queue and self._queue[0][0] <= self.now_s:
                heapq.heappop(self._queue)[2]()
            for link in list(self.links.values()):
                link.source.timeout(self.now())
                link.sink.timeout(self.now())
                self.serve(link)
        return True

    # --- the two programs

    def connect(self, lane: Lane, path: str) -> None:
        old = self.links.pop((lane, path), None)
        if old is not None:
            old.alive = False
        source = self.engines.source(
            name=GATEWAY,
            program="test",
            boot_id=f"boot-{self.boots}",
            lane=lane,
            path=path,
            rank=self.paths.index(path),
            period_s=self.periods.get(path, HOLD_S),
        )
        sink = self.engines.sink(
            gateway=GATEWAY,
            name=STATION,
            program="test",
            boot_id="station-boot",
            progress=self.gateway.progress,
            now=self.now(),
            flight=self.flight,
        )
        self._count += 1
        route = b"%d" % self._count
        connection = Connection(route, "key", GATEWAY, sink, self.now_s)
        self.gateway.connections[route] = connection
        link = self.links[lane, path] = Link(lane, path, source, connection)
        source.connect(self.log.heads(), self.now())
        self.serve(link)

    def connect_all(self) -> None:
        for path in self.paths:
            for lane in Lane:
                self.connect(lane, path)

    def drop(self, connection: Connection) -> None:
        """The station forgets a connection, and lets another carry its lane."""
        if self.gateway.connections.pop(connection.route, None) and connection.greeted:
            self.elect(connection.greeted.lane)

    def greeted(self, connection: Connection) -> None:
        hello = connection.sink.hello
        if hello is not None and hello is not connection.greeted:
            if connection.greeted is None:
                connection.since = self.now_s
            connection.greeted = hello
            for old in self.gateway.superseded(connection):
                self.drop(old)
            self.elect(hello.lane)

    def elect(self, lane: Lane) -> None:
        for each, active in self.gateway.to_activate(lane, self.now_s).items():
            each.sink.activate(self.now(), active=active)
            for link in list(self.links.values()):
                if link.connection is each:
                    self.serve(link)

    def restart_gateway(self) -> None:
        self.met["gateway restart"] += 1
        self.boots += 1
        self.connect_all()

    def restart_station(self) -> None:
        self.met["station restart"] += 1
        self.gateway = Gateway(GATEWAY)
        self.connect_all()

    def restore_ledger(self) -> None:
        """The station's disk is yesterday's backup."""
        self.met["ledger restored"] += 1
        self.ledger.restore(self.backup)
        self.restart_station()

    def append(self, *, urgent: bool) -> None:
        log = self.log.logs[0]
        body = b"%d:%d" % (self.seed, len(log.rows) + 1) + bytes(self.random.choice([0, 100, 900]))
        self.log.append(body, urgent=urgent)
        for link in list(self.links.values()):
            link.source.changed(self.log.heads(), self.now())
            self.serve(link)

    def serve(self, link: Link) -> None:
        """Do for a link what its two shells do."""
        if not link.alive:
            return
        if link.sink.state is SinkState.LOST:
            self.drop(link.connection)
        for data in link.source.to_send():
            self.carry(link, data, "up")
        for data in link.sink.to_send():
            self.carry(link, data, "down")
        self.take_marks(link)
        self.notices += link.sink.notices()
        for request in link.source.wants():
            if request is not link.reading:
                link.reading = request
                self.at(self.random.uniform(0, 0.02), partial(self.read, link, request))
        while (work := link.sink.work()) is not None:
            # In order, most of the time: what comes later may not be held before.
            hurry = self.bad("overtake")
            due = self.now_s + self.random.uniform(0, 0.05)
            link.busy_until = due = due if hurry else max(due, link.busy_until)
            self.at(due - self.now_s, partial(self.work, link, work))
        if link.source.state in {SourceState.SILENT, SourceState.REFUSED}:
            if not link.told_lost:
                link.told_lost = True
                self.tell_others(link)
            self.at(self.random.uniform(0.1, 1.0), lambda: self.reconnect(link))

    def take_marks(self, link: Link) -> None:
        for mark in link.source.ceilings():
            if mark.stored < self.log.mark(STATION, mark.log_id, mark.lane):
                self.log.acknowledge(STATION, mark.log_id, mark.lane, mark.stored)
        for mark in link.source.marks():
            self.check_mark(mark.log_id, mark.lane, mark.stored)
            self.log.acknowledge(STATION, mark.log_id, mark.lane, mark.stored)

    def tell_others(self, link: Link) -> None:
        """Let the other paths hear of a lane that was lost, as the gateway's program does."""
        for other in list(self.links.values()):
            if other.lane is link.lane and other is not link:
                other.source.others_lost((link.path,), self.now())
                self.serve(other)

    def reconnect(self, link: Link) -> None:
        if link.alive:
            self.drop(link.connection)
            self.connect(link.lane, link.path)

    def read(self, link: Link, request: ReadRequest) -> None:
        if not link.alive:
            return
        if self.bad("refuse"):
            link.source.unreadable(request, self.now())
        else:
            reading = self.log.read_now(
                request.log_id,
                request.lane,
                request.after,
                request.limit_bytes,
                request.bare_through,
            )
            link.source.read(request, reading, self.now())
        self.serve(link)

    def work(self, link: Link, work: Work) -> None:
        """The ledger does it now; the sink hears of it a little later, or never."""
        if not link.alive:
            return

        def failed() -> None:
            link.sink.failed(work, self.now())

        done: Callable[[], object] = failed
        if not self.bad("refuse"):
            with contextlib.suppress(StoreError):
                done = self.do(link, work)
        if self.bad("half"):  # it was done, but the sink hears that it failed
            done = failed
        self.at(self.random.uniform(0, 0.05), lambda: self.worked(link, done))

    def do(self, link: Link, work: Work) -> Callable[[], object]:
        match work:
            case Load():
                cursors = self.ledger.cursors_now(GATEWAY, work.log_ids)
                return lambda: link.sink.loaded(work, cursors, self.now())
            case Lookup():
                copies = self.ledger.copies_now(GATEWAY, work.log_id, work.first, work.last)
                return lambda: link.sink.found(work, copies, self.now())
            case Store():
                self.ledger.commit_now(GATEWAY, work.commit)
                self.ever |= self.ledger.held(GATEWAY).rows.keys()
                return lambda: link.sink.committed(work, self.now(), took_s=0.01)

    def worked(self, link: Link, done: Callable[[], object]) -> None:
        if link.alive:
            done()
            self.serve(link)

    # --- the network

    def bad(self, what: str) -> bool:
        happens = not self.calm and self.random.random() < getattr(self.trouble, what)
        self.met[what] += happens
        return happens

    def carry(self, link: Link, data: bytes, way: str) -> None:
        if link.path in self.dead or self.bad("lose"):
            return
        copies = 2 if self.bad("double") else 1
        for _ in range(copies):
            delay = 0.01
            if self.bad("late"):
                delay += self.random.choice([0.005, 0.05, 0.5, 5.0])
            self.at(delay, lambda: self.arrive(link, data, way))

    def arrive(self, link: Link, data: bytes, way: str) -> None:
        if not link.alive:
            return
        if way == "up":
            link.sink.receive(data, self.now())
            self.greeted(link.connection)
        else:
            link.source.receive(data, self.now())
        self.serve(link)

    def misfortune(self) -> None:
        """What may happen in any second."""
        if self.bad("cut"):
            self.connect(self.random.choice(list(Lane)), self.random.choice(self.paths))
        if self.bad("hole"):
            path = self.random.choice(self.paths)
            self.dead.add(path)
            self.at(self.random.uniform(1, 30), lambda: self.dead.discard(path))
        if self.bad("restart"):
            self.random.choice([self.restart_gateway, self.restart_station])()
        if self.bad("restore"):
            self.restore_ledger()
        if self.random.random() < 0.05:
            self.backup = self.ledger.copy()

    # --- the promises

    def check_mark(self, log_id: str, lane: Lane, stored: int) -> None:
        """Whatever is acknowledged is, or was until a restored backup, in the ledger."""
        log = {log.log_id: log for log in self.log.logs}[log_id]
        for entry, urgent in log.rows[:stored]:
            held = (log_id, entry.seq, entry.chain) in self.ever
            if not held and (urgent or lane is Lane.MAIN):
                raise Broken(f"seed {self.seed}: {entry.seq} acknowledged on {lane}, not held")

    def complete(self) -> bool:
        log = self.log.logs[0]
        rows = self.ledger.held(GATEWAY).rows
        cursor = self.ledger.held(GATEWAY).cursors.get(log.log_id)
        return cursor is not None and cursor.main == len(log.rows) <= len(rows)

    def check_healed(self) -> None:
        """Stop all trouble; soon the ledger is the log, exactly, and nobody was told a tale."""
        self.calm = True
        self.dead.clear()
        self.connect_all()
        healed = self.run(HEAL_S, until=self.complete)
        log = self.log.logs[0]
        held = self.ledger.held(GATEWAY)
        expected = {(log.log_id, e.seq, e.chain): e.body for e, _ in log.rows}
        if not healed or held.rows != expected:
            raise Broken(
                f"seed {self.seed}: of {len(expected)} events {len(held.rows)} are held,"
                f" cursor {held.cursors.get(log.log_id)}"
            )
        # Here messages are lost on a connection that lives: what was announced did fail to come.
        told = [each for each in self.notices if each.reason != Subkind.EVENTS_WITHHELD]
        if told or held.gaps or held.suspects:
            raise Broken(f"seed {self.seed}: told {told[:3]}, gaps {held.gaps[:3]}")

    def live(self, seconds: int) -> None:
        """Live through some seconds in which events and misfortune happen, then heal."""
        self.connect_all()
        for _ in range(seconds):
            for _ in range(self.random.choice([0, 0, 1, 5, 40, 200])):
                self.append(urgent=self.random.random() < 0.3)
            self.misfortune()
            self.run(self.random.uniform(0.2, 2.0))
        self.check_healed()
