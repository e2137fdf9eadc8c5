"""Outputs on pins: gpiozero's output devices on the configured factory.

On a chip of this machine the outputs have a factory of their own: inputs that begin anew let go of
no output. The pins of a bench are reached over the one connection that the inputs use too.
"""

import asyncio
from typing import Any

from protocols.drivers.gpio import open_factory
from protocols.gpio.config import Gpio
from protocols.gpio.lines import LineFault

_OWN = ("libgpiod", "bench", "hil")


class OutputPins:
    """The pins that are driven. What cannot be driven raises `LinkLost` and may be tried again."""

    def __init__(self, config: Gpio) -> None:
        self._config = config
        self._factory: Any = None
        self._devices: dict[str | int, Any] = {}
        self._opening = asyncio.Lock()

    async def drive(self, pin: str | int, *, high: bool) -> None:
        """Make a pin an output with this level; gapless where it is one already.

        Raises `LinkLost` (`LineFault` for a single line), `ConfigError` without its library.
        """
        from gpiozero import GPIOZeroError, OutputDevice  # noqa: PLC0415 - only where used

        async with self._opening:
            if self.lost:
                self.close()
            if self._factory is None:
                self._factory = await open_factory(self._config)
        try:
            device = self._devices.get(pin)
            if device is None:
                self._devices[pin] = OutputDevice(
                    pin, initial_value=high, pin_factory=self._factory
                )
            else:
                device.value = high
        except LineFault:
            self._give_up(pin)
            raise
        except (GPIOZeroError, OSError) as error:
            self._give_up(pin)
            raise LineFault(f"output {pin} cannot be driven: {error}", reason="failed") from error
        if self.lost:
            raise self._factory.lost

    @property
    def lost(self) -> bool:
        """Tell whether the way to all pins is gone: everything has to be driven again."""
        factory = self._factory
        own = factory is not None and self._config.factory in _OWN
        return bool(own and factory.lost is not None)

    def close(self) -> None:
        """Give every pin back."""
        for pin in list(self._devices):
            self._give_up(pin)
        if self._factory is not None:
            self._factory.close()
            self._factory = None

    def _give_up(self, pin: str | int) -> None:
        device = self._devices.pop(pin, None)
        if device is not None:
            device.close()
