"""Who may connect: a handler for the ZeroMQ Authentication Protocol (RFC 27), deny by default.

The key that was proved comes back with every message as its `User-Id`, in Z85.
"""

from collections.abc import Callable

import zmq
from zmq.utils import z85

from sync.peers import Allowed
from sync.zmq_loop import LoopSocket

ADDRESS = "inproc://zeromq.zap.01"
DOMAIN = b"nplus"

_VERSION = b"1.0"
_KEY_LENGTH = 32
_REQUEST_FRAMES = 7  # with one credential, the client's key


class Gatekeeper:
    """Answers the library's questions about keys from the allow-list.

    `refused` is called with the key (Z85) and the peer's address. Bind it before the router.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        allowed: Allowed,
        refused: Callable[[str, str], None],
    ) -> None:
        self._allowed = allowed
        self._refused = refused
        socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        socket.linger = 0
        socket.bind(ADDRESS)
        self._socket = LoopSocket(socket, self.answer)

    def close(self) -> None:
        self._socket.close()

    def answer(self) -> None:
        """Answer every question that waits."""
        while (frames := self._socket.receive()) is not None:
            request = [frame.bytes for frame in frames]
            code, text, user = self._judge(request)
            sequence = request[1] if len(request) > 1 else b""
            self._socket.send([_VERSION, sequence, code, text, user, b""])

    def _judge(self, request: list[bytes]) -> tuple[bytes, bytes, bytes]:
        if len(request) != _REQUEST_FRAMES or request[0] != _VERSION or request[2] != DOMAIN:
            return b"500", b"not a question of ours", b""
        address, mechanism, credential = request[3], request[5], request[6]
        if mechanism != b"CURVE" or len(credential) != _KEY_LENGTH:
            return b"400", b"only CURVE is spoken here", b""
        key = z85.encode(credential)
        if self._allowed.name_of(key.decode("ascii")) is None:
            self._refused(key.decode("ascii"), address.decode("ascii", "replace"))
            return b"400", b"unknown key", b""
        return b"200", b"OK", key
