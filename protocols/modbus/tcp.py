"""Modbus TCP on the wire: the MBAP header.

The building of frames is pymodbus' (`FramerSocket`). Its decoder is not used: on a wrong protocol
identifier it waits for ever, and it takes lengths that the header cannot have.
"""

from dataclasses import dataclass

from pymodbus.framer import FramerSocket
from pymodbus.pdu import DecodePDU

from protocols.modbus.codes import PDU_LENGTH_MAX

LENGTH_MIN = 2  # unit and function code
LENGTH_MAX = PDU_LENGTH_MAX + 1
TRANSACTIONS = 0x10000
PROTOCOL = 0

_framer = FramerSocket(DecodePDU(is_server=False))


def frame(transaction: int, unit: int, pdu: bytes) -> bytes:
    """Return the TCP frame around a PDU."""
    return _framer.encode(pdu, unit, transaction)


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpAdu:
    transaction: int
    length: int
    unit: int
    pdu: bytes
    raw: bytes


class Reader:
    """Cuts a connection's bytes into frames.

    `broken` turns true at the first header that cannot be one; a connection has no way back to
    the beginning of a frame, so it must be closed, and every later byte is discarded.
    """

    def __init__(self) -> None:
        self.broken = False
        self.discarded = 0
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[TcpAdu]:
        """Take bytes; return the frames that are now complete."""
        self._buffer += data
        found: list[TcpAdu] = []
        while not self.broken and len(self._buffer) >= 6:
            buffer = self._buffer
            length = int.from_bytes(buffer[4:6], "big")
            if int.from_bytes(buffer[2:4], "big") != PROTOCOL or not (
                LENGTH_MIN <= length <= LENGTH_MAX
            ):
                self.broken = True
                break
            end = 6 + length
            if len(buffer) < end:
                return found
            found.append(
                TcpAdu(
                    transaction=int.from_bytes(buffer[:2], "big"),
                    length=length,
                    unit=buffer[6],
                    pdu=bytes(buffer[7:end]),
                    raw=bytes(buffer[:end]),
                )
            )
            del buffer[:end]
        if self.broken:
            self.flush()
        return found

    def flush(self) -> int:
        """Discard what is left; return how much it was."""
        left = len(self._buffer)
        self.discarded += left
        self._buffer.clear()
        return left
