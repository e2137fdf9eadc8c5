"""Serial lines without hardware: pseudo terminals under a stable name.

A pseudo terminal carries bytes and the baud rate that was asked for, but no parity, no 7-bit
characters and no BREAK; those need real ports.
"""

import asyncio
import os
import random
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

READ_BYTES = 4096


class End(Protocol):
    """One end of a line: takes bytes to send, hands up the bytes that came."""

    received: Callable[[bytes], None]

    def send(self, data: bytes) -> None: ...


class Port:
    """A port that a program opens by `link`; the bench holds the other side of it.

    The device side is `send` and `received`. Bytes that nobody reads fill the kernel's buffer and
    are then lost and counted, as in a UART.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self.received: Callable[[bytes], None] = _ignore
        self.lost_bytes = 0
        self._device = self._program = -1

    def __enter__(self) -> Self:
        self.plug()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.unplug()

    @property
    def plugged(self) -> bool:
        return self._device >= 0

    @property
    def baud(self) -> int:
        """The speed that the program set."""
        code = termios.tcgetattr(self._device)[4]
        return next(
            int(name[1:])
            for name, value in vars(termios).items()
            if name[0] == "B" and name[1:].isdigit() and value == code
        )

    def plug(self) -> None:
        """Make the port appear. Needs a running loop."""
        self._device, self._program = os.openpty()
        tty.setraw(self._program)
        os.set_blocking(self._device, False)
        new = self.link.with_name(f"{self.link.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(os.ttyname(self._program))
        new.replace(self.link)
        asyncio.get_running_loop().add_reader(self._device, self._readable)

    def unplug(self) -> None:
        """Take the port away, as an adapter that is pulled: the program's reads fail."""
        if not self.plugged:
            return
        asyncio.get_running_loop().remove_reader(self._device)
        self.link.unlink(missing_ok=True)
        os.close(self._program)
        os.close(self._device)
        self._device = self._program = -1

    def send(self, data: bytes) -> None:
        written = 0
        if self.plugged:
            with suppress(BlockingIOError):
                written = os.write(self._device, data)
        self.lost_bytes += len(data) - written

    def _readable(self) -> None:
        with suppress(BlockingIOError):
            self.received(os.read(self._device, READ_BYTES))


@dataclass(slots=True, kw_only=True)
class Faults:
    """What a bad line does. Chances are per byte; times in seconds; None and 0 do nothing."""

    flip: float = 0.0
    drop: float = 0.0
    double: float = 0.0
    mute: bool = False
    delay_s: float = 0.0
    piece_bytes: int = 0
    baud: int = 0


class Line:
    """Join two ends, with faults between them. Both directions have the same faults."""

    def __init__(self, a: End, b: End, *, seed: int = 1) -> None:
        self.faults = Faults()
        self._random = random.Random(seed)
        self._free_at_s = {id(a): 0.0, id(b): 0.0}
        a.received = lambda data: self._carry(data, b)
        b.received = lambda data: self._carry(data, a)

    def _carry(self, data: bytes, to: End) -> None:
        if self.faults.mute:
            return
        loop = asyncio.get_running_loop()
        data = self._spoil(data)
        at_s = max(loop.time() + self.faults.delay_s, self._free_at_s[id(to)])
        size = self.faults.piece_bytes or max(1, len(data))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            if self.faults.baud:
                at_s += len(piece) * 10 / self.faults.baud
            if at_s > loop.time():
                loop.call_at(at_s, to.send, piece)
            else:
                to.send(piece)
        self._free_at_s[id(to)] = at_s

    def _spoil(self, data: bytes) -> bytes:
        faults, chance = self.faults, self._random.random
        spoiled = bytearray()
        for byte in data:
            if chance() < faults.drop:
                continue
            flipped = byte ^ (1 << self._random.randrange(8)) if chance() < faults.flip else byte
            spoiled += bytes([flipped]) * (2 if chance() < faults.double else 1)
        return bytes(spoiled)


def _ignore(data: bytes) -> None:
    """Drop what came: nobody is attached."""
