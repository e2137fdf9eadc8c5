"""Connections to a station by somebody who holds another station's key.

CURVE tells the station nothing about them: their first message is sealed for another key. The
library breaks off and says so to whoever monitors the socket, without the address.
"""

import zmq
from zmq.utils.monitor import parse_monitor_message

from sync.zmq_loop import LoopSocket

TIMES_MIN = 3  # within `WINDOW_S`: not a scanner that knocks once
WINDOW_S = 60.0

_NOT_FOR_US = 0x11000001  # ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC


class WrongKeys:
    """Counts them on a bound socket. Close it before the socket."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket
        self._monitor = LoopSocket(
            socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL), lambda: None
        )
        self._times: list[float] = []

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close()

    def text(self, now: float) -> str:
        """Return what to say about them now; nothing while they are few."""
        while (frames := self._monitor.receive()) is not None:
            event = parse_monitor_message([frame.bytes for frame in frames])
            if event["value"] == _NOT_FOR_US:
                self._times.append(now)
        self._times = [at for at in self._times[-TIMES_MIN:] if now - at < WINDOW_S]
        if len(self._times) < TIMES_MIN:
            return ""
        return (
            "somebody connects again and again with another station's key in hand:"
            " compare the public_key_file of gateways that are lost"
        )
