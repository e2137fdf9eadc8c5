"""SPI for gpiozero's devices (analogue converters) over the kernel's spidev."""

from collections.abc import Sequence
from typing import Any

from gpiozero.exc import DeviceClosed, SPIBadArgs
from gpiozero.pins import SPI
from gpiozero.pins.pi import spi_port_device

from events.errors import ConfigError, LinkLost

SPEED_HZ = 500_000  # what gpiozero's own factories use

_PINS = frozenset({"clock_pin", "mosi_pin", "miso_pin", "select_pin"})


def open_spi(factory: Any, **spi_args: Any) -> "SpidevInterface":
    """Return the SPI interface for `port` and `device`, or for the pins that mean them.

    Raises `ConfigError` when `spidev` is not installed, `LinkLost` when the device cannot be
    opened, gpiozero's `SPIBadArgs` for pins that no hardware SPI has.
    """
    spi_args.pop("shared", None)  # the kernel shares the bus by itself
    if _PINS & set(spi_args):
        port, device = spi_port_device(**{name: spi_args.pop(name, None) for name in _PINS})
    else:
        port, device = spi_args.pop("port", 0), spi_args.pop("device", 0)
    if spi_args:
        raise SPIBadArgs(f"{next(iter(spi_args))} means nothing here")
    try:
        from spidev import SpiDev  # noqa: PLC0415 - optional: few gateways have SPI
    except ImportError as error:
        raise ConfigError(
            "SPI needs the Python package spidev, which is not installed",
            hint="Install it beside this program: pip install spidev.",
        ) from error
    bus = SpiDev()
    try:
        bus.open(port, device)
    except OSError as error:
        raise LinkLost(
            f"/dev/spidev{port}.{device} cannot be opened: {error.strerror}",
            hint="Is SPI switched on in the boot configuration, and the user in the group `spi`?",
        ) from error
    bus.max_speed_hz = SPEED_HZ
    return SpidevInterface(bus, factory)


class SpidevInterface(SPI):  # type: ignore[misc]  # gpiozero carries no types
    """gpiozero's SPI interface on one spidev device."""

    def __init__(self, bus: Any, factory: Any) -> None:
        self._bus = bus
        super().__init__(pin_factory=factory)

    def close(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None
        super().close()

    @property
    def closed(self) -> bool:
        return self._bus is None

    def transfer(self, data: Sequence[int]) -> list[int]:
        if self._bus is None:
            raise DeviceClosed("SPI is closed")
        return list(self._bus.xfer2(list(data)))

    def _get_clock_mode(self) -> int:
        return int(self._bus.mode)

    def _set_clock_mode(self, value: int) -> None:
        self._bus.mode = value

    def _get_lsb_first(self) -> bool:
        return bool(self._bus.lsbfirst)

    def _set_lsb_first(self, value: bool) -> None:
        self._bus.lsbfirst = bool(value)

    def _get_select_high(self) -> bool:
        return bool(self._bus.cshigh)

    def _set_select_high(self, value: bool) -> None:
        self._bus.cshigh = bool(value)

    def _get_bits_per_word(self) -> int:
        return int(self._bus.bits_per_word)

    def _set_bits_per_word(self, value: int) -> None:
        self._bus.bits_per_word = value

    def _get_rate(self) -> int:
        return int(self._bus.max_speed_hz)

    def _set_rate(self, value: int) -> None:
        self._bus.max_speed_hz = int(value)
