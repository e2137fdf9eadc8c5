"""A gpiozero pin factory over libgpiod version 2: the lines of the kernel's character devices.

Needs the kernel's GPIO interface version 2 (Linux 5.10). Lines have the names of the device tree;
edges have the kernel's own time (CLOCK_MONOTONIC); the descriptor of each line is watched by the
asyncio loop that runs when the pin is first used. Without a running loop nobody is called back:
call `drain` then.
"""

import asyncio
import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import gpiod
from gpiod.line import Bias, Clock, Direction, Value
from gpiod.line import Edge as EdgeDetection
from gpiozero.exc import PinInvalidBounce

from protocols.drivers.gpio_pins import Edge, LineFactory, LinePin, pin_info
from protocols.gpio.lines import Chip, LineFault, Reason, locate

CONSUMER = "nplus-gateway"
EVENT_BUFFER_SIZE = 256
READS_MAX = 16
"""Reads of up to 64 edges each in one go, so that a storm on one line cannot hold the loop."""

_SEQUENCE_MASK = 0xFFFF_FFFF
_BIAS = {"up": Bias.PULL_UP, "down": Bias.PULL_DOWN, "floating": Bias.DISABLED}
_DEVICES = Path("/dev")
_DRIVERS = Path("/sys/bus/gpio/devices")

_REASONS: dict[int, tuple[Reason, str]] = {
    errno.EBUSY: ("busy", "Two programs cannot share a line; stop the other one."),
    errno.EACCES: ("forbidden", "Add the user of this service to the group `gpio`."),
    errno.EPERM: ("forbidden", "Add the user of this service to the group `gpio`."),
    errno.ENOENT: ("missing", "Is the chip still attached?"),
    errno.ENODEV: ("missing", "Is the chip still attached?"),
    errno.ENXIO: ("missing", "Is the chip still attached?"),
}


def chips() -> list[Chip]:
    """Return the chips of this machine that can be opened, each once.

    Raises `LineFault` when there are chips and none may be opened.
    """
    found: dict[Path, Chip] = {}
    refused: OSError | None = None
    for path in sorted(_DEVICES.glob("gpiochip*")):
        real = path.resolve()  # Raspberry Pi OS adds links for old numbers
        if real in found or not gpiod.is_gpiochip_device(str(real)):
            continue
        try:
            found[real] = _inspect(real)
        except OSError as error:
            refused = error
    if refused is not None and not found:
        raise line_fault(refused, "no GPIO chip can be opened")
    return list(found.values())


def line_fault(error: OSError, what: str, *, holder: str = "") -> LineFault:
    """Translate the system's refusal of a line."""
    reason, hint = _REASONS.get(error.errno or 0, ("failed", ""))
    why = f"held by {holder!r}" if reason == "busy" and holder else os.strerror(error.errno or 0)
    return LineFault(f"{what}: {why}", reason=reason, hint=hint)


class GpiodPin(LinePin):
    """A line of a chip. Each has a request, and so a descriptor and an edge buffer, of its own."""

    def __init__(self, factory: "GpiodFactory", info: Any, chip: Chip, offset: int) -> None:
        super().__init__(factory, info)
        self._chip = chip
        self._offset = offset
        self._event_buffer_size = factory.event_buffer_size
        self._request: gpiod.LineRequest | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line_seqno = 0
        self._bounce_s: float | None = None

    def take_input(self, pull: str) -> None:
        if pull != "floating" and not self._chip.sets_pulls:
            raise self._pull_fault(pull)
        settings = gpiod.LineSettings(
            direction=Direction.INPUT,
            edge_detection=EdgeDetection.BOTH,
            bias=_BIAS[pull],
            event_clock=Clock.MONOTONIC,
            debounce_period=timedelta(seconds=self._bounce_s or 0),
        )
        self._request = self._open(settings, pull)
        self._line_seqno = 0
        self._watch(self._request.fd)

    def take_output(self, level: bool | None) -> None:
        if level is None:
            level = self.read() if self._request is not None else self._present_level()
            self.give_back()
        self._request = self._open(
            gpiod.LineSettings(
                direction=Direction.OUTPUT,
                output_value=Value.ACTIVE if level else Value.INACTIVE,
            )
        )

    def read(self) -> bool:
        try:
            return bool(self._live().get_value(self._offset))
        except OSError as error:
            raise line_fault(error, f"line {self!r} cannot be read") from error

    def write(self, level: bool) -> None:
        try:
            self._live().set_value(self._offset, Value.ACTIVE if level else Value.INACTIVE)
        except OSError as error:
            raise line_fault(error, f"line {self!r} cannot be set") from error

    def give_back(self) -> None:
        self._unwatch()
        request, self._request = self._request, None
        if request is None:
            return
        try:
            if self._function == "output":
                settings = gpiod.LineSettings(direction=Direction.INPUT)
                request.reconfigure_lines({self._offset: settings})
        except OSError:
            pass  # the chip is gone, and its outputs with it
        finally:
            request.release()

    def read_edges(self) -> None:
        """Deliver the edges that the kernel has queued."""
        for _ in range(READS_MAX):
            request = self._request
            if request is None or self._function == "output" or not request.wait_edge_events(0):
                return
            for event in request.read_edge_events():
                lost = (event.line_seqno - self._line_seqno - 1) & _SEQUENCE_MASK
                self._line_seqno = event.line_seqno
                self.deliver(
                    Edge(
                        level=event.event_type is gpiod.EdgeEvent.Type.RISING_EDGE,
                        at_us=event.timestamp_ns // 1000,
                        lost=lost,
                    )
                )

    def _live(self) -> gpiod.LineRequest:
        if self._request is None:
            raise LineFault(f"line {self!r} is not held", reason="failed")
        return self._request

    def _open(self, settings: gpiod.LineSettings, pull: str = "floating") -> gpiod.LineRequest:
        try:
            return gpiod.request_lines(
                self._chip.path,
                config={self._offset: settings},
                consumer=CONSUMER,
                event_buffer_size=self._event_buffer_size,
            )
        except OSError as error:
            unsupported = error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
            if pull != "floating" and unsupported:
                raise self._pull_fault(pull) from error
            raise line_fault(
                error, f"line {self!r} cannot be taken", holder=self._holder()
            ) from error

    def _holder(self) -> str:
        try:
            with gpiod.Chip(self._chip.path) as chip:
                return chip.get_line_info(self._offset).consumer
        except OSError:
            return ""

    def _pull_fault(self, pull: str) -> LineFault:
        return LineFault(
            f"{self._chip.name} ({self._chip.label}) has no pull-{pull} for line {self!r}",
            reason="pull",
            hint='Fit a resistor on the board and say `pull = "external"`.',
        )

    def _present_level(self) -> bool:
        with self._open(gpiod.LineSettings(direction=Direction.AS_IS)) as request:
            return bool(request.get_value(self._offset))

    def _watch(self, descriptor: int) -> None:
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        self._loop.add_reader(descriptor, self._on_readable)

    def _unwatch(self) -> None:
        if self._loop is not None and self._request is not None:
            self._loop.remove_reader(self._request.fd)
        self._loop = None

    def _on_readable(self) -> None:
        try:
            self.read_edges()
        except OSError:
            self._unwatch()  # the chip is gone: `read` says so to whoever asks for the level

    def _get_bounce(self) -> float | None:
        return self._bounce_s

    def _set_bounce(self, value: float | None) -> None:
        # the kernel's debounce: the level must hold, and edges come late by that time
        if value is not None and value <= 0:
            raise PinInvalidBounce(f"bounce of {self!r} must be positive")
        if value != self._bounce_s:
            held = self._held and self._function == "input"
            if held:
                self._release()
            self._bounce_s = value
            if held:
                self._hold_input()


class GpiodFactory(LineFactory):
    """The lines of this machine's GPIO chips, by name or number (see `protocols.gpio.lines`)."""

    def __init__(
        self, *, chip: str | None = None, event_buffer_size: int = EVENT_BUFFER_SIZE
    ) -> None:
        super().__init__(model="libgpiod")
        self.event_buffer_size = event_buffer_size
        self._chip = chip
        self._places: dict[str, tuple[Any, Chip, int]] = {}
        self._names: dict[str | int, str] = {}

    def resolve(self, name: str | int) -> Any:
        if name not in self._names:
            chip, offset = locate(chips(), name, self._chip)
            full = f"{chip.name}:{chip.lines[offset] or offset}"
            self._names[name] = self._names[full] = full
            self._places[full] = (pin_info(number=offset, name=full), chip, offset)
        return self._places[self._names[name]][0]

    def make_pin(self, info: Any) -> GpiodPin:
        _, chip, offset = self._places[info.name]
        return GpiodPin(self, info, chip, offset)

    def drain(self) -> None:
        for pin in list(self._pins.values()):
            if isinstance(pin, GpiodPin):
                try:
                    pin.read_edges()
                except OSError:
                    continue  # as in `_on_readable`: reading the level tells

    def spi(self, **spi_args: Any) -> Any:
        """Return an SPI device of the kernel; needs the package `spidev`."""
        from protocols.drivers.gpiod_spi import open_spi  # noqa: PLC0415 - few gateways have SPI

        return open_spi(self, **spi_args)

    def relocate(self) -> None:
        """Forget where lines were found: a chip may have come back under another name."""
        self._names.clear()
        self._places.clear()


def _inspect(path: Path) -> Chip:
    with gpiod.Chip(str(path)) as chip:
        info = chip.get_info()
        names = tuple(chip.get_line_info(offset).name for offset in range(info.num_lines))
    driver = (_DRIVERS / info.name).resolve().parent / "driver"
    return Chip(
        path=str(path),
        name=info.name,
        label=info.label,
        driver=driver.resolve().name if driver.exists() else "",
        lines=tuple(name or "" for name in names),
    )
