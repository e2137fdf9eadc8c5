"""Dry contacts on pins: gpiozero's devices below, the qualification engine above.

With this product's own factories the edges come through the loop's descriptors with their own
times. gpiozero's factories call from threads of their libraries; those calls do nothing but hop
onto the loop.
"""

import asyncio
import contextlib
import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from events.errors import ConfigError, LinkLost
from events.model import Instant, Observation
from protocols.drivers.base import Context, Health, Report
from protocols.drivers.gpio_outbox import Outbox
from protocols.gpio.config import Gpio, GpioPoint
from protocols.gpio.lines import LineFault
from protocols.gpio.point import SOURCE, ContactPoint, microseconds

RECONCILE_S = 0.1
"""How often every level is read back, to find edges that nobody told us of."""

REOPEN_S = 2.0
"""How often a line that could not be had is tried again."""

_GPIOZERO_FACTORIES = {
    "lgpio": "gpiozero.pins.lgpio:LGPIOFactory",
    "rpigpio": "gpiozero.pins.rpigpio:RPiGPIOFactory",
    "pigpio": "gpiozero.pins.pigpio:PiGPIOFactory",
    "native": "gpiozero.pins.native:NativeFactory",
    "mock": "gpiozero.pins.mock:MockFactory",
}


async def open_factory(config: Gpio) -> Any:
    """Return the pin factory that the configuration names.

    Raises `LinkLost` when it cannot reach its pins, `ConfigError` when its library is missing.
    """
    if config.factory == "libgpiod":
        from protocols.drivers.gpiod_pins import GpiodFactory  # noqa: PLC0415 - only where used

        return GpiodFactory(chip=config.chip, event_buffer_size=config.event_buffer_size)
    if config.factory in ("bench", "hil"):
        from protocols.drivers.bench_pins import bench_socket, connect  # noqa: PLC0415 - as above

        return await connect(bench_socket(config.bench_socket))
    return _gpiozero_factory(config.factory)


def _gpiozero_factory(name: str) -> Any:
    from gpiozero import GPIOZeroError  # noqa: PLC0415 - only where used

    module, _, attribute = _GPIOZERO_FACTORIES[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)()
    except ImportError as error:
        raise ConfigError(
            f"the pin factory {name!r} needs a library that is not installed: {error}",
            hint='Install it, or use the default, factory = "libgpiod".',
        ) from error
    except (GPIOZeroError, OSError) as error:
        raise LinkLost(
            f"the pin factory {name!r} does not start: {error}",
            hint='factory = "libgpiod" works on any machine with a GPIO chip.',
        ) from error


@dataclass(slots=True, kw_only=True)
class _Line:
    """A point and the gpiozero device on its line, while there is one."""

    point: ContactPoint
    device: Any = None
    fault: str = ""
    retry_at: float = 0.0


class GpioDriver:
    """All configured contacts of the machine.

    A line that cannot be had is a fault of its own point and is tried again; the others go on.
    Keep the object across losses: it knows what has been reported since the program started.
    """

    def __init__(self, config: Gpio, context: Context) -> None:
        self._config = config
        self._context = context
        self._lines = [_Line(point=ContactPoint(point, context.memory)) for point in config.point]
        self._outbox = Outbox()
        self._factory: Any = None
        self._wake = asyncio.Event()

    @property
    def id(self) -> str:
        return SOURCE

    async def run(self, report: Report) -> None:
        """Watch until cancelled. Raises `LinkLost` when no pin at all can be reached."""
        self._factory = await open_factory(self._config)
        lost: LinkLost | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                self._outbox.open(report, tasks)
                lost = await self._watch()
                await self._outbox.close()
        finally:
            self._close()
        if lost is not None:
            raise lost

    def health(self) -> Health:
        counters = [line.point.counters for line in self._lines]
        return Health(
            up=any(line.device is not None for line in self._lines),
            counters={
                "edges": sum(counter.edges for counter in counters),
                "lost_edges": sum(counter.lost_edges for counter in counters),
                "gaps": sum(counter.gaps for counter in counters),
                "reported": self._outbox.reported,
                "store_retries": self._outbox.retries,
                "dropped": self._outbox.dropped,
            },
            details={"factory": self._config.factory},
            units={
                line.point.id: {"up": line.device is not None, **line.point.status()}
                for line in self._lines
            },
        )

    async def _watch(self) -> LinkLost:
        """Watch the lines; return why no pin can be reached any more."""
        own = self._config.factory not in _GPIOZERO_FACTORIES
        if own:
            self._factory.on_lost = self._wake.set
        faults = [self._open(line) for line in self._lines]
        if faults and all(faults):
            return next(fault for fault in faults if fault is not None)
        reconcile_at = self._now().monotonic + RECONCILE_S
        while not own or self._factory.lost is None:
            if own:
                self._factory.drain()
            now = self._now()
            if now.monotonic >= reconcile_at:
                self._read_back(now, all_lines=True)
                self._reopen(now)
                reconcile_at = now.monotonic + RECONCILE_S
            else:
                self._read_back(now, all_lines=False)
            for line in self._lines:
                if line.device is not None:
                    self._outbox.put(line.point.timeout(now))
            await self._sleep(reconcile_at)
        lost: LinkLost = self._factory.lost
        return lost

    async def _sleep(self, until: float) -> None:
        """Wait for an edge, for the next deadline, or for the next reading."""
        for line in self._lines:
            deadline = line.point.deadline()
            if line.device is not None and deadline is not None:
                until = min(until, deadline)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        self._wake.clear()

    def _read_back(self, now: Instant, *, all_lines: bool) -> None:
        """Read the levels of all lines, or of those that are about to report."""
        for line in self._lines:
            deadline = line.point.deadline()
            due = deadline is not None and deadline <= now.monotonic
            if line.device is None or not (all_lines or due):
                continue
            try:
                level = _level(line)
            except LineFault as fault:
                self._give_up(line, fault, now)
                continue
            self._outbox.put(line.point.reading(level=level, now=now))

    def _reopen(self, now: Instant) -> None:
        waiting = [
            line for line in self._lines if line.device is None and now.monotonic >= line.retry_at
        ]
        if waiting and self._config.factory == "libgpiod":
            self._factory.relocate()
        for line in waiting:
            self._open(line)

    def _open(self, line: _Line) -> LineFault | None:
        """Take a line and begin to watch it; return why not. Faults become observations."""
        point = line.point
        try:
            try:
                line.device = self._device(point.config, pull=True)
                self._outbox.put(point.pull_fault(""))
            except LineFault as fault:
                if fault.reason != "pull":
                    raise
                # a contact that may float is still better watched than not
                line.device = self._device(point.config, pull=False)
                self._outbox.put(point.pull_fault(_text(fault)))
            self._listen(line)
            level = _level(line)
        except LineFault as fault:
            self._give_up(line, fault, self._now())
            return fault
        self._outbox.put(point.line_fault(""))
        self._outbox.put(point.start(level=level, now=self._now()))
        return None

    def _give_up(self, line: _Line, fault: LineFault, now: Instant) -> None:
        line.retry_at = now.monotonic + REOPEN_S
        if line.device is not None:
            line.device.close()
            line.device = None
        self._outbox.put(line.point.line_fault(_text(fault)))

    def _device(self, point: GpioPoint, *, pull: bool) -> Any:
        from gpiozero import DigitalInputDevice, GPIOZeroError  # noqa: PLC0415 - only where used

        pull_up = {"up": True, "down": False}.get(point.pull) if pull else None
        name = point.line if point.chip is None else f"{point.chip}:{point.line}"
        try:
            return DigitalInputDevice(
                name,
                pull_up=pull_up,
                active_state=True if pull_up is None else None,
                pin_factory=self._factory,
            )
        except (GPIOZeroError, OSError) as error:
            raise LineFault(f"line {name} cannot be taken: {error}", reason="failed") from error

    def _listen(self, line: _Line) -> None:
        if self._config.factory not in _GPIOZERO_FACTORIES:

            def on_edge(edge: Any) -> None:
                self._edge(line, level=edge.level, at_us=edge.at_us, lost=edge.lost)

            line.device.pin.listener = on_edge
            return
        loop = asyncio.get_running_loop()
        pulled_up = line.device.pull_up is True
        line.device.when_activated = self._hop(loop, line, level=not pulled_up)
        line.device.when_deactivated = self._hop(loop, line, level=pulled_up)

    def _hop(
        self, loop: asyncio.AbstractEventLoop, line: _Line, *, level: bool
    ) -> Callable[[], None]:
        """Return a callback for a thread of the pin library: it only hops onto the loop."""

        def hop() -> None:
            at_us = microseconds(time.monotonic())
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody watches any more
                loop.call_soon_threadsafe(lambda: self._edge(line, level=level, at_us=at_us))

        return hop

    def _edge(self, line: _Line, *, level: bool, at_us: int, lost: int = 0) -> None:
        if line.device is None:
            return
        seen: list[Observation] = line.point.edge(level=level, at_us=at_us, lost=lost)
        self._outbox.put(seen)
        self._wake.set()

    def _close(self) -> None:
        for line in self._lines:
            if line.device is not None:
                line.device.close()
                line.device = None
        self._factory.close()

    def _now(self) -> Instant:
        return self._context.clock()


def _level(line: _Line) -> bool:
    """Return whether the line is high. Raises `LineFault`."""
    from gpiozero import GPIOZeroError  # noqa: PLC0415 - only where used

    try:
        return bool(line.device.pin.state)
    except (GPIOZeroError, OSError) as error:
        raise LineFault(f"{line.device.pin!r} cannot be read: {error}", reason="failed") from error


def _text(fault: LineFault) -> str:
    return f"{fault}. {fault.hint}" if fault.hint else str(fault)
