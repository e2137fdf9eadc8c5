"""What can still be judged of a configuration with faults, so that every fault is told at once.

Cross-field faults (a port used twice, two units with one address) need decoded sections. Where a
part of the file does not fit its shape, that part alone is left out, and everything beside it is
checked as it stands; the places in the file are kept.
"""

from typing import Any, get_args, get_origin

import msgspec

from events.toml_lines import Path

_UNUSABLE = object()
DEPTH_MAX = 16


class Salvage:
    """The usable top-level sections of `document`, each decoded as `shape` says."""

    def __init__(self, document: dict[str, Any], shape: type[msgspec.Struct]) -> None:
        self._kept: dict[Path, list[int]] = {}
        self.sections: dict[str, Any] = {}
        for field in msgspec.structs.fields(shape):
            if field.encode_name not in document:
                continue
            usable = self._usable(document[field.encode_name], field.type, (field.encode_name,))
            if usable is not _UNUSABLE:
                self.sections[field.encode_name] = msgspec.convert(usable, field.type)

    def place(self, path: Path) -> Path:
        """Return where in the file the thing at `path` of the sections is written."""
        written: Path = ()
        for part in path:
            kept = self._kept.get(written)
            if isinstance(part, int) and kept is not None and part < len(kept):
                written = (*written, kept[part])
            else:
                written = (*written, part)
        return written

    def _usable(self, value: Any, shape: Any, path: Path) -> Any:
        struct, element = _parts(shape)
        if len(path) <= DEPTH_MAX and struct is not None and isinstance(value, dict):
            return self._usable_struct(value, struct, path)
        if len(path) <= DEPTH_MAX and element is not None and isinstance(value, list):
            return self._usable_list(value, shape, element, path)
        return value if _fits(value, shape) else _UNUSABLE

    def _usable_struct(
        self, table: dict[str, Any], struct: type[msgspec.Struct], path: Path
    ) -> Any:
        kept = {}
        for field in msgspec.structs.fields(struct):
            name = field.encode_name
            usable = _UNUSABLE
            if name in table:
                usable = self._usable(table[name], field.type, (*path, name))
            if usable is not _UNUSABLE:
                kept[name] = usable
            elif field.required:
                return _UNUSABLE
        return kept if _fits(kept, struct) else _UNUSABLE

    def _usable_list(self, items: list[Any], shape: Any, element: Any, path: Path) -> Any:
        kept, indexes = [], []
        for index, item in enumerate(items):
            usable = self._usable(item, element, (*path, index))
            if usable is not _UNUSABLE:
                kept.append(usable)
                indexes.append(index)
        self._kept[path] = indexes
        return kept if _fits(kept, shape) else _UNUSABLE


def _fits(value: Any, shape: Any) -> bool:
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError:
        return False
    return True


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
