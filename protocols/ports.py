"""Where a line is attached: a serial port with its settings, or a TCP address."""

from typing import Annotated, Literal

import msgspec

Baud = Annotated[int, msgspec.Meta(ge=50, le=4_000_000)]
DelayMs = Annotated[int, msgspec.Meta(ge=0, le=1000)]


class Rs485(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Direction control by the kernel (TIOCSRS485), for UARTs that drive the transceiver by RTS.

    Most USB adapters switch by themselves and need none of this.
    """

    rts_on_send: bool = True
    rts_after_send: bool = False
    receive_while_sending: bool = False
    delay_before_ms: DelayMs = 0
    delay_after_ms: DelayMs = 0


class SerialPort(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A serial port, opened by path. Prefer `/dev/serial/by-id` or `by-path` names."""

    path: str
    baud: Baud = 9600
    data_bits: Literal[7, 8] = 8
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1
    rs485: Rs485 | None = None

    def character_s(self) -> float:
        """Return the seconds that one character takes on the wire, start bit included."""
        bits = 1 + self.data_bits + (self.parity != "none") + self.stop_bits
        return bits / self.baud


def split_address(address: str, *, default_port: int) -> tuple[str, int]:
    """Return host and port of `host`, `host:port` or `[v6]:port`. Raises `ValueError`."""
    host, port = address, ""
    if address.startswith("["):
        host, _, port = address[1:].partition("]")
        if port and not port.startswith(":"):
            raise ValueError(f"{address!r}: after ']' only ':port' may follow")
        port = port[1:]
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    if not host:
        raise ValueError(f"{address!r} names no host")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{port!r} is not a port number from 1 to 65535")
    return host, int(port) if port else default_port
