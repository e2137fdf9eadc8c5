"""Plain ZeroMQ sockets on the running asyncio loop, and the options both ends share.

A socket's descriptor is edge-triggered: it says that something changed, and only EVENTS, read after
every operation, says what. Reading never waits: a cancelled wait can lose no message.
"""

import asyncio
import re
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

PORT_MAX = 65_535

_SCHEME = "tcp://"
_UNFIT = re.compile(r"[\s/;,@]")


def endpoint(address: str, *, listen: bool = False) -> str:
    """Return `host:port`, with or without `tcp://` before it, as ZeroMQ writes it.

    To listen, host may be `*` for everywhere and port 0 for any that is free. Raises `ConfigError`.
    """
    host, colon, port = address.removeprefix(_SCHEME).rpartition(":")
    fits = (
        colon
        and host
        and port.isascii()
        and port.isdigit()
        and int(port) <= PORT_MAX
        and not _UNFIT.search(host)
    )
    if not fits or (not listen and (host == "*" or int(port) == 0)):
        raise ConfigError(
            f"{address!r} is not an address to {'listen on' if listen else 'connect to'}",
            hint="write host:port, such as 192.168.1.10:5140; to listen everywhere, *:5140",
        )
    return f"{_SCHEME}{host}:{'*' if int(port) == 0 else port}"


def set_common_options(socket: zmq.Socket[bytes], address: str) -> None:
    """Set what both ends need. All of it takes effect at bind or connect, not after.

    IPv6 only for an address that is written so: with it on, a host name may resolve to an address
    on which the other end does not listen.
    """
    socket.linger = 0
    socket.sndhwm = SEND_QUEUE
    socket.rcvhwm = RECEIVE_QUEUE
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_LENGTH_MAX)
    socket.setsockopt(zmq.IPV6, int("[" in address))


def set_heartbeat(socket: zmq.Socket[bytes]) -> None:
    """Let the library prove the connection both ways; the other end need not do the same."""
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)


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
        finally:  # sending may take the signal that a message came: the descriptor is quiet then
            if self.has_input():
                self._loop.call_soon(self._tell)
        return True

    def _stirred(self) -> None:
        self._socket.getsockopt(zmq.EVENTS)  # quiets the descriptor
        self._awake()

    def _tell(self) -> None:
        if not self._socket.closed:
            self._awake()


async def wait(awake: asyncio.Event, deadline: float | None) -> None:
    """Wait until `awake` is set or the monotonic second `deadline` has come."""
    try:
        async with asyncio.timeout_at(deadline):
            await awake.wait()
    except TimeoutError:
        pass
