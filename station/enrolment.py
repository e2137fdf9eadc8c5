"""Which gateways this station listens to: one `NAME.pub` in a folder for each.

The folder is the list. Commands change it by writing and removing files, whole files at a time;
the running station looks at it twice a second, so that a revocation bites within one second
without anybody being told.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from events.errors import NplusError
from events.points import NAME_PATTERN
from station.config import NAME_LENGTH_MAX
from sync.keys import read_public

SCAN_INTERVAL_S = 0.4
GATEWAYS_MAX = 10_000
SUFFIX = ".pub"

_NAME = re.compile(NAME_PATTERN)
_Mark = tuple[int, int, int]  # inode, ctime, size: a change of content changes one of them


def is_name(text: str) -> bool:
    """Tell whether `text` can name a gateway."""
    return len(text) <= NAME_LENGTH_MAX and _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class _File:
    mark: _Mark
    key: str  # empty where the file holds none
    fault: str


class Enrolment:
    """The list of enrolled gateways, as it was at the last `scan`.

    A fault in one file never touches another: it is named in `warnings` and that file counts for
    nothing. Of two names with one key the one that had it first keeps it. While the folder cannot
    be read the last list stands: an unmounted disk is not a revocation.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[str, _File] = {}
        self._keys: dict[str, str] = {}
        self._names: Mapping[str, str] = MappingProxyType({})
        self._warnings: tuple[str, ...] = ()

    @property
    def names(self) -> Mapping[str, str]:
        """Each enrolled gateway's public key (Z85), by name."""
        return self._names

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what is wrong with the folder or with files in it."""
        return self._warnings

    def name_of(self, public_key: str) -> str | None:
        """Return whose key this is, or None: nobody's."""
        return self._keys.get(public_key)

    def scan(self) -> bool:
        """Look at the folder; tell whether the list or its warnings changed. Never raises."""
        before = (self._keys, self._warnings)
        try:
            listing = self._listing()
        except OSError as error:
            reason = error.strerror or str(error)
            self._warnings = (f"{self.directory} cannot be read: {reason}",)
            return before[1] != self._warnings
        warnings = self._read(listing)
        self._keys, doubled = _assigned(self._files, self._keys)
        self._names = MappingProxyType({name: key for key, name in self._keys.items()})
        self._warnings = (*warnings, *doubled)
        return before != (self._keys, self._warnings)

    def _listing(self) -> dict[str, _Mark]:
        listing: dict[str, _Mark] = {}
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if not entry.name.endswith(SUFFIX) or entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat()
                except OSError:
                    listing[entry.name] = (0, 0, 0)  # gone since, or a link to nothing
                    continue
                listing[entry.name] = (status.st_ino, status.st_ctime_ns, status.st_size)
                if len(listing) > GATEWAYS_MAX:
                    break
        return listing

    def _read(self, listing: dict[str, _Mark]) -> list[str]:
        for gone in self._files.keys() - listing.keys():
            del self._files[gone]
        for file in sorted(listing)[:GATEWAYS_MAX]:
            known = self._files.get(file)
            if known is None or known.fault or known.mark != listing[file]:
                self._files[file] = self._file(file, listing[file])
        warnings = [file.fault for _, file in sorted(self._files.items()) if file.fault]
        if len(listing) > GATEWAYS_MAX:
            warnings.append(f"{self.directory} holds more than {GATEWAYS_MAX} gateways")
        return warnings

    def _file(self, file: str, mark: _Mark) -> _File:
        if not is_name(file.removesuffix(SUFFIX)):
            shown = f"{self.directory}/{file!r}"
            return _File(mark, "", f"{shown} is not named like a gateway: letters a-z, digits, -")
        try:
            return _File(mark, read_public(self.directory / file), "")
        except NplusError as error:
            return _File(mark, "", str(error))


def _assigned(
    files: Mapping[str, _File], before: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """Return key → name, and a sentence for each key that two names claim."""
    claims: dict[str, list[str]] = {}
    for file in sorted(files):
        if files[file].key:
            claims.setdefault(files[file].key, []).append(file.removesuffix(SUFFIX))
    keys: dict[str, str] = {}
    doubled = []
    for key, names in claims.items():
        incumbent = before.get(key)
        keys[key] = incumbent if incumbent in names else names[0]
        others = [name for name in names if name != keys[key]]
        doubled += [f"{name} has the same key as {keys[key]} and is ignored" for name in others]
    return keys, doubled
