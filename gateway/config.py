"""Read the gateway's configuration: `load` for the daemon, `check` for the technician.

Both see every fault at once, each with its path and line. What time may put right by itself (a
port that is unplugged, a disk that takes no writes now) keeps no daemon from starting.
"""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from events.errors import ConfigError, Fault
from events.settings import read
from events.toml_lines import Path as Place
from gateway.config_checks import Severity, findings
from gateway.salvage import Salvage
from gateway.sections import Configuration

FILE_BYTES_MAX = 1024 * 1024

# What is lacking is no news where the section is there, but misshapen.
_LACKS: dict[Place, tuple[str, ...]] = {
    ("station",): ("station",),
    (): ("bus", "receiver", "gpio"),
}


def load(path: Path) -> Configuration:
    """Return the configuration in `path`, with relative paths resolved to its folder.

    Raises `ConfigError` with every fault when there is one that a restart cannot put right.
    """
    configuration, faults, stopping = _examine(path)
    if configuration is None or stopping:
        raise refusal(path, faults)
    return configuration


def check(path: Path) -> list[Fault]:
    """Return every fault and warning of the file, in the order of its lines."""
    _, faults, _ = _examine(path)
    return faults


def socket_path(path: Path) -> Path:
    """Return where the gateway of this file answers. Nothing else of the file is judged.

    Raises `ConfigError` when the file does not say it.
    """
    text, fault = _text(path)
    section = _document(text).get("gateway")
    socket = section.get("socket") if isinstance(section, dict) else None
    if isinstance(socket, str) and socket and "\0" not in socket:
        return path.absolute().parent / socket
    raise refusal(path, [fault] if fault is not None else check(path))


def refusal(path: Path, faults: list[Fault]) -> ConfigError:
    """Return the error that carries the faults of a file."""
    count = sum(not fault.warning for fault in faults)
    return ConfigError(
        f"{path} has {count} fault{'' if count == 1 else 's'}",
        faults=faults,
        hint=f"correct it, then try: nplus-gateway check {path}",
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "N+ gateway",
        **msgspec.json.schema(Configuration),
    }


def _examine(path: Path) -> tuple[Configuration | None, list[Fault], bool]:
    text, fault = _text(path)
    if fault is not None:
        return None, [fault], True
    settings = read(text, Configuration)
    faults = list(settings.faults)
    misshapen = {fault.path for fault in faults}
    stopping = settings.value is None
    if not settings.parsed:
        return None, faults, True
    salvage = Salvage(_document(text), Configuration)
    folder = path.absolute().parent
    told = set(misshapen)
    for place, message, severity in findings(salvage.sections, folder, salvage.written):
        found = settings.fault(salvage.place(place), message, warning=severity is Severity.WARNING)
        follows = any(name.startswith(_LACKS.get(place, ())) for name in misshapen)
        if follows or (found.path in told and not found.warning):
            continue  # one fault for one place: what follows from it is noise
        if not found.warning:
            told.add(found.path)
        faults.append(found)
        stopping = stopping or severity is Severity.FAULT
    faults.sort(key=lambda fault: fault.line)
    value = settings.value
    return None if value is None else value.resolved(folder), faults, stopping


def _text(path: Path) -> tuple[str, Fault | None]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        return "", Fault(path="$", message=f"cannot be read: {error.strerror or error}")
    if len(data) > FILE_BYTES_MAX:
        return "", Fault(path="$", message=f"larger than {FILE_BYTES_MAX} bytes")
    try:
        return data.decode("utf-8"), None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return "", Fault(path="$", message="not UTF-8 text", line=line)


def _document(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):  # the reader has named it
        return {}
