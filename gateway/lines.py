"""From configuration sections to drivers: only what is configured is ever imported."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import msgspec

from gateway.config_checks import GPIO_LINE
from gateway.sections import Configuration
from gateway.supervisor import Build
from protocols.drivers import DRIVERS
from protocols.drivers.base import Context, Driver

RECEIVER_TAG = "contact-id"
GPIO_TAG = "gpio"


def lines(configuration: Configuration) -> Iterator[tuple[str, str, Build]]:
    """Yield section, id and way to build of every configured line."""
    for bus in configuration.bus:
        yield "bus", bus.id, _builder(bus.driver, bus)
    for receiver in configuration.receiver:
        yield "receiver", receiver.id, _builder(RECEIVER_TAG, receiver)
    pins = configuration.gpio
    if pins is not None:
        if configuration.gateway.bench:
            pins = msgspec.structs.replace(pins, bench=True)
        yield "gpio", GPIO_LINE, _builder(GPIO_TAG, pins)


def urgent_points(configuration: Configuration) -> frozenset[str]:
    """Return the points that are urgent because their configuration says so."""
    points: list[Any] = [
        point for bus in configuration.bus for unit in bus.unit for point in unit.point
    ]
    points += [point for receiver in configuration.receiver for point in receiver.point]
    points += configuration.gpio.point if configuration.gpio is not None else ()
    points += configuration.receiver  # what a receiver says of itself, under its own id
    return frozenset(point.id for point in points if point.urgent)


def _builder(tag: str, section: Any) -> Build:
    def build(context: Context) -> Driver:
        module, _, name = DRIVERS[tag].partition(":")
        driver: Driver = getattr(import_module(module), name)(section, context)
        return driver

    return build
