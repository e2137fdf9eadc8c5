"""Captured bytes for the protocol engines: from the command line, a file or standard input."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from events.errors import EX_NOINPUT, ProtocolError, UsageError
from protocols.decode import decode

CAPTURE_BYTES_MAX = 64 * 1024 * 1024
_SEPARATORS = " \t\r\n:-"


class CaptureMissing(UsageError):  # noqa: N818 - the state has a name of its own
    """The file of captured bytes cannot be read."""

    exit_code = EX_NOINPUT


def lines(
    protocol: str,
    file: Path | None,
    hexadecimal: str | None,
    *,
    request: str | None,
    key: str | None,
) -> Iterator[dict[str, Any]]:
    """Return what the engine of `protocol` makes of the bytes.

    Raises `UsageError` for an unknown protocol or a command line without bytes, `ProtocolError`
    for hex that is none.
    """
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # our lines say it already
    return decode(
        protocol,
        _data(file, hexadecimal),
        request=None if request is None else from_hex(request, "--request"),
        key=None if key is None else from_hex(key, "--key"),
    )


def from_hex(text: str, where: str) -> bytes:
    """Return the bytes of hex text; spaces, colons and hyphens between them are allowed."""
    digits = "".join(character for character in text if character not in _SEPARATORS)
    for place, character in enumerate(text):
        if character not in _SEPARATORS and character not in "0123456789abcdefABCDEF":
            raise ProtocolError(
                f"{where}: {character!r} at place {place + 1} is no hex digit",
                hint="give the bytes as hex, such as 01 03 00 00 00 01",
            )
    if len(digits) % 2:
        raise ProtocolError(f"{where}: an odd number of hex digits", hint="two make one byte")
    return bytes.fromhex(digits)


def _data(file: Path | None, hexadecimal: str | None) -> bytes:
    if file is None and hexadecimal is not None:
        return from_hex(hexadecimal, "--hex")
    if file is None or hexadecimal is not None:
        raise UsageError(
            "give the bytes either as --hex HEX or as FILE", hint="- is standard input"
        )
    try:
        if str(file) == "-":
            data = sys.stdin.buffer.read(CAPTURE_BYTES_MAX + 1)
        else:
            with file.open("rb") as capture:
                data = capture.read(CAPTURE_BYTES_MAX + 1)
    except OSError as error:
        raise CaptureMissing(
            f"cannot read {file}: {error.strerror or error}", hint="name a file of captured bytes"
        ) from error
    if len(data) > CAPTURE_BYTES_MAX:
        raise UsageError(f"{file} is larger than {CAPTURE_BYTES_MAX} bytes", hint="cut it")
    return data
