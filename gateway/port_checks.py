"""What can be said of a serial port before it is opened."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from protocols.ports import SerialPort

_UNSTABLE = re.compile(r"/dev/tty(USB|ACM)\d+")
_STABLE_FOLDERS = ("dev/serial/by-id", "dev/serial/by-path")
_MINI_UART = "/dev/ttyS0"  # its name on every Raspberry Pi; files are also checked elsewhere
_MINI_UART_TREE = b"brcm,bcm2835-aux-uart"  # its device tree name
_NEIGHBOURS_MAX = 64

Finding = tuple[str, str, bool]
"""Key inside the port's table, message, and whether it is only a warning."""


def port_findings(port: SerialPort, path: Path, *, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield the faults of a port that is configured as `port` and found at `path`.

    `root` is where `/dev` and `/sys` are looked for.
    """
    if "\0" in port.path:
        yield "path", "is not a path", False
        return
    if _UNSTABLE.fullmatch(port.path):
        yield (
            "path",
            f"{port.path} may be another port after the next start; {_suggestion(path, root)}",
            True,
        )
    if port.parity != "none" and is_mini_uart(path, root=root):
        yield (
            "parity",
            f"{port.path} is the mini-UART of the Raspberry Pi, which has no parity; give the"
            " PL011 to these pins (dtoverlay=disable-bt) or use a USB adapter",
            False,
        )
    try:
        mode = path.stat().st_mode
    except OSError:
        yield "path", f"{port.path} is not there now; it is opened when it appears", True
        return
    if not stat.S_ISCHR(mode):
        yield "path", f"{port.path} is not a serial port", False


def is_mini_uart(path: Path, *, root: Path = Path("/")) -> bool:
    """Tell whether a port is a Raspberry Pi's second UART, by its name or its device tree."""
    target = os.path.realpath(path)
    if target == _MINI_UART:
        return True
    device = root / "sys/class/tty" / Path(target).name / "device/of_node/compatible"
    try:
        return _MINI_UART_TREE in device.read_bytes().split(b"\0")
    except OSError:
        return False


def _suggestion(path: Path, root: Path) -> str:
    target = os.path.realpath(path)
    for folder in _STABLE_FOLDERS:
        try:
            names = sorted((root / folder).iterdir())[:_NEIGHBOURS_MAX]
        except OSError:
            continue
        for name in names:
            if os.path.realpath(name) == target:
                return f"use {name}"
    return "use its name under /dev/serial/by-id or /dev/serial/by-path"
