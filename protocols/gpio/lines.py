"""Which line of which chip is meant: chips, their lines, and the names people use for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from events.errors import LinkLost
from protocols.gpio.config import line_name, line_number

Reason = Literal["missing", "busy", "forbidden", "pull", "failed"]

HEADER_LABELS = ("pinctrl-rp1", "pinctrl-bcm2711", "pinctrl-bcm2835")
"""Labels of the chips behind the 40-pin header: Raspberry Pi 5, 4, and earlier."""

PULL_DRIVERS = ("pinctrl-", "gpio-sim")
"""How the names of drivers begin that set pulls.

The kernel takes a pull for any line and drops it silently where the hardware has none, so that
only the driver's name tells a resistor from a floating input.
"""


class LineFault(LinkLost):
    """One line cannot be had, or not as configured."""

    def __init__(self, message: str, *, reason: Reason, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A GPIO chip: device path, kernel name, label, driver, and the name of each line or ""."""

    path: str
    name: str
    label: str
    driver: str
    lines: tuple[str, ...]

    @property
    def sets_pulls(self) -> bool:
        return self.driver.startswith(PULL_DRIVERS) or self.label.startswith(PULL_DRIVERS)

    def answers_to(self, word: str) -> bool:
        return word in (self.path, self.name, self.label)


def locate(chips: Sequence[Chip], line: str | int, chip: str | None = None) -> tuple[Chip, int]:
    """Return the chip and the offset that `line` names, on `chip` if one is given.

    A line may be given as `CHIP:LINE` too. The kernel's names of lines come first; `GPIOn`, and a
    number, otherwise mean offset n on the named chip, on the chip of a Raspberry Pi's header, or
    on the only chip there is. Raises `LineFault`.
    """
    if chip is None and isinstance(line, str) and ":" in line:
        word, _, rest = line.partition(":")
        if any(entry.answers_to(word) for entry in chips):
            return locate(chips, rest, word)
    among = [entry for entry in chips if chip is None or entry.answers_to(chip)]
    if not among:
        raise _missing_chip(chips, chip)
    wanted = line_name(line)
    named = [
        (entry, offset)
        for entry in among
        for offset, name in enumerate(entry.lines)
        if name == wanted
    ]
    if len(named) > 1:
        where = ", ".join(entry.name for entry, _ in named)
        raise LineFault(
            f"line {wanted} exists more than once (on {where})",
            reason="missing",
            hint="Name its chip, or give the number of the line on it.",
        )
    if named:
        return named[0]
    return _numbered(among, line)


def _numbered(among: Sequence[Chip], line: str | int) -> tuple[Chip, int]:
    number = line_number(line)
    wanted = line_name(line)
    if number is None:
        raise LineFault(
            f"no line is named {wanted}",
            reason="missing",
            hint="`gpioinfo` lists the names; they come from the device tree.",
        )
    header = [entry for entry in among if entry.label in HEADER_LABELS]
    fitting = header if len(header) == 1 else among
    if len(fitting) > 1:
        raise LineFault(
            f"line {wanted} may be on any of {', '.join(entry.name for entry in fitting)}",
            reason="missing",
            hint='Name the chip: `chip = "LABEL"`.',
        )
    entry = fitting[0]
    if number >= len(entry.lines):
        raise LineFault(
            f"{entry.name} ({entry.label}) has lines 0 to {len(entry.lines) - 1}, not {number}",
            reason="missing",
        )
    return entry, number


def _missing_chip(chips: Sequence[Chip], chip: str | None) -> LineFault:
    present = ", ".join(f"{entry.name} ({entry.label})" for entry in chips) or "none"
    what = "no GPIO chip" if chip is None else f"no GPIO chip {chip}"
    return LineFault(
        f"there is {what} on this machine",
        reason="missing",
        hint=f"Chips that can be opened here: {present}.",
    )
