"""One bus with one unit, for the tests of the bus owner."""

from typing import Any

import pytest

from protocols.modbus.sections import Bus, Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedUnit
from tests.protocols.modbus.world import World, contact, serial_bus, tcp_bus

BOTH = pytest.mark.parametrize("driver", ["rtu", "tcp"])


def one_unit(driver: str, **changes: Any) -> Bus:
    unit = Unit(id="u1", unit=1, point=(contact(),), period_s=1.0)
    return tcp_bus([unit], **changes) if driver == "tcp" else serial_bus([unit], **changes)


def open_world(
    driver: str = "rtu",
    *,
    misbehaviour: Misbehaviour | None = None,
    exception: int | None = None,
    **changes: Any,
) -> tuple[World, SimulatedUnit]:
    unit = SimulatedUnit(unit=1, misbehaviour=misbehaviour, exception=exception)
    return World(one_unit(driver, **changes), [unit]), unit


def changes_of(found: World, point: str = "door") -> list[str]:
    return [each.qualifier for each in found.observed(point, "alarm")]
