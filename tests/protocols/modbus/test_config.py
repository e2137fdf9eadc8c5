"""The `[[bus]]` section: the sample, and every fault that only shows across fields."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

import protocols.modbus
from protocols.modbus.bus import ModbusBus
from protocols.modbus.config import Bus, Point, Unit, check
from protocols.modbus.map import read_point
from protocols.ports import SerialPort
from tests.protocols.modbus.world import Remembered, contact, serial_bus, tcp_bus

SAMPLE = Path(protocols.modbus.__file__).with_name("sample.toml")


def sample() -> list[Bus]:
    table = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    assert list(table) == ["bus"]
    return msgspec.convert(table["bus"], list[Bus])


def one(point: Point, **changes: Any) -> Bus:
    return serial_bus([Unit(id="u1", unit=1, point=(point,))], **changes)


def test_the_sample_is_without_fault_and_starts() -> None:
    buses = sample()
    for bus in buses:
        assert list(check(bus)) == []
        ModbusBus(bus, Remembered())
    assert {point.id for bus in buses for unit in bus.unit for point in unit.point} >= {
        "hall/panic",
        "kitchen/current",
        "boiler/energy",
    }


def test_the_sample_means_what_its_comments_say() -> None:
    points = {point.id: point for bus in sample() for unit in bus.unit for point in unit.point}
    assert read_point(points["kitchen/current"], (1234,)).value == 12.34
    assert read_point(points["kitchen/arc"], (1,)).value is True
    assert read_point(points["boiler/heat"], (600,)).value == 60.0
    assert read_point(points["boiler/energy"], (1, 2)).value == 0x20001


@pytest.mark.parametrize(
    ("bus", "path"),
    [
        (Bus(id="b", driver="modbus-rtu", address="10.0.0.1"), ("driver",)),
        (Bus(id="b", driver="modbus-tcp", port=SerialPort(path="/dev/ttyS0")), ("driver",)),
        (
            Bus(
                id="b",
                driver="modbus-tcp",
                address="10.0.0.1",
                port=SerialPort(path="/dev/ttyS0"),
            ),
            ("address",),
        ),
        (Bus(id="b", driver="modbus-tcp", address="10.0.0.1:99999"), ("address",)),
        (Bus(id="b", driver="modbus-tcp", address=""), ("address",)),
        (
            Bus(id="b", driver="modbus-rtu", port=SerialPort(path="/dev/ttyS0", data_bits=7)),
            ("port", "data_bits"),
        ),
        (
            serial_bus([Unit(id="a", unit=1), Unit(id="b", unit=1)]),
            ("unit", 1, "unit"),
        ),
        (serial_bus([Unit(id="a", unit=1), Unit(id="a", unit=2)]), ("unit", 1, "id")),
        (
            serial_bus([Unit(id="a", unit=1, point=(contact("x"), contact("x")))]),
            ("unit", 0, "point", 1, "id"),
        ),
        (one(contact("bus/u1")), ("id",)),
        (serial_bus([Unit(id="a", unit=0)]), ("unit", 0, "unit")),
        (serial_bus([Unit(id="a", unit=248)]), ("unit", 0, "unit")),
        (one(contact(type="uint16")), ("unit", 0, "point", 0, "type")),
        (one(contact(bit=1)), ("unit", 0, "point", 0, "bit")),
        (
            one(contact(table="holding", type="uint32", bit=1)),
            ("unit", 0, "point", 0, "bit"),
        ),
        (
            one(contact(table="holding", type="uint64", address=65533)),
            ("unit", 0, "point", 0, "address"),
        ),
        (one(contact(kind="measurement")), ("unit", 0, "point", 0, "kind")),
        (one(contact(threshold=1)), ("unit", 0, "point", 0, "threshold")),
        (
            one(contact(table="input", threshold=1, active=False)),
            ("unit", 0, "point", 0, "active"),
        ),
        (one(contact(table="input", scale=0)), ("unit", 0, "point", 0, "scale")),
        (
            serial_bus(
                [
                    Unit(
                        id="a",
                        unit=1,
                        read_max=1,
                        point=(contact(table="input", type="float32"),),
                    )
                ]
            ),
            ("unit", 0, "point", 0, "type"),
        ),
    ],
)
def test_a_fault_names_its_place(bus: Bus, path: tuple[str | int, ...]) -> None:
    faults = [(where, warning) for where, message, warning in check(bus) if message]
    assert (path, False) in faults


@pytest.mark.parametrize(
    ("bus", "path"),
    [
        (
            serial_bus(
                [Unit(id=f"u{n}", unit=n, point=(contact(f"p{n}"),)) for n in range(1, 33)]
            ),
            ("unit",),
        ),
        (
            serial_bus(
                [Unit(id=f"u{n}", unit=n, point=(contact(f"p{n}"),)) for n in range(1, 33)],
                timeout_ms=1000,
            ),
            ("timeout_ms",),
        ),
        (serial_bus([Unit(id="a", unit=1)]), ("unit", 0)),
        (one(contact(table="input", hysteresis=1)), ("unit", 0, "point", 0, "hysteresis")),
        (one(contact(table="input", deadband=1)), ("unit", 0, "point", 0, "deadband")),
        (one(contact(), timeout_ms=20), ("unit", 0, "timeout_ms")),
        (tcp_bus([Unit(id="a", unit=250)]), ("unit", 0, "unit")),
    ],
)
def test_what_is_only_doubtful_is_a_warning(bus: Bus, path: tuple[str | int, ...]) -> None:
    found = list(check(bus))
    assert (path, True) in [(where, warning) for where, _, warning in found]
    assert all(warning for _, _, warning in found)


def test_every_fault_is_named_at_once() -> None:
    bus = serial_bus(
        [Unit(id="a", unit=0, point=(contact("x", type="int16"), contact("x", threshold=1)))]
    )
    assert len([found for found in check(bus) if not found[2]]) == 4


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.1:502", "tcp://module:502"])
def test_addresses_are_accepted_with_and_without_scheme_and_port(address: str) -> None:
    unit = Unit(id="a", unit=255, point=(contact(),))
    assert list(check(Bus(id="b", driver="modbus-tcp", address=address, unit=(unit,)))) == []


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"table": "coils"},
        {"address": 65536},
        {"kind": "alarms"},
        {"word_order": "ACBD"},
        {"period_s": 0},
        {"bit": 16},
        {"id": "Door"},
    ],
)
def test_a_field_of_the_wrong_shape_is_refused(change: dict[str, Any]) -> None:
    table = {"id": "door", "table": "holding", "address": 0, "kind": "alarm", **change}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(table, Point)
