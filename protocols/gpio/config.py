"""The `[gpio]` section: dry contacts on the pins of this machine."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from events.kinds import shown_kind
from events.points import POINT_LENGTH_MAX, POINT_PATTERN

PointId = Annotated[str, msgspec.Meta(pattern=POINT_PATTERN, max_length=POINT_LENGTH_MAX)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
LineName = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
LineOffset = Annotated[int, msgspec.Meta(ge=0, le=1023)]
HoldMs = Annotated[int, msgspec.Meta(ge=1, le=60_000)]
BufferSize = Annotated[int, msgspec.Meta(ge=1, le=1024)]  # 1024 is the kernel's own limit

POINTS_MAX = 256

Path = tuple[str | int, ...]
Finding = tuple[Path, str, bool]
"""Path inside the section, message, and whether it is only a warning."""

_NUMBERED = re.compile(r"^(?:GPIO)?(\d{1,4})$")


class GpioPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One contact on one line.

    line: the kernel's name of the line (`ZONE-1`), or its number: `5` and `GPIO5` are the same.
    contact: normally open or normally closed; the point is active when the contact is not in its
        normal position, so that a cut wire makes a normally closed contact active.
    pull: `up` and `down` are the chip's own resistors, `external` those of the board, `none` is
        for a line that is always driven.
    closed_level: what the line reads while the contact is closed; by default low, and high with
        `pull = "down"`.
    qualify_ms, restore_ms: how long the contact must stay active, or at rest, to count.
    chip: as in the section, for a line on another chip.
    """

    id: PointId
    line: LineName | LineOffset
    contact: Literal["no", "nc"]
    kind: Word
    subkind: str = ""
    label: str = ""
    urgent: bool = False
    pull: Literal["up", "down", "none", "external"] = "up"
    closed_level: Literal["low", "high"] | None = None
    qualify_ms: HoldMs = 250
    restore_ms: HoldMs | None = None
    chip: str | None = None

    @property
    def active_level(self) -> bool:
        """Return the level of the line, high or not, at which the point is active."""
        default = "high" if self.pull == "down" else "low"
        closed_is_high = (self.closed_level or default) == "high"
        return closed_is_high if self.contact == "no" else not closed_is_high


class Gpio(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All contacts of the machine.

    factory: who talks to the pins. `libgpiod` is this product's own and needs no thread; `bench`
        (or `hil`) takes its pins from a test bench; the others are gpiozero's.
    bench: allows `bench` and `mock`, whose pins are not real; so does `bench = true` in `[gateway]`.
    bench_socket: where the bench listens; by default what `HIL_GPIO` in the environment names.
    chip: path, name or label of the chip on which lines are looked for; by default the header of
        a Raspberry Pi, or the only chip there is, and for named lines every chip.
    event_buffer_size: edges that the kernel keeps for each line until they are read.
    """

    factory: Literal[
        "libgpiod", "bench", "hil", "lgpio", "rpigpio", "pigpio", "native", "mock"
    ] = "libgpiod"
    bench: bool = False
    bench_socket: str | None = None
    chip: str | None = None
    event_buffer_size: BufferSize = 256
    point: Annotated[tuple[GpioPoint, ...], msgspec.Meta(max_length=POINTS_MAX)] = ()


def line_name(line: str | int) -> str:
    """Return the one name of a line: numbers as `GPIOn`, other names as they are."""
    numbered = _NUMBERED.match(str(line))
    return f"GPIO{int(numbered[1])}" if numbered else str(line)


def line_number(line: str | int) -> int | None:
    """Return the number of a numbered line (`5`, `GPIO5`), None for a named one."""
    numbered = _NUMBERED.match(str(line))
    return int(numbered[1]) if numbered else None


def check(config: Gpio, *, bench: bool = False) -> Iterator[Finding]:
    """Yield every cross-field fault of the section. `bench` is the gateway's own setting."""
    yield from _check_section(config, bench=bench or config.bench)
    ids = Counter(point.id for point in config.point)
    lines: dict[tuple[str | None, str], int] = {}
    for index, point in enumerate(config.point):
        where: Path = ("point", index)
        if ids[point.id] > 1:
            yield (*where, "id"), f"the id {point.id!r} is used more than once", False
        key = (point.chip or config.chip, line_name(point.line))
        owner = lines.setdefault(key, index)
        if owner != index:
            other = config.point[owner].id
            yield (*where, "line"), f"line {point.line} is already claimed by {other!r}", False
        yield from ((where + path, message, warning) for path, message, warning in _wiring(point))
        yield from (
            (where + path, message, warning)
            for path, message, warning in _placement(point, config.factory)
        )


def _check_section(config: Gpio, *, bench: bool) -> Iterator[Finding]:
    on_bench = config.factory in ("bench", "hil")
    if (on_bench or config.factory == "mock") and not bench:
        yield (
            ("factory",),
            f"factory {config.factory!r} has no pins of this machine: not in a building "
            "(a bench says so with `bench = true`)",
            False,
        )
    if config.bench_socket is not None and not on_bench:
        yield ("bench_socket",), f"means nothing with factory {config.factory!r}", False
    if config.chip is not None and config.factory != "libgpiod":
        yield ("chip",), f"means nothing with factory {config.factory!r}", False
    if not config.point:
        yield (), "no points: nothing is watched", True


def _wiring(point: GpioPoint) -> Iterator[Finding]:
    if (point.pull, point.closed_level) in (("up", "high"), ("down", "low")):
        level = point.closed_level
        yield (
            ("closed_level",),
            f"pull {point.pull!r} holds an open contact {level} too: the point would never change",
            False,
        )
    if point.pull == "none" and point.closed_level is None:
        yield (
            ("pull",),
            "nothing holds the line while the contact is open; say `external` if the board does",
            True,
        )
    if shown_kind(point.kind) != point.kind:
        yield (
            ("kind",),
            f"{point.kind!r} is none of the kinds; it would be shown as information, not as alarm",
            True,
        )


def _placement(point: GpioPoint, factory: str) -> Iterator[Finding]:
    if factory in ("libgpiod", "bench", "hil"):
        return
    if point.chip is not None:
        yield ("chip",), f"means nothing with factory {factory!r}", False
    if line_number(point.line) is None:
        yield (
            ("line",),
            f"factory {factory!r} knows no line names; give the number of the pin (GPIOn)",
            False,
        )
