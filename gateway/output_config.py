"""The `[[output]]` section: what this gateway can switch, and what each output is when nobody rules it."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

import msgspec

from events.points import NAME_PATTERN, POINT_LENGTH_MAX, POINT_PATTERN
from protocols.gpio.config import Gpio, line_name, line_number
from protocols.modbus.config import Bus

PULSE_S_MAX = 3600.0

PointId = Annotated[str, msgspec.Meta(pattern=POINT_PATTERN, max_length=POINT_LENGTH_MAX)]
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, max_length=64)]
LineName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
LineOffset = Annotated[int, msgspec.Meta(ge=0, le=1023)]
Word = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
PulseS = Annotated[float, msgspec.Meta(gt=0, le=PULSE_S_MAX)]

Path = tuple[str | int, ...]
Finding = tuple[Path, str, bool]
"""Path inside the list of outputs, message, and whether it is only a warning."""


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One output: a pin of this machine, or a coil of a unit on a bus.

    pin: the kernel's name of the line, or its number; `[gpio]` says whose pins they are.
    bus, unit, coil: ids of a `[[bus]]` and of its unit, and the coil's address as in the request.
    active_high: the output is on while the line is high, or the coil set.
    fail_safe: what it is from the start of the program until somebody rules it, and after its stop.
    pulse_max_s: the longest pulse that is taken.
    """

    id: PointId
    label: str = ""
    subkind: str = ""
    pin: LineName | LineOffset | None = None
    bus: Name | None = None
    unit: Name | None = None
    coil: Word | None = None
    active_high: bool = True
    fail_safe: Literal["off", "on"] = "off"
    pulse_max_s: PulseS = 60.0

    @property
    def safe(self) -> bool:
        return self.fail_safe == "on"


def check(outputs: Sequence[Output], buses: Sequence[Bus], pins: Gpio | None) -> Iterator[Finding]:
    """Yield every cross-field fault of the outputs."""
    inputs = {line_name(point.line): point.id for point in pins.point} if pins else {}
    units = {bus.id: {unit.id for unit in bus.unit} for bus in buses}
    owners: dict[str, str] = {}
    for index, output in enumerate(outputs):
        named = [output.bus, output.unit, output.coil]
        if output.pin is not None and any(part is not None for part in named):
            yield (index, "pin"), "an output has a pin, or a bus, unit and coil, not both", False
            continue
        key = "coil"
        if output.pin is not None:
            yield from _pin(index, output, pins, inputs)
            key, place = "pin", f"line {line_name(output.pin)}"
        elif None in named:
            yield from _incomplete(index, output)
            continue
        else:
            yield from _coil(index, output, units)
            place = f"coil {output.coil} of {output.bus}/{output.unit}"
        owner = owners.setdefault(place, output.id)
        if owner != output.id:
            yield (index, key), f"{place} is already driven by {owner!r}", False


def _pin(
    index: int, output: Output, pins: Gpio | None, inputs: dict[str, str]
) -> Iterator[Finding]:
    assert output.pin is not None  # noqa: S101 - asked for outputs with a pin alone
    reader = inputs.get(line_name(output.pin))
    if reader is not None:
        yield (index, "pin"), f"line {output.pin} is read by the point {reader!r}", False
    factory = "libgpiod" if pins is None else pins.factory
    if factory == "rpigpio":
        yield (
            (index, "pin"),
            "factory 'rpigpio' lets go of every pin whenever the inputs begin anew;"
            ' outputs need factory = "libgpiod"',
            False,
        )
    if factory not in ("libgpiod", "bench", "hil") and line_number(output.pin) is None:
        yield (
            (index, "pin"),
            f"factory {factory!r} knows no line names; give the number of the pin (GPIOn)",
            False,
        )


def _incomplete(index: int, output: Output) -> Iterator[Finding]:
    named = {"bus": output.bus, "unit": output.unit, "coil": output.coil}
    lacks = [name for name, value in named.items() if value is None]
    message = f"a coil is named by bus, unit and coil: {' and '.join(lacks)} missing"
    if len(lacks) == len(named):
        message = "neither a pin nor a bus, unit and coil: nothing would be switched"
    yield (index,), message, False


def _coil(index: int, output: Output, units: dict[str, set[str]]) -> Iterator[Finding]:
    bus, unit = output.bus or "", output.unit or ""
    if bus not in units:
        yield (index, "bus"), f"there is no [[bus]] {bus!r}", False
    elif unit not in units[bus]:
        yield (index, "unit"), f"bus {bus!r} has no unit {unit!r}", False
