"""Changing the list of enrolled gateways: the commands `enroll` and `revoke`.

A file of the list is written whole under another name and then moved, so that the running station
never reads half a key.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from events.errors import ConfigError
from station.enrolment import (
    CLASS_SUFFIX,
    NEXT_SUFFIX,
    SUFFIX,
    Enrolment,
    check_class,
    is_name,
)
from sync.keys import read_public

SECRET_SUFFIX = ".key"  # noqa: S105 - a file name
FILE_MODE = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What became of an enrolment: `what` as words, the key as people compare it."""

    file: Path
    what: str
    fingerprint: str
    changed: bool


def enroll(
    directory: Path,
    name: str,
    key_file: Path,
    *,
    replace: bool,
    beside: bool = False,
    lost_after_s: float | None = None,
) -> Enrolled:
    """Put a gateway on the list. Raises `ConfigError`.

    replace: the gateway has this key now; any other one ends. beside: it is about to change to
    this key; until `replace` both count.

    lost_after_s: after which silence it is lost; None leaves that as it is.
    """
    _check_name(name)
    if lost_after_s is not None:
        check_class(lost_after_s, "--lost-after")
    if key_file.suffix == SECRET_SUFFIX:
        raise ConfigError(
            f"{key_file} is a secret key, which belongs on the gateway alone",
            hint="name the .pub file; make a new pair if the secret has travelled",
        )
    key = read_public(key_file)
    enrolment = Enrolment(directory)
    enrolment.scan()
    holder = enrolment.name_of(key)
    if holder is not None and holder != name:
        raise ConfigError(
            f"the key in {key_file} is already enrolled as {holder}",
            hint=f"each gateway has a key of its own; `nplus-station revoke {holder}` frees it",
        )
    file = directory / f"{name}{SUFFIX}"
    before = enrolment.names.get(name)
    if beside and before is not None and before != key:
        file = directory / f"{name}{NEXT_SUFFIX}"
        _write(directory, file, key)
        what = "may use a new key beside its old one"
        return Enrolled(file=file, what=what, fingerprint=fingerprint(key), changed=False)
    if before is None and file.exists() and not replace:
        raise ConfigError(
            f"{file} exists, but holds no usable key",
            hint="add --replace to overwrite it",
        )
    if before == key:
        what = "is enrolled already"
        if lost_after_s is not None:
            _declare(directory, name, lost_after_s)
            what += f"; lost after {lost_after_s:g} s from now on"
        return Enrolled(file=file, what=what, fingerprint=fingerprint(key), changed=False)
    if before is not None and not replace:
        raise ConfigError(
            f"{name} is enrolled with another key ({fingerprint(before)})",
            hint="add --replace if the gateway was replaced or has a new key",
        )
    if lost_after_s is not None:
        _declare(directory, name, lost_after_s)
    _write(directory, file, key)
    with suppress(OSError):  # it has become the key, or is forgotten with the old one
        (directory / f"{name}{NEXT_SUFFIX}").unlink()
    what = "enrolled" if before is None else "enrolled with its new key"
    return Enrolled(file=file, what=what, fingerprint=fingerprint(key), changed=True)


def revoke(directory: Path, name: str) -> Path:
    """Take a gateway off the list; return the file that was removed. Raises `ConfigError`."""
    _check_name(name)
    file = directory / f"{name}{SUFFIX}"
    try:
        file.unlink()
    except FileNotFoundError as error:
        raise ConfigError(
            f"{name} is not enrolled in {directory}", hint="`nplus-station gateways` lists them"
        ) from error
    except OSError as error:
        raise _unwritable(directory, error) from error
    for suffix in (CLASS_SUFFIX, NEXT_SUFFIX):
        with suppress(OSError):  # without the key it says nothing
            (directory / f"{name}{suffix}").unlink()
    return file


def fingerprint(key: str) -> str:
    """Return a key in groups of five, as two people read it to each other."""
    return " ".join(key[at : at + 5] for at in range(0, len(key), 5))


def _check_name(name: str) -> None:
    if not is_name(name):
        raise ConfigError(
            f"{name!r} is not a gateway's name", hint="lower-case letters, digits and '-'"
        )


def _declare(directory: Path, name: str, lost_after_s: float) -> None:
    _write(directory, directory / f"{name}{CLASS_SUFFIX}", f"{lost_after_s:g}")


def _write(directory: Path, file: Path, line: str) -> None:
    draft = directory / f".{file.name}.{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="ascii") as writing:
            writing.write(f"{line}\n")
            writing.flush()
            os.fchmod(writing.fileno(), FILE_MODE)
            os.fsync(writing.fileno())
        draft.replace(file)
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(directory, error) from error


def _unwritable(directory: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot write in {directory}: {error.strerror or error}",
        hint="run the command as the user who owns that folder",
    )
