"""Serial ports as streams: opened and configured by pyserial, read through the event loop.

The port is opened by path, raw, without flow control, never as controlling terminal, and for
ourselves alone: pyserial's advisory lock, and on real ports TIOCEXCL, so that a program that asks
for no lock is refused too.
"""

import asyncio
import contextlib
import errno
import fcntl
import itertools
import os
import termios
from pathlib import Path

import serial
import structlog
from serial.rs485 import RS485Settings

from events.errors import LinkLost
from protocols.ports import Rs485, SerialPort

READ_LENGTH_MAX = 4096
WRITE_BUFFER_MAX = 65_536
_PTY_MAJORS = range(136, 144)  # Unix98 pseudo-terminal slaves (kernel: admin-guide/devices.txt)
_NAMED_PORTS_MAX = 8
_PROCESSES_MAX = 4096

_log = structlog.get_logger(__name__)


class SerialStream:
    """An open serial port.

    asked: the framing that the configuration asked for, such as `7E1`.
    notes: what could not be had as asked, in sentences for `status` and the log.
    """

    def __init__(self, port: serial.Serial, path: str, asked: str, notes: tuple[str, ...]) -> None:
        self.asked = asked
        self.notes = notes
        self._port = port
        self._path = path
        self._fd = port.fileno()
        self._loop = asyncio.get_running_loop()
        self._unsent = bytearray()
        self._readable: asyncio.Future[None] | None = None
        self._lost: LinkLost | None = None
        self._open = True

    async def read(self) -> bytes:
        while True:
            await self._until_readable()
            if self._lost is not None:
                raise self._lost
            try:
                data = os.read(self._fd, READ_LENGTH_MAX)
            except BlockingIOError:
                continue
            except OSError as error:
                raise self._gone(error.strerror or str(error)) from error
            if not data:  # VMIN is 1: nothing to read is never an empty read
                raise self._gone("unplugged")
            return data

    async def write(self, data: bytes) -> None:
        if self._lost is not None or not self._open:
            raise self._lost or self._gone("closed")
        if len(self._unsent) + len(data) > WRITE_BUFFER_MAX:
            raise self._gone("the port takes no bytes any more")
        waiting = bool(self._unsent)
        self._unsent += data
        if not waiting:
            self._send()
            if self._lost is not None:
                raise self._lost
            if self._unsent:
                self._loop.add_writer(self._fd, self._send)

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        if self._readable is not None and not self._readable.done():
            self._gone("closed")
            self._readable.set_result(None)
        with contextlib.suppress(OSError, termios.error):
            # Closing a port with bytes in its buffer may block for half a minute.
            termios.tcflush(self._fd, termios.TCOFLUSH)
        with contextlib.suppress(OSError):
            self._port.close()

    async def _until_readable(self) -> None:
        if self._lost is not None:
            return
        if not self._open:
            raise self._gone("closed")
        self._readable = self._loop.create_future()
        self._loop.add_reader(self._fd, self._wake)
        try:
            await self._readable
        finally:
            self._readable = None
            if self._open:
                self._loop.remove_reader(self._fd)

    def _wake(self) -> None:
        if self._readable is not None and not self._readable.done():
            self._readable.set_result(None)

    def _send(self) -> None:
        try:
            count = os.write(self._fd, self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(error.strerror or str(error))
            self._unsent.clear()
            self._wake()
        else:
            del self._unsent[:count]
        if not self._unsent:
            self._loop.remove_writer(self._fd)

    def _gone(self, why: str) -> LinkLost:
        if self._lost is None:
            self._lost = LinkLost(
                f"{self._path} is gone: {why}", hint="check the plug; the port is opened again"
            )
        return self._lost


async def open_serial(port: SerialPort) -> SerialStream:
    """Open and configure a port. Raises `LinkLost`, with a hint, when it cannot be had.

    A pseudo-terminal carries neither parity nor 7 bits, and answers EINVAL when asked: it is
    opened as 8N, and `asked` keeps what a real port would have been set to.
    """
    asked = f"{port.data_bits}{port.parity[0].upper()}{port.stop_bits}"
    pseudo = _is_pseudo_terminal(port.path)
    device = _open(port, pseudo=pseudo)
    notes = []
    if pseudo and (port.parity != "none" or port.data_bits == 7):
        notes.append(f"a pseudo-terminal carries no {asked}: opened as 8N{port.stop_bits}")
    if port.rs485 is not None and not _set_rs485(device, port.rs485):
        notes.append(
            "the driver of this port has no RS-485 mode: the adapter must switch by itself"
        )
    if not pseudo:
        _claim(device.fileno())
        if port.parity != "none":
            _check_parity(device.fileno())
    for note in notes:
        _log.warning("port-setting-not-possible", path=port.path, note=note)
    return SerialStream(device, port.path, asked, tuple(notes))


def _open(port: SerialPort, *, pseudo: bool) -> serial.Serial:
    try:
        return serial.Serial(
            port=port.path,
            baudrate=port.baud,
            bytesize=8 if pseudo else port.data_bits,
            parity="N" if pseudo else port.parity[0].upper(),
            stopbits=port.stop_bits,
            timeout=0,
            write_timeout=0,
            inter_byte_timeout=0,  # VMIN 1, VTIME 0: an empty read then always means hung up
            exclusive=True,
        )
    except (OSError, ValueError, termios.error) as error:
        raise _refusal(port.path, error) from error


def _is_pseudo_terminal(path: str) -> bool:
    try:
        return os.major(Path(path).stat().st_rdev) in _PTY_MAJORS
    except OSError:
        return False


def _set_rs485(device: serial.Serial, wanted: Rs485) -> bool:
    """Switch the kernel's direction control on; False where the driver has none."""
    try:
        device.rs485_mode = RS485Settings(
            rts_level_for_tx=wanted.rts_on_send,
            rts_level_for_rx=wanted.rts_after_send,
            loopback=wanted.receive_while_sending,
            delay_before_tx=wanted.delay_before_ms / 1000,
            delay_before_rx=wanted.delay_after_ms / 1000,
        )
    except (OSError, ValueError):
        return False
    return True


def _claim(descriptor: int) -> None:
    """Have the kernel refuse later openers, also those that ask for no lock.

    Not for pseudo-terminals: the flag stays until the last descriptor is closed, and the other end
    of one may hold the port open beyond our own death.
    """
    with contextlib.suppress(OSError):
        fcntl.ioctl(descriptor, termios.TIOCEXCL)


def _check_parity(descriptor: int) -> None:
    """Have a character with wrong parity read as NUL, so that no message with one passes."""
    with contextlib.suppress(OSError, termios.error):
        attributes = termios.tcgetattr(descriptor)
        attributes[0] |= termios.INPCK
        attributes[0] &= ~(termios.IGNPAR | termios.PARMRK)
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)


def _refusal(path: str, error: Exception) -> LinkLost:
    code = getattr(error, "errno", None)
    if code in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        present = _present_ports()
        hint = f"present now: {present}" if present else "no serial adapter is plugged in"
        return LinkLost(f"{path} is not there", hint=hint)
    if code in {errno.EACCES, errno.EPERM}:
        return LinkLost(
            f"no permission to open {path}",
            hint="the gateway's user must be in the group that owns the port, mostly dialout",
        )
    if code in {errno.EBUSY, errno.EAGAIN}:
        holder = _holder(path)
        hint = (
            f"held by {holder}" if holder else "another program holds it: sudo fuser -v names it"
        )
        return LinkLost(f"{path} is in use", hint=hint)
    return LinkLost(f"{path} cannot be opened: {error}", hint="is this path a serial port?")


def _present_ports() -> str:
    for folder in (Path("/dev/serial/by-id"), Path("/dev/serial/by-path")):
        if folder.is_dir():
            names = sorted(itertools.islice(folder.iterdir(), _NAMED_PORTS_MAX))
            return ", ".join(str(name) for name in names)
    return ""


def _holder(path: str) -> str:
    """Return name and process id of another program that has the port open, as far as we may see."""
    target = os.path.realpath(path)
    for process in itertools.islice(Path("/proc").glob("[0-9]*"), _PROCESSES_MAX):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and any(
                str(link.readlink()) == target for link in (process / "fd").iterdir()
            ):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
    return ""
