"""What can still be judged of a configuration with faults, so that every fault is told at once.

Cross-field faults (a port used twice, two units with one address) need decoded sections. Where a
part of the file does not fit its shape, that part alone is left out, and everything beside it is
checked as it stands; the places in the file are kept. A text or a number that must be there, and is
something else, is stood in for by one that equals no other, so that the rest of its table counts.
"""

from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from events.toml_lines import Path, written

_UNUSABLE = object()
DEPTH_MAX = 16
ITEMS_MAX = 10_000
TYPES_MAX = 4  # of a union
_STAND_IN = -1_000_000_000  # and below: no address, pin or unit


class Salvage:
    """The usable top-level sections of `document`, each built as `shape` says."""

    def __init__(self, document: dict[str, Any], shape: type[msgspec.Struct]) -> None:
        self._kept: dict[Path, list[int]] = {}
        self._stand_ins = 0
        self.sections: dict[str, Any] = {}
        for field in msgspec.structs.fields(shape):
            if field.encode_name not in document:
                continue
            usable = self._usable(document[field.encode_name], field.type, (field.encode_name,))
            if usable is not _UNUSABLE:
                self.sections[field.encode_name] = usable

    def place(self, path: Path) -> Path:
        """Return where in the file the thing at `path` of the sections is written."""
        found: Path = ()
        for part in path:
            kept = self._kept.get(found)
            if isinstance(part, int) and kept is not None and part < len(kept):
                found = (*found, kept[part])
            else:
                found = (*found, part)
        return found

    def written(self, path: Path) -> str:
        """Return that place as a technician reads it."""
        return written(self.place(path))

    def _usable(self, value: Any, shape: Any, path: Path) -> Any:
        struct, element = _parts(shape)
        if len(path) > DEPTH_MAX:
            return _UNUSABLE
        if struct is not None and isinstance(value, dict):
            return self._usable_struct(value, struct, path)
        if element is not None and isinstance(value, list):
            return self._usable_list(value, element, path)
        return _usable_leaf(value, shape)

    def _usable_struct(
        self, table: dict[str, Any], struct: type[msgspec.Struct], path: Path
    ) -> Any:
        kept = {}
        for field in msgspec.structs.fields(struct):
            name = field.encode_name
            usable = _UNUSABLE
            if name in table:
                usable = self._usable(table[name], field.type, (*path, name))
            if usable is _UNUSABLE and field.required and name in table:
                usable = self._stand_in(field.type, (*path, name))
            if usable is not _UNUSABLE:
                kept[field.name] = usable
            elif field.required:
                return _UNUSABLE
        return struct(**kept)

    def _stand_in(self, shape: Any, path: Path) -> Any:
        """Return a value that is like no other. What is found at its own place was told already."""
        if _takes_text(shape):
            return f"?{written(path)}"
        if _plain(shape) is int:
            self._stand_ins += 1
            return _STAND_IN - self._stand_ins
        return _UNUSABLE

    def _usable_list(self, items: list[Any], element: Any, path: Path) -> Any:
        kept, indexes = [], []
        for index, item in enumerate(items[:ITEMS_MAX]):
            usable = self._usable(item, element, (*path, index))
            if usable is not _UNUSABLE:
                kept.append(usable)
                indexes.append(index)
        self._kept[path] = indexes
        return tuple(kept)


def _usable_leaf(value: Any, shape: Any) -> Any:
    """Return a value; a text that only has the wrong form is still a text to compare with others."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError:
        is_text = isinstance(value, str) and "\0" not in value
        return value if is_text and _takes_text(shape) else _UNUSABLE


def _takes_text(shape: Any) -> bool:
    if get_origin(shape) is Literal:
        return False
    return shape is str or any(_takes_text(inner) for inner in get_args(shape)[:TYPES_MAX])


def _plain(shape: Any) -> Any:
    return get_args(shape)[0] if get_origin(shape) is Annotated else shape


def _parts(shape: Any) -> tuple[type[msgspec.Struct] | None, Any]:
    """Return the struct type in a shape, and the element type if it holds a tuple."""
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        return shape, None
    arguments = get_args(shape)
    if get_origin(shape) in (tuple, list) and arguments:
        return None, arguments[0]
    for argument in arguments:
        struct, element = _parts(argument)
        if struct is not None or element is not None:
            return struct, element
    return None, None
