"""TOML text to frozen structs, with every fault at once, each with its path and line.

`msgspec.convert` stops at the first fault; a technician on a ladder wants all of them. So the
shape is walked here field by field, and msgspec judges only the leaves.
"""

import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Generic, TypeVar, get_args, get_origin

import msgspec

from events.errors import Fault
from events.points import NAME_PATTERN, POINT_PATTERN
from events.toml_lines import Lines, Path, written

T = TypeVar("T")

FAULTS_MAX = 200  # beyond these nobody reads on; the rest is counted
DEPTH_MAX = 16
BYTE_ORDER_MARK = "\ufeff"

_PATTERN_WORDS = {
    NAME_PATTERN: "of lower-case letters, digits and hyphens",
    POINT_PATTERN: "of lower-case letters, digits and hyphens, in parts joined by '/'",
}


class Settings(Generic[T]):
    """What was read from one TOML text: the value, or the faults that prevent one.

    `parsed` tells whether the text is TOML at all. `value` is None exactly when `faults` holds at
    least one fault that is not a warning at the time of reading. Cross-field faults are made with
    `fault` and kept by whoever checks.
    """

    def __init__(
        self, value: T | None, faults: list[Fault], lines: Lines, *, parsed: bool = True
    ) -> None:
        self.value = value
        self.parsed = parsed
        self.faults = faults
        self._lines = lines

    def fault(self, path: Path, message: str, *, warning: bool = False) -> Fault:
        """Return a fault at `path`, with the line on which that key or table is written."""
        return Fault(
            path=written(path), message=message, line=self._lines.of(path), warning=warning
        )


def read(text: str, shape: type[T]) -> Settings[T]:
    """Read TOML `text` into `shape`, a msgspec struct type. Never raises on what the text says."""
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one; so is a number of thousands of digits
        return Settings(None, [_syntax_fault(error, text)], Lines(""), parsed=False)
    except RecursionError:
        return Settings(
            None, [Fault(path="$", message="nested too deeply", line=1)], Lines(""), parsed=False
        )
    lines = Lines(text)
    settings: Settings[T] = Settings(None, [], lines)
    for path, message in _faults(document, shape, ()):
        settings.faults.append(settings.fault(path, message))
        if len(settings.faults) >= FAULTS_MAX:
            settings.faults.append(Fault(path="$", message="… and more faults than are listed"))
            break
    if not settings.faults:
        try:
            settings.value = msgspec.convert(document, shape)
        except msgspec.ValidationError as error:
            settings.faults.append(Fault(path="$", message=str(error)))
    return settings


def _syntax_fault(error: ValueError, text: str) -> Fault:
    if text.startswith(BYTE_ORDER_MARK):
        message = "begins with a byte order mark: save it as UTF-8 without one"
        return Fault(path="$", message=message, line=1)
    if not isinstance(error, tomllib.TOMLDecodeError):
        return Fault(path="$", message=f"not TOML: {error}", line=_longest(text))
    message = str(error)
    head, _, place = message.rpartition(" (at line ")
    digits = place.partition(",")[0]
    line = int(digits) if digits.isdigit() else text.count("\n") + 1  # it ended too early
    return Fault(path="$", message=f"not TOML: {head or message}", line=line)


def _longest(text: str) -> int:
    """Return the number of the longest line."""
    lengths = [len(line) for line in text.split("\n")]
    return lengths.index(max(lengths)) + 1


def _faults(value: Any, shape: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if len(path) > DEPTH_MAX:
        yield path, "nested too deeply"
        return
    struct, element = _parts(shape)
    if struct is not None and isinstance(value, dict):
        yield from _struct_faults(value, struct, path)
    elif element is not None and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _faults(item, element, (*path, index))
    else:
        yield from _leaf_faults(value, shape, path)


def _struct_faults(
    table: dict[str, Any], struct: type[msgspec.Struct], path: Path
) -> Iterator[tuple[Path, str]]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for key, value in table.items():
        if key in fields:
            yield from _faults(value, fields[key].type, (*path, key))
        else:
            yield (*path, key), _unknown(key, fields)
    for name, field in fields.items():
        if field.required and name not in table:
            yield path, f"{name!r} is missing"


def _unknown(key: str, fields: dict[str, Any]) -> str:
    near = get_close_matches(key, fields, n=1)
    return f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _leaf_faults(value: Any, shape: Any, path: Path) -> Iterator[tuple[Path, str]]:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        yield path, _plain(str(error), value)


def _plain(message: str, value: Any) -> str:
    """Return msgspec's sentence without its path, and with the value that was found."""
    sentence = message.partition(" - at `")[0].replace("`", "'")
    for pattern, words in _PATTERN_WORDS.items():
        sentence = sentence.replace(f"matching regex {pattern!r}", words)
    shown = repr(value)
    return sentence if len(shown) > 60 or shown in sentence else f"{sentence}, found {shown}"


def _parts(shape: Any) -> tuple[type[msgspec.Struct] | None, Any]:
    """Return the struct type in a shape, and the element type if it is a tuple or list of them."""
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        return shape, None
    origin = get_origin(shape)
    arguments = get_args(shape)
    if origin in (tuple, list) and arguments:
        return None, arguments[0]
    struct: type[msgspec.Struct] | None = None
    element = None
    for argument in arguments:
        if argument is type(None):
            continue
        found, inner = _parts(argument)
        struct, element = struct or found, element or inner
    return struct, element
