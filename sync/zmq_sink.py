"""The station's end: one ROUTER that every gateway connects to, and a `Sink` for each connection.

A gateway is the key that ZAP hands up with every message, checked against the allow-list each
time. The routing id is only the return address of one connection: of the connections of one key
for one path and lane the newest counts.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import zmq

from events.commands import Asked, Told
from events.errors import ConfigError, StoreError
from events.kinds import Subkind
from events.model import Instant
from events.replication import Hello, Lane
from sync.flight import Flight
from sync.inbox import Inbox
from sync.keys import public_of
from sync.ledger import CommitResult, Ledger
from sync.notices import Notices, lacking
from sync.peers import Allowed, Clock, Notice
from sync.reading import Load, Lookup, Store
from sync.sink import Sink, SinkState
from sync.zmq_connections import CONNECTIONS_MAX, Connection, Gateway
from sync.zmq_loop import LoopSocket, endpoint, set_common_options, wait
from sync.zmq_wrong_key import WrongKeys
from sync.zmq_zap import DOMAIN, Gatekeeper

TICK_S = 0.3  # how fast a revoked key is noticed on a quiet connection
STEP_S = 0.01  # of receiving, then the other tasks get their turn
KEEPALIVE_IDLE_S = 900  # longer than any path is idle
KEEPALIVE_INTERVAL_S = 30
KEEPALIVE_COUNT = 4
TALKING = frozenset({SinkState.LOADING, SinkState.OPEN})


class Hub:
    """Receives from every enrolled gateway until cancelled.

    on_notice: what people must be told; the same about the same peer at most once a minute.
    on_seen: a message of a gateway came: it lives. on_hello: what it says about itself. on_told:
        what it answered to `ask`.
    """

    def __init__(
        self,
        *,
        listen: str,
        secret_key: str,
        name: str,
        program: str,
        ledger: Ledger,
        allowed: Allowed,
        clock: Clock,
        on_notice: Callable[[Notice], None],
        on_seen: Callable[[str, Instant], None],
        on_hello: Callable[[str, Hello], None],
        on_told: Callable[[str, Told], None] = lambda _gateway, _told: None,
    ) -> None:
        self._listen = endpoint(listen, listen=True)
        self._secret_key = secret_key
        self._name = name
        self._program = program
        self._ledger = ledger
        self._allowed = allowed
        self._clock = clock
        self._notices = Notices(on_notice)
        self._on_seen = on_seen
        self._on_hello = on_hello
        self._on_told = on_told
        self._awake = asyncio.Event()
        self._gateways: dict[str, Gateway] = {}
        self._flight = Flight()
        self._routes: dict[bytes, Connection] = {}
        self._inbox: Inbox[zmq.Frame] = Inbox(self._may_wait)
        self._heard: dict[tuple[str, str], tuple[float, float]] = {}
        self._line: LoopSocket | None = None
        self._wrong_keys: WrongKeys | None = None
        self.address = ""
        self.listening = asyncio.Event()
        self.unsent = 0
        self.refused = 0

    async def run(self) -> None:
        """Serve until cancelled. Raises `ConfigError` when the address cannot be listened on."""
        with self._bound() as line:
            async with asyncio.TaskGroup() as tasks:
                self.listening.set()
                tick_at = 0.0
                while True:
                    self._awake.clear()
                    self._receive(line, tasks)
                    now = self._clock.now()
                    if now.monotonic >= tick_at:
                        tick_at = now.monotonic + TICK_S
                        self._tick(tasks, now)
                    if self._inbox or line.has_input():
                        await asyncio.sleep(0)
                    else:
                        await wait(self._awake, tick_at)

    def status(self) -> list[dict[str, Any]]:
        """Return each live connection: gateway, path, lane, program, state, time of its last word.

        `heard_s` is that time on the monotonic clock, `silent_s` how long ago it was.
        """
        now = self._clock.now().monotonic
        return [
            each.status(each.greeted, now)
            for gateway in self._gateways.values()
            for each in gateway.connections.values()
            if each.greeted is not None
        ]

    def heard(self) -> dict[tuple[str, str], tuple[float, float]]:
        """Drain who has spoken since the last call: gateway and path, when last, and its period.

        Both in monotonic seconds. Whoever was refused has not spoken.
        """
        heard, self._heard = self._heard, {}
        return heard

    def ask(self, gateway: str, lane: Lane, message: Asked) -> bool:
        """Say something beside the events over the connection that carries a lane of a gateway.

        Returns whether there is one. What was said may still be lost with it.
        """
        known = self._gateways.get(gateway)
        for each in known.connections.values() if known is not None else ():
            if each.serves(lane) and each.sink.active and each.sink.state is SinkState.OPEN:
                each.sink.ask(message)
                self._flush(each)
                return each.route in self._routes
        return False

    @contextmanager
    def _bound(self) -> Iterator[LoopSocket]:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        gatekeeper = Gatekeeper(context, self._allowed, self._key_refused)
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        set_common_options(socket, self._listen)
        # The gateway's own heartbeats tell with their time to live when it is gone; ours would
        # cost on metered paths. Connections that die without a word are found by the kernel.
        socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
        socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_COUNT)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.curve_server = True
        socket.curve_secretkey = self._secret_key.encode("ascii")
        socket.curve_publickey = public_of(self._secret_key).encode("ascii")
        socket.zap_domain = DOMAIN
        socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        line = LoopSocket(socket, self._awake.set)
        wrong_keys = self._wrong_keys = WrongKeys(socket)
        try:
            try:
                socket.bind(self._listen)
            except zmq.ZMQError as error:
                raise ConfigError(
                    f"cannot listen on {self._listen}: {error.strerror}",
                    hint="is another station running, or the address not of this machine?",
                ) from error
            bound = socket.getsockopt(zmq.LAST_ENDPOINT)
            self.address = bytes(bound).decode("ascii").rstrip("\0")
            self._line = line
            yield line
        finally:
            self._line = self._wrong_keys = None
            wrong_keys.close()
            line.close()
            gatekeeper.close()
            context.destroy(linger=0)

    def _receive(self, line: LoopSocket, tasks: asyncio.TaskGroup) -> None:
        now = self._clock.now()
        until = now.monotonic + STEP_S
        while now.monotonic < until:
            frames = self._inbox.next(line.receive)
            if frames is None:
                return
            now = self._clock.now()
            connection = self._connection(frames[0].bytes, str(frames[-1].get("User-Id")), now)
            if connection is None:
                continue
            connection.heard = now.monotonic
            data = frames[1].bytes if len(frames) == 2 else b""  # empty: malformed
            first_claim = connection.claimed_at is None
            connection.sink.receive(data, now)
            self._on_seen(connection.gateway, now)
            if first_claim and connection.claimed_at and self._challenged(connection):
                connection.sink.receive(data, now)
            self._greeted(connection, now)
            self._follow(connection, tasks)
            if connection.greeted is not None and connection.sink.state in TALKING:
                hello = connection.greeted
                self._heard[connection.gateway, hello.path] = (now.monotonic, hello.period_s)

    def _may_wait(self, frames: list[zmq.Frame]) -> bool:
        """Tell whether a message is of a lane that carries everything, and may be late."""
        connection = self._routes.get(frames[0].bytes)
        return connection is not None and connection.serves(Lane.MAIN)

    def _challenged(self, newest: Connection) -> bool:
        """Ask who spoke for this gateway before; tell whether they turn out to be gone."""
        gateway = self._gateways[newest.gateway]
        for other in [each for each in gateway.connections.values() if each.greeted is not None]:
            other.sink.ping(self._clock.now())
            self._flush(other)  # drops it when the library says that nobody is there any more
        return not any(each.greeted is not None for each in gateway.connections.values())

    def _connection(self, route: bytes, key: str, now: Instant) -> Connection | None:
        """Return the connection that a message came over, if its key is allowed now."""
        name = self._allowed.name_of(key)
        connection = self._routes.get(route)
        if connection is not None:
            if connection.key == key and connection.gateway == name:
                return connection
            self._revoke(connection)
        if name is None:
            self.refused += 1
            return None
        gateway = self._gateways.setdefault(name, Gateway(name))
        while len(gateway.connections) >= CONNECTIONS_MAX:
            self._drop(next(iter(gateway.connections.values())))
        sink = Sink(
            gateway=name,
            name=self._name,
            program=self._program,
            boot_id=self._clock.boot_id,
            progress=gateway.progress,
            now=now,
            flight=self._flight,
        )
        connection = Connection(route, key, name, sink, now.monotonic)
        sink.admit = lambda hello: gateway.judge(connection, hello, self._clock.now().monotonic)
        self._routes[route] = gateway.connections[route] = connection
        return connection

    def _greeted(self, connection: Connection, now: Instant) -> None:
        hello = connection.sink.hello
        if hello is None or hello is connection.greeted:
            return
        if connection.greeted is None:
            connection.since = now.monotonic
        connection.greeted = hello
        self._on_hello(connection.gateway, hello)
        for old in self._gateways[connection.gateway].superseded(connection):
            self._drop(old)
        self._elect(connection.gateway, hello.lane)

    def _elect(self, gateway: str, lane: Lane) -> None:
        now = self._clock.now()
        for each, active in self._gateways[gateway].to_activate(lane, now.monotonic).items():
            each.sink.activate(now, active=active)
            self._flush(each)

    def _follow(self, connection: Connection, tasks: asyncio.TaskGroup) -> None:
        """Do what the sink wants done after it was told something."""
        self._flush(connection)
        for told in connection.sink.told():
            self._on_told(connection.gateway, told)
        for notice in connection.sink.notices():
            self._notice(notice, connection)
        if connection.sink.state in {SinkState.REFUSED, SinkState.LOST}:
            self._drop(connection)
            return
        while (work := connection.sink.work()) is not None:
            if isinstance(work, Store):
                self._commit(connection, work, tasks)
            else:
                tasks.create_task(self._look(connection, work, tasks))

    def _commit(self, connection: Connection, work: Store, tasks: asyncio.TaskGroup) -> None:
        """Hand a batch to the ledger, without a task: there are thousands a second."""
        began = self._clock.now().monotonic

        def done(commit: asyncio.Future[CommitResult]) -> None:
            if self._line is None or commit.cancelled():
                return
            error, now = commit.exception(), self._clock.now()
            if error is None:
                # It may have waited for the one before it: that is not its own time.
                took_s = now.monotonic - max(began, connection.committed_at)
                connection.committed_at = now.monotonic
                for notice in lacking(commit.result(), work.commit.log_id):
                    self._notice(notice, connection)
                if rest_s := connection.sink.committed(work, now, took_s=took_s):  # each by itself
                    commit.get_loop().call_later(rest_s, self._rested, connection, tasks)
            elif isinstance(error, StoreError):
                connection.sink.failed(work, now)
            else:  # a defect ends the station
                tasks.create_task(_raised(error))
            if connection.route in self._routes:
                self._follow(connection, tasks)

        try:
            commit = self._ledger.commit(connection.gateway, work.commit, work.received)
            asyncio.ensure_future(commit).add_done_callback(done)
        except StoreError:
            connection.sink.failed(work, self._clock.now())

    def _rested(self, connection: Connection, tasks: asyncio.TaskGroup) -> None:
        if self._line is not None and connection.route in self._routes:
            connection.sink.timeout(self._clock.now())
            self._follow(connection, tasks)

    async def _look(
        self, connection: Connection, work: Load | Lookup, tasks: asyncio.TaskGroup
    ) -> None:
        sink, gateway = connection.sink, connection.gateway
        try:
            if isinstance(work, Load):
                cursors = await self._ledger.cursors(gateway, work.log_ids)
                sink.loaded(work, cursors, self._clock.now())
            else:
                copies = await self._ledger.copies(gateway, work.log_id, work.first, work.last)
                sink.found(work, copies, self._clock.now())
        except StoreError:  # the ledger tells about itself; the sink asks again
            sink.failed(work, self._clock.now())
        if connection.route in self._routes:
            self._follow(connection, tasks)

    def _flush(self, connection: Connection) -> None:
        connection.due = 0.0  # whatever is to be sent, its deadlines may have moved
        for data in connection.sink.to_send():
            try:
                sent = self._line is not None and self._line.send([connection.route, data])
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._drop(connection)
                return
            if not sent:
                self.unsent += 1  # its queue is full: the fetch runs into its time-out

    def _revoke(self, connection: Connection) -> None:
        text = f"the key of gateway {connection.gateway} is no longer enrolled for it"
        connection.sink.refuse(Subkind.KEY_REFUSED, text)
        self._flush(connection)
        for notice in connection.sink.notices():
            self._notice(notice, connection)
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        gateway = self._gateways[connection.gateway]
        connection.sink.end()
        self._routes.pop(connection.route, None)
        gone = gateway.connections.pop(connection.route, None)
        if gone is not None and gone.greeted is not None:
            self._elect(gateway.name, gone.greeted.lane)

    def _tick(self, tasks: asyncio.TaskGroup, now: Instant) -> None:
        wrong = "" if self._wrong_keys is None else self._wrong_keys.text(now.monotonic)
        if wrong:
            self._notice(Notice(reason=Subkind.KEY_REFUSED, text=wrong), None)
        for connection in list(self._routes.values()):
            if self._allowed.name_of(connection.key) != connection.gateway:
                self._revoke(connection)
                continue
            if connection.due > now.monotonic:
                continue
            deadline = connection.sink.deadline()
            if deadline is not None and deadline > now.monotonic:
                connection.due = deadline
            elif deadline is not None:
                connection.sink.timeout(now)
                self._follow(connection, tasks)
        self._compare(now)

    def _compare(self, now: Instant) -> None:
        """Look at those who speak over more than one path, or as more than one."""
        for gateway in self._gateways.values():
            if len(gateway.connections) <= len(Lane):
                continue  # one path, and nobody else who claims to be this gateway
            for each in gateway.to_ping(now.monotonic):
                each.sink.ping(now)
                self._flush(each)
            for lane in Lane:
                self._elect(gateway.name, lane)

    def _key_refused(self, key: str, address: str) -> None:
        self.refused += 1
        text = f"the key {key}, used from {address}, is not enrolled"
        self._notice(Notice(reason=Subkind.KEY_REFUSED, text=text, key=key), None)

    def _notice(self, notice: Notice, connection: Connection | None) -> None:
        if connection is not None:
            notice = replace(notice, gateway=connection.gateway, key=connection.key)
        self._notices.take(notice, self._clock.now().monotonic)


async def _raised(error: BaseException) -> NoReturn:
    raise error
