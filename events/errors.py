"""The error tree, in which a class answers one question: who must act.

Library exceptions are translated into these once, at the edge where the library is called.
Malformed bytes from a device are not errors: engines count them and go on.
"""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

EX_USAGE = 64
EX_DATAERR = 65
EX_NOINPUT = 66
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_CANTCREAT = 73
EX_IOERR = 74
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78


class NplusError(Exception):
    """Root of every error that this product raises on purpose.

    `hint` tells the reader what to do next; it is shown beside the message, never instead of it.
    `exit_code` is what a command exits with when nothing nearer handles the error (sysexits).
    """

    exit_code: ClassVar[int] = EX_SOFTWARE

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong in a configuration file.

    `path` names the place as it is written in the file (`bus[0].unit[2].point[1].address`);
    `line` counts from 1, and is 0 where no line can be named. A warning never refuses a file.
    """

    path: str
    message: str
    line: int = 0
    warning: bool = False

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        word = "warning: " if self.warning else ""
        return f"{where}{self.path}: {word}{self.message}"


class ConfigError(NplusError):
    """The operator must act; never retried. Carries every fault of the file at once."""

    exit_code = EX_CONFIG

    def __init__(self, message: str, *, faults: Sequence[Fault] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.faults = tuple(faults)


class UsageError(NplusError):
    """The command line asks for something that does not exist."""

    exit_code = EX_USAGE


class UnavailableError(NplusError):
    """The program that the command wants to talk to does not answer."""

    exit_code = EX_UNAVAILABLE


class ProtocolError(NplusError):
    """A conversation broke its own rules."""

    exit_code = EX_DATAERR


class LocalProtocolError(ProtocolError):
    """We asked an engine to do what its protocol forbids: a bug or a misuse on our side."""


class RemoteProtocolError(ProtocolError):
    """The other side broke its standard."""


class LinkError(NplusError):
    """The line to a device; always transient: the supervisor tries again with back-off."""

    exit_code = EX_UNAVAILABLE


class LinkLost(LinkError):  # noqa: N818 - the state has a name of its own
    """The port or the connection is gone."""


class LinkTimeout(LinkError):  # noqa: N818 - the state has a name of its own
    """Nothing came in the time in which something had to come."""


class StoreError(NplusError):
    """The store cannot take or give records now; the gateway goes on degraded."""

    exit_code = EX_CANTCREAT
    state: ClassVar[str] = "failed"


class StoreFull(StoreError):  # noqa: N818 - the state has a name of its own
    """No room: on the medium, or within the declared bound."""

    state = "full"


class StoreCorrupt(StoreError):  # noqa: N818 - the state has a name of its own
    """The file is not a store, or not whole; it is set aside, never deleted."""

    state = "corrupt"


class StoreReadOnly(StoreError):  # noqa: N818 - the state has a name of its own
    """The medium or the folder does not take writes."""

    state = "read-only"


class StoreLocked(StoreError):  # noqa: N818 - the state has a name of its own
    """Another process holds the store."""

    state = "locked"


class StoreNewer(StoreError):  # noqa: N818 - the state has a name of its own
    """The store was written by a newer major version of this program."""

    state = "newer-version"


class SyncError(NplusError):
    """The conversation between gateway and station cannot go on as it is."""

    exit_code = EX_UNAVAILABLE


class PeerRejected(SyncError):  # noqa: N818 - the state has a name of its own
    """Key, identity or protocol version refused."""


class LogRewound(SyncError):  # noqa: N818 - the state has a name of its own
    """A log's history contradicts what was already received: a cloned or restored card."""


class LogGap(SyncError):  # noqa: N818 - the state has a name of its own
    """Numbers are missing that nobody declared missing."""


class UnreadableEvent(NplusError):  # noqa: N818 - the state has a name of its own
    """The bytes of an event cannot be interpreted; they are kept as they are."""

    exit_code = EX_DATAERR
