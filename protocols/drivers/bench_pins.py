"""The bench's pins: a gpiozero pin factory whose lines are held by a test bench.

The bench listens on a Unix stream socket; each gateway connects, again after each loss, once for
its inputs and outputs together. Both
sides send JSON objects, one a line, UTF-8, at most 65536 bytes. `pin` is the name of the line as
configured, numbers as `GPIOn` (`GPIO5` for `line = 5`), with `CHIP:` before it where the point
names a chip.

From the bench, first of all, what its lines read at boot:

    {"levels": {"GPIO5": 1, "ZONE-1": 0}}

and then, in any order:

    {"pin": "GPIO5", "level": 0}                    the line changes now
    {"pin": "GPIO5", "level": 0, "t": 1234.5}       it changed at this CLOCK_MONOTONIC second
    {"pin": "GPIO5", "level": 0, "lost": 3}         after three edges that nobody saw
    {"sync": 7}                                     answer when all of the above is applied

A line of which the bench says nothing reads what its pull makes it; without one it is low.

From the gateway, every message with `t`, its CLOCK_MONOTONIC second:

    {"hello": 4711, "t": …}                         its process id
    {"pin": "GPIO5", "function": "input", "t": …}   or "output"
    {"pin": "GPIO5", "pull": "up", "t": …}          "down" or "floating"
    {"pin": "GPIO5", "out": 1, "t": …}              an output is driven
    {"ack": 7, "t": …}
"""

import asyncio
import os
import socket
import time
from typing import Any

import msgspec
from gpiozero.exc import PinUnsupported

from events.errors import ConfigError, LinkLost
from protocols.drivers.gpio_pins import Edge, LineFactory, LinePin, pin_info
from protocols.gpio.config import line_name

ENVIRONMENT = "HIL_GPIO"
HELLO_WITHIN_S = 5.0
MESSAGE_BYTES_MAX = 65536
LINES_MAX = 1024

_RECEIVE_BYTES = 65536
_HINT = "Is the test bench running?"


class _Hello(msgspec.Struct):
    levels: dict[str, int] = {}


class _Message(msgspec.Struct):
    pin: str | None = None
    level: int = 0
    t: float | None = None
    lost: int = 0
    sync: int | str | None = None


_MESSAGE = msgspec.json.Decoder(_Message)
_HELLO = msgspec.json.Decoder(_Hello)


def bench_socket(configured: str | None) -> str:
    """Return the path of the bench's socket. Raises `ConfigError` when nobody named one."""
    path = configured or os.environ.get(ENVIRONMENT)
    if not path:
        raise ConfigError(
            "no bench socket: neither `bench_socket` nor the environment names one",
            hint=f"Set bench_socket in [gpio], or {ENVIRONMENT} in the environment.",
        )
    return path


_connected: dict[str, "BenchFactory"] = {}
_connecting: dict[str, asyncio.Lock] = {}


async def connect(path: str) -> "BenchFactory":
    """Connect to a bench, or join the connection that this process has. Raises `LinkLost`.

    A bench sees one connection of a gateway. It ends when everybody who joined has closed it.
    """
    async with _connecting.setdefault(path, asyncio.Lock()):
        factory = _connected.get(path)
        if factory is None or factory.lost is not None or not factory.users:
            factory = _connected[path] = await _connect(path)
        factory.users += 1
        return factory


async def _connect(path: str) -> "BenchFactory":
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(HELLO_WITHIN_S):
            hello, rest = await _greet(connection, path)
        return BenchFactory(connection, _HELLO.decode(hello).levels, rest)
    except (OSError, EOFError, msgspec.MsgspecError) as error:  # TimeoutError is an OSError
        connection.close()
        raise LinkLost(f"no bench says hello at {path}: {error}", hint=_HINT) from error


async def _greet(connection: socket.socket, path: str) -> tuple[bytes, bytes]:
    """Return the bench's first message, and what came after it."""
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, path)
    received = b""
    while b"\n" not in received:
        data = await loop.sock_recv(connection, _RECEIVE_BYTES)
        if not data or len(received) > MESSAGE_BYTES_MAX:
            raise EOFError("it closed, or did not end its first message")
        received += data
    hello, _, rest = received.partition(b"\n")
    return hello, rest


class BenchPin(LinePin):
    """A line of the bench."""

    _factory: "BenchFactory"

    def take_input(self, pull: str) -> None:
        self._factory.tell(pin=self.info.name, function="input")
        self._factory.tell(pin=self.info.name, pull=pull)

    def take_output(self, level: bool | None) -> None:
        self._factory.tell(pin=self.info.name, function="output")
        self.write(self.read() if level is None else level)

    def read(self) -> bool:
        return self._factory.level(self.info.name, default=self._pull == "up")

    def write(self, level: bool) -> None:
        self._factory.set_output(self.info.name, level)

    def give_back(self) -> None:
        if self._function == "output":
            self._factory.tell(pin=self.info.name, function="input")

    def _set_bounce(self, value: float | None) -> None:
        if value is not None:
            raise PinUnsupported(f"{self!r} of the bench hands on every edge; debounce yourself")


class BenchFactory(LineFactory):
    """The pins of one connection to a bench; `lost` is set when the bench goes away.

    users: how many have joined it and not closed.
    """

    def __init__(self, connection: socket.socket, levels: dict[str, int], received: bytes) -> None:
        super().__init__(model="bench")
        self.users = 0
        self._connection = connection
        self._levels = {name: bool(level) for name, level in levels.items()}
        self._outputs: dict[str, bool] = {}
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(connection.fileno(), self.drain)
        self.tell(hello=os.getpid())

    def resolve(self, name: str | int) -> Any:
        chip, colon, line = str(name).rpartition(":")
        full = f"{chip}{colon}{line_name(line)}"
        number = int(full[4:]) if full.startswith("GPIO") and full[4:].isdecimal() else 0
        return pin_info(number=number, name=full)

    def make_pin(self, info: Any) -> BenchPin:
        return BenchPin(self, info)

    def level(self, name: str, *, default: bool) -> bool:
        """Return what a line reads: driven by us, by the bench, or held by its pull."""
        if name in self._outputs:
            return self._outputs[name]
        return self._levels.get(name, default)

    def set_output(self, name: str, level: bool) -> None:
        self._outputs[name] = level
        self.tell(pin=name, out=int(level))

    def forget(self, pin: LinePin) -> None:
        self._outputs.pop(pin.info.name, None)
        super().forget(pin)

    def drain(self) -> None:
        """Apply everything that the bench has sent until now."""
        while self.lost is None and self._take_lines() and self._receive():
            pass

    def tell(self, **message: str | int) -> None:
        """Send one message to the bench."""
        if self.lost is not None:
            return
        line = msgspec.json.encode({**message, "t": time.monotonic()}) + b"\n"
        try:
            sent = self._connection.send(line)
        except OSError as error:
            self._lose(f"the bench does not listen any more: {error}")
            return
        if sent < len(line):
            self._lose("the bench does not read what it is told")

    def close(self) -> None:
        """Leave the connection; the last one ends it. Each user closes its own devices first."""
        self.users -= 1
        if self.users > 0:
            return
        super().close()
        self._disconnect()

    def _receive(self) -> bool:
        try:
            data = self._connection.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            self._lose(f"the bench is gone: {error}")
            return False
        if not data:
            self._lose("the bench has closed the connection")
            return False
        self._received += data
        return True

    def _take_lines(self) -> bool:
        *lines, self._received = self._received.split(b"\n")
        try:
            for line in lines:
                self._apply(_MESSAGE.decode(line))
        except msgspec.MsgspecError as error:
            self._lose(f"the bench sent what is no message: {error}")
        if len(self._received) > MESSAGE_BYTES_MAX:
            self._lose("the bench sent a message without an end")
        return self.lost is None

    def _apply(self, message: _Message) -> None:
        if message.pin is not None:
            self._move(message.pin, message)
        if message.sync is not None:
            self.tell(ack=message.sync)

    def _move(self, name: str, message: _Message) -> None:
        if name not in self._levels and len(self._levels) >= LINES_MAX:
            self._lose(f"the bench names more than {LINES_MAX} lines")
            return
        pin = self._pins.get(name)
        before = None if pin is None else pin.read()
        self._levels[name] = level = bool(message.level)
        if pin is None or name in self._outputs or (before == level and not message.lost):
            return
        at_s = time.monotonic() if message.t is None else message.t
        pin.deliver(Edge(level=level, at_us=round(at_s * 1e6), lost=message.lost))

    def _lose(self, why: str) -> None:
        if self.lost is None:
            self.lost = LinkLost(why, hint=_HINT)
            self._disconnect()
            if self.on_lost is not None:
                self.on_lost()

    def _disconnect(self) -> None:
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()
