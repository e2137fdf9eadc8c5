"""Who talks to whom, and what either side tells the program around it.

The gateway builds `sync.zmq_source.Uplink` from `Station`s and hears of `PathChange`s; the station
builds `sync.zmq_sink.Hub` over an `Allowed` list and hears of `Notice`s. Callbacks run on the loop
and must return at once.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from events.model import Instant, Stamp
from events.replication import HOLD_S


class Clock(Protocol):
    """The machine's clock. `buffer.clock.SystemClock` fits."""

    @property
    def boot_id(self) -> str: ...

    def now(self) -> Instant: ...

    def stamp(self, instant: Instant) -> Stamp: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """One way to a station: `host:port`, with or without `tcp://` before it.

    period_s: how often it is proved while another path carries.
    """

    name: str
    address: str
    period_s: float = HOLD_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """A station that a gateway serves. `public_key` is its identity (Z85).

    paths: the best first. next_key: the key to which the station is about to change, or "".
    """

    name: str
    public_key: str
    paths: tuple[Path, ...]
    next_key: str = ""


class PathFault(StrEnum):
    """Why a path does not carry events."""

    UNREACHABLE = "unreachable"  # nobody accepts the connection, or packets go nowhere
    WRONG_STATION_KEY = "wrong-station-key"  # somebody is there, but not the station of that key
    KEY_REFUSED = "key-refused"  # the station does not know our key
    IDENTITY_REFUSED = "identity-refused"  # it knows our key under another name, or revoked it
    KEY_SHARED = "key-shared"  # another machine speaks with our key, and was there before us
    VERSION_MISMATCH = "version-mismatch"  # no common version of the protocol
    STATION_SILENT = "station-silent"  # connected, but the station's program does not answer


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChange:
    """A path went down or came up. The first state known after the start is told as well.

    fault, text: why it is down, as a word and as a sentence; empty when it is up.
    station_up: at least one path of the station is up now.
    """

    station: str
    path: str
    up: bool
    station_up: bool
    fault: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """A station holds less than it once acknowledged, or again what it lacked.

    held: up to where; None: as much as it had acknowledged, or more. acknowledged: up to where.
    first: the oldest number that is still here.
    """

    station: str
    log_id: str
    held: int | None
    acknowledged: int
    first: int = 0


class Admission(StrEnum):
    """May a gateway's program speak here? Two at one time with one key are one too many."""

    YES = "yes"
    WAIT = "wait"  # its next hello decides
    NO = "no"


class Allowed(Protocol):
    def name_of(self, public_key: str) -> str | None:
        """Return the gateway enrolled under a key (Z85), or None: then the key is refused.

        Asked for every message, so it must be cheap; a change takes effect within a second, on
        live connections too.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something about a peer that people must be told.

    reason: a `Subkind`: key-refused, version-mismatch, malformed-message, log-rewound,
        log-gap, unreadable-event …
    gateway: its name, empty where the key is not enrolled. `key` is its public key (Z85).
    head: of events-withheld: the newest number that the gateway announces.
    """

    reason: str
    text: str
    gateway: str = ""
    key: str = ""
    log_id: str = ""
    head: int = 0
