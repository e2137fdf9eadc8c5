"""What the guest tries: the product's pin factory and driver on the kernel's own GPIO chip.

It only tells what it saw; whether that is right is judged outside. Lines are moved by asking on
the console (see `machine`).
"""

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from typing import Any

import msgspec
from gpiozero import DigitalInputDevice, DigitalOutputDevice

from events.errors import NplusError
from events.model import Instant, Observation
from protocols.drivers.base import Context
from protocols.drivers.gpio import GpioDriver
from protocols.drivers.gpio_pins import Edge
from protocols.drivers.gpiod_pins import GpiodFactory, chips
from protocols.gpio.config import Gpio
from protocols.gpio.lines import LineFault

RELEASED, PRESSED = 0, 1
STORM_EDGES = 39

_POINT = {"contact": "no", "kind": "alarm", "pull": "external", "closed_level": "high"}
POINTS = (
    {**_POINT, "id": "panic", "line": 0, "qualify_ms": 100, "restore_ms": 100},
    {**_POINT, "id": "door", "line": "GPIO1", "contact": "nc", "qualify_ms": 100},
    {**_POINT, "id": "pulled", "line": 2, "pull": "up", "closed_level": None, "qualify_ms": 50},
    {**_POINT, "id": "taken", "line": 4, "qualify_ms": 50},
)


def tell(**message: Any) -> None:
    sys.stdout.write("@" + json.dumps(message) + "\n")
    sys.stdout.flush()


def drive(*changes: tuple[int, int]) -> None:
    """Have lines moved from outside, and wait until they are. The loop stands meanwhile."""
    tell(drive=changes)
    answer = sys.stdin.readline()
    if answer.strip() != "done":
        raise RuntimeError(f"the bench answered {answer!r}")


def storm(line: int) -> None:
    """Move a line 39 times, up at last, each slowly enough to be an edge; nobody reads them."""
    for index in range(STORM_EDGES):
        drive((line, 1 - index % 2))


def try_chips() -> None:
    tell(facts="chips", kernel=os.uname().release, chips=[asdict(chip) for chip in chips()])


def try_levels() -> None:
    with GpiodFactory() as factory:
        device = DigitalInputDevice(5, pull_up=None, active_state=True, pin_factory=factory)
        levels = []
        for level in (1, 0, 1, 0):
            drive((5, level))
            levels.append(device.value)
        name = device.pin.info.name
        device.close()
        again = DigitalInputDevice("GPIO5", pull_up=None, active_state=False, pin_factory=factory)
        tell(facts="levels", levels=levels, name=name, inverted=again.value)


async def try_edges() -> None:
    with GpiodFactory() as factory:
        device = DigitalInputDevice(5, pull_up=None, active_state=True, pin_factory=factory)
        edges: list[Edge] = []
        calls: list[str] = []
        device.when_activated = lambda: calls.append("activated")
        device.when_deactivated = lambda: calls.append("deactivated")
        device.pin.listener = edges.append
        limits = []
        for level in (1, 0, 1, 0):
            before = time.monotonic()
            drive((5, level))
            limits.append((before, time.monotonic()))
            await asyncio.sleep(0.05)
        tell(
            facts="edges",
            edges=[asdict(edge) for edge in edges],
            limits=limits,
            calls=calls,
            inactive_time=device.inactive_time,
        )
        device.close()
        drive((5, 1), (5, 0))
        await asyncio.sleep(0.05)
        tell(facts="closed", calls=len(calls), edges=len(edges))


async def try_debounce() -> None:
    with GpiodFactory() as factory:
        device = DigitalInputDevice(
            5, pull_up=None, active_state=True, bounce_time=0.05, pin_factory=factory
        )
        calls: list[str] = []
        device.when_activated = lambda: calls.append("activated")
        drive((5, 1), (5, 0), (5, 1), (5, 0), (5, 1))
        await asyncio.sleep(0.2)
        drive((5, 0))
        await asyncio.sleep(0.1)
        tell(facts="debounce", calls=calls)


def try_output() -> None:
    with GpiodFactory() as factory:
        siren = DigitalOutputDevice(6, pin_factory=factory)
        values = [siren.value]
        for _ in range(2):
            siren.on()
            values.append(siren.value)
            siren.off()
            values.append(siren.value)
        siren.close()
        fail_safe = DigitalOutputDevice(
            7, active_high=False, initial_value=True, pin_factory=factory
        )
        values.append(fail_safe.pin.state)
        fail_safe.close()
        tell(facts="output", values=values)


def try_refusals() -> None:
    refusals: dict[str, dict[str, str]] = {}

    def attempt(name: str, action: Callable[[], object]) -> None:
        try:
            action()
        except NplusError as error:
            reason = error.reason if isinstance(error, LineFault) else type(error).__name__
            refusals[name] = {"reason": reason, "text": str(error), "hint": error.hint}
        else:
            refusals[name] = {"reason": "none"}

    with GpiodFactory() as one, GpiodFactory() as two:
        holder = DigitalInputDevice(4, pull_up=None, active_state=True, pin_factory=one)
        attempt(
            "busy",
            lambda: DigitalInputDevice(4, pull_up=None, active_state=True, pin_factory=two),
        )
        attempt("pull", lambda: DigitalInputDevice(5, pull_up=True, pin_factory=one))
        attempt("name", lambda: DigitalInputDevice("ZONE-1", pull_up=True, pin_factory=one))
        attempt("number", lambda: DigitalInputDevice(9, pull_up=True, pin_factory=one))
        attempt("spi", lambda: two.spi(port=0, device=0))
        held = holder.value
    with GpiodFactory(chip="gpiochip7") as elsewhere:
        attempt("chip", lambda: DigitalInputDevice(1, pull_up=True, pin_factory=elsewhere))
    tell(facts="refusals", refusals=refusals, held=held)


def try_lost_edges() -> None:
    with GpiodFactory(event_buffer_size=4) as factory:
        device = DigitalInputDevice(5, pull_up=None, active_state=True, pin_factory=factory)
        edges: list[Edge] = []
        device.pin.listener = edges.append
        drive((5, 1))
        drive((5, 0))
        factory.drain()
        calm = len(edges), sum(edge.lost for edge in edges)
        storm(5)
        factory.drain()
        tell(
            facts="lost_edges",
            calm=calm,
            read=len(edges) - calm[0],
            lost=[edge.lost for edge in edges[calm[0] :]],
            level=edges[-1].level,
            value=device.value,
        )
        drive((5, 0))


class Memory:
    """A store that has never stored anything."""

    boot_id = "guest"

    def latest(self, point: str, kind: str, subkind: str) -> None:
        return None

    def last_raw(self, source: str) -> None:
        return None

    def last_record(self) -> None:
        return None


async def try_driver() -> None:
    config = msgspec.convert({"event_buffer_size": 4, "point": POINTS}, Gpio)
    told: list[tuple[float, Observation]] = []

    async def report(observations: Sequence[Observation]) -> None:
        told.extend((time.monotonic(), seen) for seen in observations)

    context = Context(
        clock=lambda: Instant(monotonic=time.monotonic()),
        memory=Memory(),
    )
    driver = GpioDriver(config, context)
    drive((1, 1), (2, 1))
    other = GpiodFactory()
    holder = DigitalInputDevice(4, pull_up=None, active_state=True, pin_factory=other)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(driver.run(report))
        await asyncio.sleep(0.5)
        before = time.monotonic()
        drive((0, PRESSED))
        after = time.monotonic()
        await asyncio.sleep(0.4)
        drive((0, RELEASED))
        await asyncio.sleep(0.4)
        pulses = time.monotonic()
        drive((0, PRESSED), (0, RELEASED))  # too short to count
        await asyncio.sleep(0.3)
        drive((1, 0), (2, 0))  # a cut wire, and a contact on a line without its pull
        await asyncio.sleep(0.4)
        holder.close()
        await asyncio.sleep(2.5)  # the taken line is tried again every 2 s
        stormed = time.monotonic()
        storm(0)
        await asyncio.sleep(0.6)
        health = driver.health()
        running.cancel()
    other.close()
    tell(
        facts="driver",
        limits={"before": before, "after": after, "pulses": pulses, "storm": stormed},
        told=[(at, msgspec.to_builtins(seen)) for at, seen in told],
        health=msgspec.to_builtins(health),
    )


TRIALS: tuple[Callable[[], Coroutine[Any, Any, None] | None], ...] = (
    try_chips,
    try_levels,
    try_edges,
    try_debounce,
    try_output,
    try_refusals,
    try_lost_edges,
    try_driver,
)


def main() -> None:
    for trial in TRIALS:
        try:
            running = trial()
            if running is not None:
                asyncio.run(running)
        except Exception:  # noqa: BLE001 - a failed trial is told, and the others go on
            tell(facts=trial.__name__.removeprefix("try_"), failed=traceback.format_exc())
    tell(end=time.monotonic())


if __name__ == "__main__":
    main()
