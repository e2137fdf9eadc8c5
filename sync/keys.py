"""CURVE key pairs in files: `NAME.key` holds the secret, `NAME.pub` the public key.

Each file is one line of 40 Z85 characters (ZeroMQ RFC 32), as `zmq_curve_keypair` writes them. The
public key is a gateway's or a station's identity.
"""

import os
import re
import stat
from pathlib import Path

import zmq

from events.errors import ConfigError
from events.points import NAME_PATTERN

_KEY = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_FILE_LENGTH_MAX = 1024
_OTHERS = 0o077


def is_key(text: str) -> bool:
    """Tell whether `text` has the form of a key: 40 characters of the Z85 alphabet."""
    return _KEY.fullmatch(text) is not None


def keygen(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair and return the paths of `NAME.key` (mode 0600) and `NAME.pub`.

    Never overwrites: a lost secret is a lost identity. Raises `ConfigError`.
    """
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise ConfigError(
            f"{name!r} cannot be the name of a key",
            hint="use lower-case letters, digits and hyphens",
        )
    secret_path, public_path = directory / f"{name}.key", directory / f"{name}.pub"
    for path in (secret_path, public_path):
        if path.exists():
            raise ConfigError(
                f"{path} exists already",
                hint="choose another name or folder, or move the old pair away first",
            )
    public, secret = zmq.curve_keypair()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _write(secret_path, secret, 0o600)
        _write(public_path, public, 0o644)
    except OSError as error:
        raise ConfigError(
            f"cannot write a key pair to {directory}: {error.strerror}",
            hint="make the folder writable, or choose another one with --out",
        ) from error
    return secret_path, public_path


def keygen_beside(present: Path, name: str) -> tuple[Path, Path]:
    """Make the pair that follows the one in use, in its folder; return the paths of both files.

    present: the secret key in use; it stays as it is. `NAME-2` is made first, then `NAME-3`, and so
    on. While a pair is there that is newer than the present one, no other is made: what was begun
    with it is to be ended first. Raises `ConfigError`.
    """
    read_secret(present)
    used = re.fullmatch(rf"{re.escape(name)}-([1-9][0-9]{{0,8}})", present.stem)
    following = f"{name}-{int(used[1]) + 1 if used else 2}"
    try:
        return keygen(present.parent, following)
    except ConfigError as error:
        if not (present.parent / f"{following}.key").exists():
            raise
        raise ConfigError(
            str(error),
            hint=f"go on with that pair: name {following}.key as key_file; or move it away first",
        ) from error


def read_secret(path: Path) -> str:
    """Return the secret key in a file that nobody else may read. Raises `ConfigError`."""
    key = _read(path, "secret key")
    mode = path.stat().st_mode
    if mode & _OTHERS:
        raise ConfigError(
            f"{path} is open to other users (mode {mode & 0o777:04o})",
            hint=f"run: chmod 600 {path}",
        )
    return key


def read_public(path: Path) -> str:
    """Return the public key in a file. Raises `ConfigError`."""
    return _read(path, "public key")


def public_of(secret: str) -> str:
    """Return the public key that belongs to a secret key (both Z85)."""
    return zmq.curve_public(secret.encode("ascii")).decode("ascii")


def _write(path: Path, key: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path, what: str) -> str:
    try:
        # Without blocking: a terminal or a pipe in its place must not hold us for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = os.read(descriptor, _FILE_LENGTH_MAX + 1) if regular else b""
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{what} file {path} does not exist",
            hint="make a pair with the keygen command, or correct the path",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{what} file {path} cannot be read: {error.strerror}",
            hint="give the user that runs this program the right to read it",
        ) from error
    text = content.decode("ascii", errors="replace").strip()
    if not is_key(text):
        raise ConfigError(
            f"{path} does not hold a {what}: one line of 40 Z85 characters is expected",
            hint="copy the file again, or make a new pair with the keygen command",
        )
    return text
