"""Which gateways this station listens to: one `NAME.pub` in a folder for each.

Beside it `NAME.class` may say after how many seconds of silence that gateway is lost.

The folder is the list. Commands change it by writing and removing files, whole files at a time;
the running station looks at it twice a second, so that a revocation bites within one second
without anybody being told.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from events.errors import ConfigError, NplusError
from events.points import NAME_PATTERN
from station.config import LOST_AFTER_S_MAX, LOST_AFTER_S_MIN, NAME_LENGTH_MAX
from sync.keys import read_public

SCAN_INTERVAL_S = 0.4
GATEWAYS_MAX = 10_000
SUFFIX = ".pub"
NEXT_SUFFIX = ".next.pub"  # a second key of a gateway, while it changes to it
CLASS_SUFFIX = ".class"
CLASS_LENGTH_MAX = 100

_NAME = re.compile(NAME_PATTERN)
_Mark = tuple[int, int, int]  # inode, ctime, size: a change of content changes one of them


def is_name(text: str) -> bool:
    """Tell whether `text` can name a gateway."""
    return len(text) <= NAME_LENGTH_MAX and _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the list. Where it has a fault it holds what it held before: nothing at first."""

    mark: _Mark
    key: str = ""
    lost_after_s: float | None = None
    fault: str = ""


class Enrolment:
    """The list of enrolled gateways, as it was at the last `scan`.

    A fault in one file never touches another: it is named in `warnings`. While a file or the folder
    cannot be read, what was read of it last stands: an unmounted disk, or a file that is just being
    written, is not a revocation. Of two names with one key the one that had it first keeps it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, _File] = {}
        self._listed: dict[str, _Mark] = {}
        self._keys: dict[str, str] = {}
        self._names: Mapping[str, str] = MappingProxyType({})
        self._classes: Mapping[str, float] = MappingProxyType({})
        self._warnings: tuple[str, ...] = ()

    @property
    def names(self) -> Mapping[str, str]:
        """Each enrolled gateway's public key (Z85), by name."""
        return self._names

    @property
    def lost_after_s(self) -> Mapping[str, float]:
        """Each gateway's seconds of silence, by name, where it was enrolled with some."""
        return self._classes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what is wrong with the folder or with files in it."""
        return self._warnings

    def name_of(self, public_key: str) -> str | None:
        """Return whose key this is, or None: nobody's."""
        return self._keys.get(public_key)

    def scan(self) -> bool:
        """Look at the folder; tell whether the list or its warnings changed. Never raises."""
        before = (self._keys, self._classes, self._warnings)
        try:
            listing = self._listing()
        except OSError as error:
            reason = error.strerror or str(error)
            self._warnings = (f"{self.directory} cannot be read: {reason}",)
            return before[-1] != self._warnings
        warnings = self._read(listing)
        self._keys, doubled = _assigned(self._files, self._keys)
        self._names = MappingProxyType(
            {
                name: key
                for key, name in self._keys.items()
                if self._files[f"{name}{SUFFIX}"].key == key
            }
        )
        self._warnings = (*warnings, *doubled)
        self._classes = MappingProxyType(
            {
                name.removesuffix(CLASS_SUFFIX): file.lost_after_s
                for name, file in self._files.items()
                if file.lost_after_s is not None
            }
        )
        return before != (self._keys, self._classes, self._warnings)

    def _listing(self) -> dict[str, _Mark]:
        listing: dict[str, _Mark] = {}
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if not entry.name.endswith((SUFFIX, CLASS_SUFFIX)) or entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    listing[entry.name] = (0, 0, 0)  # gone since, or a link to nothing
                    continue
                listing[entry.name] = (status.st_ino, status.st_ctime_ns, status.st_size)
                if len(listing) > 2 * GATEWAYS_MAX:
                    break
        return listing

    def _read(self, listing: dict[str, _Mark]) -> list[str]:
        for gone in self._files.keys() - listing.keys():
            del self._files[gone]
        for file in sorted(listing)[: 2 * GATEWAYS_MAX]:
            known = self._files.get(file)
            if known is None or known.fault or known.mark != listing[file]:
                read = self._file(file, listing[file])
                if known is not None and read.fault:
                    read = replace(known, mark=read.mark, fault=read.fault)
                self._files[file] = read
        warnings = [file.fault for _, file in sorted(self._files.items()) if file.fault]
        if sum(name.endswith(SUFFIX) for name in listing) > GATEWAYS_MAX:
            warnings.append(f"{self.directory} holds more than {GATEWAYS_MAX} gateways")
        return warnings

    def _file(self, file: str, mark: _Mark) -> _File:
        stem, _, kind = file.replace(NEXT_SUFFIX, SUFFIX).rpartition(".")
        if not is_name(stem):
            shown = f"{self.directory}/{file!r}"
            fault = f"{shown} is not named like a gateway: letters a-z, digits, -"
            return _File(mark, fault=fault)
        try:
            if f".{kind}" == CLASS_SUFFIX:
                return _File(mark, lost_after_s=read_class(self.directory / file))
            return _File(mark, key=read_public(self.directory / file))
        except NplusError as error:
            return _File(mark, fault=str(error))


def read_class(file: Path) -> float:
    """Return the seconds of silence that a file declares. Raises `ConfigError`."""
    try:
        with file.open("rb") as reading:
            text = reading.read(CLASS_LENGTH_MAX + 1)
        lost_after_s = float(text.decode("ascii"))
    except (OSError, ValueError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else "holds no number"
        raise ConfigError(
            f"{file}: {reason}", hint="`nplus-station enroll --lost-after SECONDS` writes it"
        ) from error
    check_class(lost_after_s, str(file))
    return lost_after_s


def check_class(lost_after_s: float, what: str) -> None:
    """Raise `ConfigError` for a time in which a gateway cannot be missed reliably, or too late."""
    if not LOST_AFTER_S_MIN <= lost_after_s <= LOST_AFTER_S_MAX:
        raise ConfigError(
            f"{what}: {lost_after_s:g} is out of range: {LOST_AFTER_S_MIN:g} to"
            f" {LOST_AFTER_S_MAX:g} seconds",
            hint="20, 90 and 180 are the usual classes",
        )


def _assigned(
    files: Mapping[str, _File], before: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return key → name, and a sentence for each key that two names claim."""
    claims: dict[str, list[str]] = {}
    for file in sorted(files):
        name = file.removesuffix(NEXT_SUFFIX).removesuffix(SUFFIX)
        first = files.get(f"{name}{SUFFIX}")
        if files[file].key and first is not None and first.key:  # a next key alone is none
            claims.setdefault(files[file].key, []).append(name)
    keys: dict[str, str] = {}
    doubled = []
    for key, names in claims.items():
        incumbent = before.get(key)
        keys[key] = incumbent if incumbent in names else names[0]
        others = sorted({name for name in names if name != keys[key]})
        doubled += [f"{name} has the same key as {keys[key]} and is ignored" for name in others]
    return keys, doubled
