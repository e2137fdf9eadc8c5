"""The station's configuration: one TOML file, read once, with every fault named at once."""

import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from events.errors import ConfigError, Fault, NplusError
from events.points import NAME_PATTERN
from events.settings import read
from sync.keys import read_secret
from sync.local_socket import PATH_BYTES_MAX

LOST_AFTER_S_MIN = 5.0  # two heartbeats (events.replication.HOLD_S) have to fit
LOST_AFTER_S_MAX = 3600.0
LOST_AFTER_S_PROMISED = 90.0  # a lost gateway is known within this time
NAME_LENGTH_MAX = 63

_NAME = re.compile(NAME_PATTERN)
_Found = tuple[tuple[str | int, ...], str, bool]


class Station(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[station]` table.

    name: how gateways and reports name this station.
    data_dir: folder of the ledger; made if it is missing.
    key_file: the secret key, as `nplus-station keygen` writes it.
    listen: address for gateways, `host:port` or `tcp://host:port`; `*` is every interface.
    gateways_dir: folder of `NAME.pub` files, one for each enrolled gateway.
    socket: unix socket for `status` and `gateways`.
    lost_after_s: seconds of silence after which a gateway is lost.
    """

    name: str
    data_dir: str
    key_file: str
    listen: str
    gateways_dir: str
    socket: str
    lost_after_s: float = LOST_AFTER_S_PROMISED


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    station: Station


class StationConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What the program works with: paths made absolute, the address in ZeroMQ's form."""

    file: Path
    name: str
    data_dir: Path
    key_file: Path
    listen: str
    gateways_dir: Path
    socket: Path
    lost_after_s: float


def load(file: Path, *, places: bool = True) -> StationConfig:
    """Return the configuration in `file`. Raises `ConfigError` with every fault at once.

    Without `places` the files it names are not looked at: a dispatcher who lists events need not
    be able to read the station's key.
    """
    config, faults = inspect(file, places=places)
    if config is None:
        refusals = [fault for fault in faults if not fault.warning]
        count = "one fault" if len(refusals) == 1 else f"{len(refusals)} faults"
        raise ConfigError(
            f"{file} has {count}",
            faults=faults,
            hint=f"correct the file, then ask `nplus-station check {file}`",
        )
    return config


def inspect(file: Path, *, places: bool = True) -> tuple[StationConfig | None, list[Fault]]:
    """Return the configuration, or None, and everything that is wrong or doubtful in `file`.

    Raises `ConfigError` when the file itself cannot be read.
    """
    text = _text(file)
    settings = read(text, Document)
    if settings.value is not None:
        station, unjudged = settings.value.station, frozenset[str]()
    else:
        station, unjudged = _what_can_be_judged(text)
    config = _resolved(file, station)
    faults = [
        *settings.faults,
        *(
            settings.fault(("station", *path), message, warning=warning)
            for path, message, warning in _check(station, config, places=places)
            if path[0] not in unjudged
        ),
    ]
    refused = any(not fault.warning for fault in faults)
    return (None if refused else config), faults


def endpoint(address: str) -> str | None:
    """Return `tcp://host:port` for an address as a user may write it, or None if it is none.

    Raises nothing; `*` as host means every interface.
    """
    plain = address.removeprefix("tcp://")
    host, colon, port = plain.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        return None
    if (":" in host and not bracketed) or re.search(r"[\s/@;,]", host):
        return None
    return f"tcp://{host}:{int(port)}"


def _what_can_be_judged(text: str) -> tuple[Station, frozenset[str]]:
    """Return the section with its good fields, and the names of those that are not there or bad.

    So that a fault in one field does not hide the faults of the others.
    """
    try:
        table = tomllib.loads(text).get("station")
    except (ValueError, RecursionError):  # the reader has named it
        table = None
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(Station):
        try:
            given[field.name] = msgspec.convert((table or {})[field.name], field.type)
        except (KeyError, TypeError, msgspec.ValidationError):
            continue
    names = frozenset(field.name for field in msgspec.structs.fields(Station))
    blank = dict.fromkeys(names - {"lost_after_s"}, "-")
    return Station(**(blank | given)), names - given.keys()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read {file}: {error.strerror or error}",
            hint="name the station's configuration file with --config FILE",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file} is not UTF-8 text", hint="TOML files are UTF-8; is this the right file?"
        ) from error


def _resolved(file: Path, station: Station) -> StationConfig:
    folder = file.absolute().parent
    return StationConfig(
        file=file,
        name=station.name,
        data_dir=folder / station.data_dir,
        key_file=folder / station.key_file,
        listen=endpoint(station.listen) or "",
        gateways_dir=folder / station.gateways_dir,
        socket=folder / station.socket,
        lost_after_s=station.lost_after_s,
    )


def _check(station: Station, config: StationConfig, *, places: bool) -> Iterator[_Found]:
    yield from _check_words(station, config)
    if places:
        yield from _check_places(config)


def _check_words(station: Station, config: StationConfig) -> Iterator[_Found]:
    if len(station.name) > NAME_LENGTH_MAX or not _NAME.fullmatch(station.name):
        yield (
            ("name",),
            f"{station.name!r} is not a name: lower-case letters, digits and '-',"
            f" at most {NAME_LENGTH_MAX}",
            False,
        )
    for field in ("data_dir", "key_file", "gateways_dir", "socket"):
        text = getattr(station, field)
        if not text or "\0" in text:
            yield (field,), "is not a path", False
    if len(os.fsencode(config.socket)) > PATH_BYTES_MAX:
        yield ("socket",), f"{config.socket} is longer than {PATH_BYTES_MAX} bytes", False
    if not config.listen:
        yield (
            ("listen",),
            f"{station.listen!r} is not an address; write host:port, such as '*:7780'",
            False,
        )
    if not LOST_AFTER_S_MIN <= station.lost_after_s <= LOST_AFTER_S_MAX:
        yield (
            ("lost_after_s",),
            f"{station.lost_after_s:g} is out of range: {LOST_AFTER_S_MIN:g} to"
            f" {LOST_AFTER_S_MAX:g} seconds",
            False,
        )
    elif station.lost_after_s > LOST_AFTER_S_PROMISED:
        yield (
            ("lost_after_s",),
            f"a lost gateway goes unnoticed for longer than {LOST_AFTER_S_PROMISED:g} s",
            True,
        )


def _check_places(config: StationConfig) -> Iterator[_Found]:
    if any("\0" in str(path) for path in (config.data_dir, config.key_file, config.gateways_dir)):
        return
    try:
        read_secret(config.key_file)
    except NplusError as error:
        yield ("key_file",), f"{error}; {error.hint}" if error.hint else str(error), False
    for field, folder in (("data_dir", config.data_dir), ("gateways_dir", config.gateways_dir)):
        fault = _folder_fault(folder)
        if fault:
            yield (field,), fault, False
    if os.access(config.data_dir, os.F_OK) and not os.access(config.data_dir, os.W_OK | os.X_OK):
        yield ("data_dir",), f"{config.data_dir} does not take writes from this user", True
    if not os.access(config.gateways_dir, os.F_OK):
        yield (
            ("gateways_dir",),
            f"{config.gateways_dir} does not exist yet; `nplus-station enroll` makes it",
            True,
        )


def _folder_fault(folder: Path) -> str:
    """Return what is wrong with a folder that may still be missing, or nothing."""
    try:
        mode = folder.stat().st_mode
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{folder}: {error.strerror or error}"
    return "" if stat.S_ISDIR(mode) else f"{folder} is not a folder"
