"""A network of message streams, in the shape of the few ZeroMQ calls that the product makes.

A connection is an ordered stream each way, as TCP gives it. It can be slow, stall, break, or break
at one end first; what was on the way arrives late at a connection that is no more, or at nobody.
The real shells (`sync.zmq_lane`, `sync.zmq_source`, `sync.zmq_sink`) run over it.
"""

import asyncio
import errno
import random
import struct
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import zmq

from sync.peers import Allowed

LATENCY_S = 0.004
HEARTBEAT_S = 5.0  # a path that is silent for so long is given up by the library
ACCEPT_AGAIN_S = 0.6
QUEUE_MESSAGES = 64  # what may be on the way each way


@dataclass(eq=False)
class Process:
    """One run of a program, from its start to its death.

    doing: the hop that the writer of its disk is in now. committed: of the newest transaction.
    deleted: what the present step of an eviction deletes, by class.
    """

    host: Any
    dead: bool = False
    doing: str = ""
    committed: str = ""
    deleted: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def evicted(self, log: Any) -> None: ...
    def reached(self, hop: str) -> None: ...
    def appended(self, group: Any) -> None: ...
    def claimed(self, public_key: str, log_id: str, lane: Any, stored: int) -> None: ...

    def trimming(self, log: Any, first: int, trim: Callable[[], int]) -> int:
        return trim()


HERE: ContextVar[Process] = ContextVar("the process that runs")


@dataclass(eq=False)
class Path:
    """One way from a gateway to a station."""

    name: str
    stalled_until: float = 0.0
    wires: list["Wire"] = field(default_factory=list)


class Frame:
    __slots__ = ("bytes", "user")

    def __init__(self, data: bytes, user: str = "") -> None:
        self.bytes = data
        self.user = user

    def __len__(self) -> int:
        return len(self.bytes)

    def get(self, _name: str) -> str:
        return self.user


class Inbox:
    """What waits at a socket, and whom to wake."""

    def __init__(self) -> None:
        self.messages: deque[list[Frame]] = deque()
        self.awake: Callable[[], None] = lambda: None
        self.closed = False

    def put(self, frames: list[Frame]) -> None:
        if not self.closed:
            self.messages.append(frames)
            self.awake()

    def close(self, linger: int = 0) -> None:
        self.closed = True
        self.messages.clear()


class Socket(Inbox):
    """A DEALER or a ROUTER."""

    def __init__(self, network: "Network", kind: int) -> None:
        super().__init__()
        self.network = network
        self.process = HERE.get()
        self.kind = kind
        self.linger = self.sndhwm = self.rcvhwm = 0
        self.curve_secretkey = self.curve_publickey = self.curve_serverkey = b""
        self.curve_server = False
        self.zap_domain = b""
        self.monitor = Inbox()
        self.address = ""
        self.wire: Wire | None = None
        self.routes: dict[bytes, Wire] = {}
        self.gatekeeper: Gatekeeper | None = None

    def setsockopt(self, option: int, value: object) -> None:
        return

    def getsockopt(self, option: int) -> object:
        return self.address.encode() + b"\0"

    def get_monitor_socket(self, events: int) -> Inbox:
        return self.monitor

    def disable_monitor(self) -> None:
        self.monitor.close()

    def connect(self, address: str) -> None:
        self.address = address
        self.network.soon(LATENCY_S, lambda: self.network.attempt(self))

    def bind(self, address: str) -> None:
        self.address = address
        self.network.listeners[_host(address)] = self

    def close(self, linger: int = 0) -> None:
        super().close()
        if self.wire is not None:
            self.wire.end_at_dealer()
        if self.network.listeners.get(_host(self.address)) is self:
            del self.network.listeners[_host(self.address)]
        for wire in list(self.routes.values()):
            wire.end_at_router()

    def tell(self, event: int, value: int = 0) -> None:
        self.monitor.put([Frame(struct.pack("=hi", event, value)), Frame(self.address.encode())])

    def send(self, frames: Sequence[bytes]) -> bool:
        if self.kind == zmq.DEALER:
            return self.wire is not None and self.wire.send_up(frames[-1])
        wire = self.routes.get(frames[0])
        if wire is None:
            raise zmq.ZMQError(errno.EHOSTUNREACH)
        return wire.send_down(frames[-1])


class Context:
    """Stands for `zmq.Context` in the shells."""

    network: "Network"

    def __init__(self) -> None:
        self.sockets: list[Socket] = []
        self.gatekeeper: Gatekeeper | None = None

    def socket(self, kind: int) -> Socket:
        made = Socket(self.network, kind)
        made.gatekeeper = self.gatekeeper
        self.sockets.append(made)
        return made

    def destroy(self, linger: int = 0) -> None:
        for each in self.sockets:
            if not each.closed:
                each.close()


class Gatekeeper:
    """Stands for `sync.zmq_zap.Gatekeeper`: the network asks the list at each handshake."""

    def __init__(self, context: Context, allowed: Allowed, refused: Any) -> None:
        self.context, self.allowed, self.refused = context, allowed, refused
        context.gatekeeper = self

    def close(self) -> None:
        return


class LoopSocket:
    """Stands for `sync.zmq_loop.LoopSocket`, with the same contract."""

    def __init__(self, socket: Any, awake: Callable[[], None]) -> None:
        self._socket = socket
        socket.awake = awake

    def close(self) -> None:
        self._socket.close()

    def has_input(self) -> bool:
        return bool(self._socket.messages)

    def has_room(self) -> bool:
        wire = self._socket.wire
        return wire is not None and wire.room_up()

    def receive(self) -> list[Frame] | None:
        messages = self._socket.messages
        return messages.popleft() if messages else None

    def send(self, frames: Sequence[bytes]) -> bool:
        return bool(self._socket.send(frames))


class Wire:
    """One connection. `up` is from the gateway to the station."""

    def __init__(self, network: "Network", path: Path, dealer: Socket, router: Socket) -> None:
        self.network = network
        self.path = path
        self.dealer: Socket | None = dealer
        self.router: Socket | None = router
        self.gateway = dealer.process
        self.station = router.process
        network.routes_made += 1
        self.route = b"r%d" % network.routes_made
        self.key = dealer.curve_publickey.decode()
        self._up_at = self._down_at = 0.0
        self._up_count = self._down_count = 0
        self._broken = False
        dealer.wire = self
        router.routes[self.route] = self
        path.wires.append(self)

    def room_up(self) -> bool:
        return self._up_count < QUEUE_MESSAGES

    def send_up(self, data: bytes) -> bool:
        if not self.room_up():
            return False
        if self.network.on_message(self, data, up=True) and not self._broken:
            self._up_count += 1
            self._up_at = self._arrival(self._up_at)
            self.network.at(self._up_at, lambda: self._arrive_up(data))
        return True

    def send_down(self, data: bytes) -> bool:
        if self._down_count >= QUEUE_MESSAGES:
            return False
        if self.network.on_message(self, data, up=False) and not self._broken:
            self._down_count += 1
            self._down_at = self._arrival(self._down_at)
            self.network.at(self._down_at, lambda: self._arrive_down(data))
        return True

    def _arrival(self, last: float) -> float:
        delay = LATENCY_S * (1 + self.network.chance.random())
        return max(last, self.network.now() + delay, self.path.stalled_until)

    def _arrive_up(self, data: bytes) -> None:
        if self.path.stalled_until > self.network.now():
            self.network.at(self.path.stalled_until, lambda: self._arrive_up(data))
            return
        self._up_count -= 1
        if self.router is not None and not self.station.dead:
            self.router.put([Frame(self.route, self.key), Frame(data, self.key)])

    def _arrive_down(self, data: bytes) -> None:
        if self.path.stalled_until > self.network.now():
            self.network.at(self.path.stalled_until, lambda: self._arrive_down(data))
            return
        self._down_count -= 1
        if self.dealer is not None and not self.gateway.dead:
            self.dealer.put([Frame(data)])

    # --- ends

    def cut(self) -> None:
        """Break at both ends at once; what is on the way is lost."""
        self._broken = True
        self.end_at_dealer(lost=True)
        self._forget_route()

    def cut_at_gateway(self, late_s: float) -> None:
        """Break at the gateway; the station notices later, and hears what was on the way till then."""
        dealer, self.dealer = self.dealer, None
        if dealer is not None:
            dealer.wire = None
            dealer.tell(zmq.EVENT_DISCONNECTED)
        self.network.soon(late_s, self._forget_route)

    def end_at_dealer(self, *, lost: bool = False) -> None:
        """The gateway's end is gone, and the station's a little later."""
        dealer, self.dealer = self.dealer, None
        if dealer is None:
            return
        dealer.wire = None
        if lost:
            dealer.tell(zmq.EVENT_DISCONNECTED)
        else:
            self.network.soon(2 * LATENCY_S, self._forget_route)

    def end_at_router(self) -> None:
        self._forget_route()
        if self.dealer is not None:
            self._broken = True
            self.network.soon(LATENCY_S, lambda: self.end_at_dealer(lost=True))

    def _forget_route(self) -> None:
        router, self.router = self.router, None
        if router is not None:
            router.routes.pop(self.route, None)
        if self in self.path.wires:
            self.path.wires.remove(self)


class Network:
    """Addresses, paths and streams of one world.

    on_message: asked about each message that is put on a wire; False loses it with its wire.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, chance: random.Random) -> None:
        self._loop = loop
        self.chance = chance
        self.listeners: dict[str, Socket] = {}
        self.paths: dict[tuple[str, str], Path] = {}
        self.routes_made = 0
        self.on_message: Callable[..., bool] = lambda _wire, _data, **_: True

    def now(self) -> float:
        return self._loop.time()

    def at(self, when: float, action: Callable[[], None]) -> None:
        self._loop.call_at(when, action)

    def soon(self, delay_s: float, action: Callable[[], None]) -> None:
        self._loop.call_later(delay_s, action)

    def path(self, gateway: str, address: str) -> Path:
        key = (gateway, address)
        if key not in self.paths:
            self.paths[key] = Path(f"{gateway}>{address}")
        return self.paths[key]

    def attempt(self, dealer: Socket) -> None:
        """Try to connect; the library goes on trying until the socket is closed."""
        if dealer.closed or dealer.process.dead or dealer.wire is not None:
            return
        path = self.path(dealer.process.host.name, dealer.address)
        if path.stalled_until > self.now():
            self.at(path.stalled_until + LATENCY_S, lambda: self.attempt(dealer))
            return
        router = self.listeners.get(_host(dealer.address))
        keeper = None if router is None else router.gatekeeper
        if router is None or keeper is None or router.closed or router.process.dead:
            dealer.tell(zmq.EVENT_CLOSED)
            self.soon(ACCEPT_AGAIN_S, lambda: self.attempt(dealer))
            return
        dealer.tell(zmq.EVENT_CONNECTED)
        if dealer.curve_serverkey != router.curve_publickey:
            dealer.tell(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EPIPE)
            self.soon(ACCEPT_AGAIN_S, lambda: self.attempt(dealer))
        elif keeper.allowed.name_of(dealer.curve_publickey.decode()) is None:
            keeper.refused(dealer.curve_publickey.decode(), "somewhere")
            dealer.tell(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        else:
            Wire(self, path, dealer, router)
            dealer.tell(zmq.EVENT_HANDSHAKE_SUCCEEDED)

    def stall(self, path: Path, for_s: float) -> None:
        """Let a path carry nothing for a time; beyond the library's patience it is cut."""
        path.stalled_until = max(path.stalled_until, self.now() + min(for_s, HEARTBEAT_S))
        if for_s > HEARTBEAT_S:
            path.stalled_until = max(path.stalled_until, self.now() + for_s)
            self.soon(HEARTBEAT_S, lambda: _cut_all(path))

    def detach(self, process: Process, *, silently: bool) -> None:
        """A process is no more: its peers hear of it now, or only by its silence."""
        process.dead = True
        for path in self.paths.values():
            for wire in list(path.wires):
                if process in {wire.gateway, wire.station}:
                    self.soon(HEARTBEAT_S if silently else LATENCY_S, wire.cut)


def _cut_all(path: Path) -> None:
    for wire in list(path.wires):
        wire.cut()


def _host(address: str) -> str:
    return address.rpartition(":")[0]


def shim_of_zmq() -> ModuleType:
    """Return the library's names, with our `Context`."""
    made = ModuleType("zmq")
    made.__dict__.update(vars(zmq))
    made.Context = Context  # type: ignore[attr-defined]
    return made
