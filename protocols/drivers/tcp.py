"""TCP connections as streams."""

import asyncio
import errno
import socket

from events.errors import LinkLost

READ_LENGTH_MAX = 4096
WRITE_BUFFER_MAX = 65_536
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_COUNT = 3

_HINTS = {
    errno.ECONNREFUSED: "the device is there, but nothing listens on this port: check the port",
    errno.EHOSTUNREACH: "check the device's power and network cable, and the address",
    errno.ENETUNREACH: "this machine has no route to the address: check its network",
}


class TcpStream:
    """A connected socket."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._peer = peer

    async def read(self) -> bytes:
        try:
            data = await self._reader.read(READ_LENGTH_MAX)
        except OSError as error:
            raise LinkLost(
                f"connection to {self._peer} lost: {error.strerror or error}"
            ) from error
        if not data:
            raise LinkLost(f"connection to {self._peer} closed by the other side")
        return data

    async def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise LinkLost(f"connection to {self._peer} lost")
        if self._writer.transport.get_write_buffer_size() + len(data) > WRITE_BUFFER_MAX:
            raise LinkLost(f"{self._peer} takes no bytes any more")
        self._writer.write(data)

    def close(self) -> None:
        self._writer.transport.abort()


async def open_tcp(host: str, port: int, *, connect_timeout_s: float) -> TcpStream:
    """Connect to `host:port`. Raises `LinkLost` with a hint where it can give one.

    A half-open connection is noticed by keep-alive probes within about a minute.
    """
    peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        async with asyncio.timeout(connect_timeout_s):
            reader, writer = await asyncio.open_connection(host, port, limit=READ_LENGTH_MAX)
    except TimeoutError as error:
        raise LinkLost(
            f"{peer} does not answer within {connect_timeout_s:g} s",
            hint="check the device's power and network cable, and the address",
        ) from error
    except socket.gaierror as error:
        raise LinkLost(
            f"{host} is not a known name: {error.strerror}", hint="give the IP address instead"
        ) from error
    except OSError as error:
        raise LinkLost(
            f"cannot connect to {peer}: {error.strerror or error}",
            hint=_HINTS.get(error.errno or 0, ""),
        ) from error
    _keep_alive(writer)
    return TcpStream(reader, writer, peer)


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
