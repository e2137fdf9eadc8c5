"""Runs the guest: its console, its input lines (qtest), its output lines (interception).

QEMU's qtest interface beside the emulated processor is a debugging aid; tried with QEMU 7.2.
Conversation on the console: a line that begins with `@` is JSON from the program in the guest.
`{"drive": [[line, level], …]}` asks for line changes and is answered by a line `done`;
`{"facts": NAME, …}` says what was seen; `{"end": …}` ends it.
"""

import json
import os
import selectors
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from image.gpio_guest.build import Guest

POWER_KEY = 3
"""The line of the board that QEMU itself uses."""

LINES = 8
PROGRAM = "qemu-system-aarch64"

_COMMAND = (
    *(PROGRAM, "-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg", "-m", "512"),
    *("-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
)


class MachineError(Exception):
    """The machine did not start, stopped, or did not answer in time."""


@dataclass(slots=True, kw_only=True)
class Account:
    """What a run of the guest's program came to.

    facts: by name, as the guest told them.
    outputs: the levels that each output line was seen to take, in order.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    outputs: list[tuple[int, int]] = field(default_factory=list)


class Machine:
    """One emulated board, from power on to the end of the guest's program."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._resources = ExitStack()
        self._account = Account()
        self._log: list[str] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._resources.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._resources.close()

    def run(self, *, within_s: float) -> Account:
        """Serve the guest until its program ends. Raises `MachineError`."""
        until = time.monotonic() + within_s
        while True:
            line = self._console.line(until)
            if line is None:
                last = [each for each in self._log if not each.startswith("[")][-40:]
                raise MachineError("\n".join(["the guest fell silent; it had said:", *last]))
            self._log.append(line)
            if not line.startswith("@"):
                continue
            message = json.loads(line[1:])
            if "drive" in message:
                for number, level in message["drive"]:
                    self._drive(number, level)
                self._console.write("done\n")
            elif "facts" in message:
                self._account.facts[message.pop("facts")] = message
            elif "end" in message:
                self._drive(LINES - 1, 0)  # its answer comes after all outputs seen so far
                return self._account

    def _start(self) -> None:
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory()))
        listener = self._resources.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(folder / "qtest"))
        listener.listen()
        listener.settimeout(20)
        monitor = folder / "monitor"
        process = subprocess.Popen(  # noqa: S603 - a fixed command
            [
                *_COMMAND,
                *("-serial", "stdio", "-qtest", f"unix:{folder / 'qtest'}", "-qtest-log", "none"),
                *("-qmp", f"unix:{monitor},server=on,wait=off"),
                *("-kernel", str(self._guest.kernel), "-initrd", str(self._guest.initial)),
                *("-append", "console=ttyAMA0 quiet panic=-1"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._resources.callback(process.wait)
        self._resources.callback(process.kill)
        if process.stdin is None or process.stdout is None:
            raise MachineError("no console")
        self._resources.callback(process.stdout.close)
        self._resources.callback(process.stdin.close)
        self._console = self._lines(process.stdout.fileno(), process.stdin)
        try:
            connection, _ = listener.accept()
        except TimeoutError as error:
            raise MachineError(f"{PROGRAM} did not start: {self._console.rest()}") from error
        self._resources.enter_context(connection)
        sink = self._resources.enter_context(connection.makefile("wb"))
        self._qtest = self._lines(connection.fileno(), sink)
        self._pins = self._find_pins(monitor)
        self._command(f"irq_intercept_out {self._pins}")

    def _lines(self, descriptor: int, sink: IO[bytes]) -> "_Lines":
        lines = _Lines(descriptor, sink)
        self._resources.callback(lines.close)
        return lines

    def _find_pins(self, monitor: Path) -> str:
        """Return QEMU's path of the PL061 that drives the lines."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(monitor))
            with connection.makefile("rwb") as stream:
                stream.readline()  # the greeting
                _ask(stream, "qmp_capabilities")
                found = _ask(stream, "qom-list", path="/machine/unattached")
        for part in found:
            if part["type"] == "child<pl061>":
                return f"/machine/unattached/{part['name']}"
        raise MachineError("this QEMU gives the board no PL061")

    def _drive(self, line: int, level: int) -> None:
        if line == POWER_KEY:
            raise MachineError(f"line {line} is the power key")
        self._command(f"set_irq_in {self._pins} unnamed-gpio-in {line} {level}")

    def _command(self, command: str) -> None:
        self._qtest.write(command + "\n")
        until = time.monotonic() + 20
        while (answer := self._qtest.line(until)) is not None:
            words = answer.split()
            if words[:1] == ["IRQ"]:
                self._account.outputs.append((int(words[2]), int(words[1] == "raise")))
            elif words[:1] == ["OK"]:
                return
            else:
                raise MachineError(f"{command}: {answer}")
        raise MachineError(f"{command}: no answer")


class _Lines:
    """Text by the line, with a time limit, from a descriptor; and a way back."""

    def __init__(self, descriptor: int, sink: IO[bytes]) -> None:
        self._descriptor = descriptor
        self._sink = sink
        self._buffer = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(descriptor, selectors.EVENT_READ)

    def close(self) -> None:
        self._selector.close()

    def write(self, text: str) -> None:
        self._sink.write(text.encode())
        self._sink.flush()

    def line(self, until: float) -> str | None:
        """Return the next line; None at the end of the text or of the time."""
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, until - time.monotonic())):
                return None
            data = os.read(self._descriptor, 65536)
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    def rest(self) -> str:
        """Return what came without an end of line."""
        while self._selector.select(0) and (data := os.read(self._descriptor, 65536)):
            self._buffer += data
        return self._buffer.decode(errors="replace")


def _ask(stream: Any, command: str, **arguments: str) -> Any:
    """Ask QEMU's monitor (QMP), and return its answer."""
    stream.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    stream.flush()
    while True:
        answer = json.loads(stream.readline() or b'{"error": "gone"}')
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            raise MachineError(f"{command}: {answer['error']}")
