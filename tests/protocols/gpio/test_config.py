from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.settings import read
from protocols.gpio.config import Gpio, GpioPoint, check, line_name, line_number

SAMPLE = Path(__file__).parents[3] / "protocols" / "gpio" / "sample.toml"


class Document(msgspec.Struct, forbid_unknown_fields=True):
    gpio: Gpio


def gpio(*points: dict[str, Any], **section: Any) -> Gpio:
    base = {"contact": "no", "kind": "alarm"}
    filled = [{"id": f"zone-{i}", "line": i, **base, **point} for i, point in enumerate(points)]
    return msgspec.convert({"point": filled, **section}, Gpio)


def faults(config: Gpio, **kw: Any) -> list[tuple[tuple[str | int, ...], bool]]:
    return [(path, warning) for path, _, warning in check(config, **kw)]


def test_the_sample_is_read_whole_and_without_a_fault() -> None:
    settings = read(SAMPLE.read_text(), Document)
    assert settings.faults == []
    assert settings.value is not None
    config = settings.value.gpio
    assert list(check(config)) == []
    panic, door, tamper, pump = config.point
    assert (panic.qualify_ms, panic.restore_ms, panic.subkind) == (50, 1000, "panic")
    assert [point.active_level for point in (panic, door, tamper, pump)] == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("contact", "pull", "closed_level", "active_level"),
    [
        ("no", "up", None, False),
        ("nc", "up", None, True),
        ("no", "down", None, True),
        ("nc", "down", None, False),
        ("no", "external", "high", True),
        ("nc", "external", "high", False),
        ("no", "external", None, False),
    ],
)
def test_the_active_level_follows_from_the_wiring(
    contact: str, pull: str, closed_level: str | None, active_level: bool
) -> None:
    (point,) = gpio({"contact": contact, "pull": pull, "closed_level": closed_level}).point
    assert point.active_level is active_level


@pytest.mark.parametrize(
    ("one", "two"), [(5, "GPIO5"), ("5", 5), ("ZONE-1", "ZONE-1"), ("GPIO05", "5")]
)
def test_a_line_claimed_twice_is_a_fault_under_any_of_its_names(
    one: int | str, two: int | str
) -> None:
    assert faults(gpio({"line": one}, {"line": two})) == [(("point", 1, "line"), False)]


def test_the_same_number_on_two_chips_is_two_lines() -> None:
    assert faults(gpio({"line": 5, "chip": "a"}, {"line": 5, "chip": "b"})) == []


def test_every_fault_is_found_at_once() -> None:
    config = gpio(
        {"id": "a", "line": 1, "closed_level": "high"},
        {"id": "a", "line": 1},
        {"pull": "down", "closed_level": "low"},
        {"pull": "none"},
        {"kind": "alram"},
    )
    assert faults(config) == [
        (("point", 0, "id"), False),
        (("point", 0, "closed_level"), False),
        (("point", 1, "id"), False),
        (("point", 1, "line"), False),
        (("point", 2, "closed_level"), False),
        (("point", 3, "pull"), True),
        (("point", 4, "kind"), True),
    ]


@pytest.mark.parametrize("factory", ["bench", "hil", "mock"])
def test_the_bench_is_refused_unless_the_gateway_is_one(factory: str) -> None:
    config = gpio({}, factory=factory)
    assert faults(config) == [(("factory",), False)]
    assert faults(config, bench=True) == []
    assert faults(gpio({}, factory=factory, bench=True)) == []


@pytest.mark.parametrize("factory", ["lgpio", "rpigpio", "pigpio", "native"])
def test_gpiozeros_factories_know_numbers_only(factory: str) -> None:
    config = gpio({"line": "ZONE-1"}, {"line": 4, "chip": "x"}, {"line": "GPIO7"}, factory=factory)
    assert faults(config) == [(("point", 0, "line"), False), (("point", 1, "chip"), False)]


def test_settings_of_another_factory_are_faults() -> None:
    config = gpio({}, factory="lgpio", chip="gpiochip0", bench_socket="/run/bench")
    assert faults(config) == [(("bench_socket",), False), (("chip",), False)]


def test_no_points_is_worth_a_warning() -> None:
    assert faults(gpio()) == [((), True)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"qualify_ms": 0},
        {"qualify_ms": 60_001},
        {"restore_ms": -1},
        {"contact": "open"},
        {"pull": "weak"},
        {"line": -1},
        {"line": ""},
        {"kind": ""},
        {"id": "Zone 1"},
        {"debounce": 3},
    ],
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    base: dict[str, Any] = {"id": "z", "line": 1, "contact": "no", "kind": "alarm"}
    assert msgspec.convert(base, GpioPoint).qualify_ms == 250
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**base, **wrong}, GpioPoint)


def test_numbers_and_names_of_lines() -> None:
    assert [line_name(line) for line in (5, "5", "GPIO5", "ZONE-1", "GPIO-A")] == [
        "GPIO5",
        "GPIO5",
        "GPIO5",
        "ZONE-1",
        "GPIO-A",
    ]
    assert [line_number(line) for line in (5, "GPIO5", "ZONE-1")] == [5, 5, None]
