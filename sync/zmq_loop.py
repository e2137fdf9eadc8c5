"""Plain ZeroMQ sockets on the running asyncio loop, and the options both ends share.

A socket's descriptor is edge-triggered: it says that something changed, and only EVENTS, read after
every operation, says what. Reading never waits: a cancelled wait can lose no message.
"""

import asyncio
from collections.abc import Callable, Sequence

import zmq

from events.errors import ConfigError
from events.replication import MESSAGE_LENGTH_MAX

HEARTBEAT_MS = 2_000
HEARTBEAT_TIMEOUT_MS = 4_000
HANDSHAKE_MS = 5_000
SEND_QUEUE = 32  # messages for each peer; all in it is lost with the connection, and asked again
RECEIVE_QUEUE = 32
# Somewhat more than a message may hold: the peer of a message that is too long but not absurd can
# still be named. Beyond it the library drops the connection without telling whose it was.
FRAME_LENGTH_MAX = 2 * MESSAGE_LENGTH_MAX

_SCHEME = "tcp://"


def endpoint(address: str) -> str:
    """Return `host:port`, with or without `tcp://`, as ZeroMQ writes it; port 0 is any free one."""
    host, colon, port = address.removeprefix(_SCHEME).rpartition(":")
    if not colon or not host or not (port == "*" or port.isdigit()):
        raise ConfigError(
            f"{address!r} is not an address",
            hint="write host:port, such as 192.168.1.10:5140, or *:5140 to listen everywhere",
        )
    return f"{_SCHEME}{host}:{'*' if port == '0' else port}"


def set_common_options(socket: zmq.Socket[bytes]) -> None:
    """Set what both ends need. All of it takes effect at bind or connect, not after."""
    socket.linger = 0
    socket.sndhwm = SEND_QUEUE
    socket.rcvhwm = RECEIVE_QUEUE
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_LENGTH_MAX)
    socket.setsockopt(zmq.IPV6, 1)


class LoopSocket:
    """A socket whose descriptor the loop watches; `awake` is called when there may be something."""

    def __init__(self, socket: zmq.Socket[bytes], awake: Callable[[], None]) -> None:
        self._socket = socket
        self._awake = awake
        self._loop = asyncio.get_running_loop()
        self._descriptor = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._descriptor, self._stirred)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._socket.close()

    def has_input(self) -> bool:
        """Tell whether a message waits. To be asked before every wait."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def has_room(self) -> bool:
        """Tell whether a message could be sent. To be asked before waiting for room."""
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT)

    def receive(self) -> list[zmq.Frame] | None:
        """Return the frames of the next message, or None."""
        try:
            return self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None

    def send(self, frames: Sequence[bytes]) -> bool:
        """Send a message; False when there is no room or no connection for it now.

        Raises `zmq.ZMQError` with EHOSTUNREACH when a mandatory router has no such peer.
        """
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _stirred(self) -> None:
        self._socket.getsockopt(zmq.EVENTS)  # quiets the descriptor
        self._awake()


async def wait(awake: asyncio.Event, deadline: float | None) -> None:
    """Wait until `awake` is set or the monotonic second `deadline` has come."""
    try:
        async with asyncio.timeout_at(deadline):
            await awake.wait()
    except TimeoutError:
        pass
