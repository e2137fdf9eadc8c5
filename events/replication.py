"""The replication conversation: what gateway and station say to each other.

Every message is one msgpack map with a `type` tag. The gateway opens each connection with `Hello`;
the station answers `Welcome` or `Refused`; from then on the station sends `Fetch` and the gateway
answers with `Batch`. docs/replication.md draws it.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from events.commands import Asked, Told
from events.model import Stamp

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
HOLD_S = 3.0  # a fetch with nothing to answer is held this long: the heartbeat
PERIOD_S_MAX = 600.0  # the longest period at which an idle path may be supervised
MESSAGE_LENGTH_MAX = 4 * 1024 * 1024


class Lane(StrEnum):
    """Two reading heads over one log. Urgent events travel early; main carries everything."""

    URGENT = "urgent"
    MAIN = "main"


class LogHead(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One log that a gateway offers. Numbers below `first` are no longer held.

    `volatile` marks a log kept in memory while the store cannot write.
    """

    log_id: str
    first: int
    head: int
    chain: bytes
    volatile: bool = False


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello", tag_field="type"):
    """The gateway's first words on a connection, and again whenever its logs or paths change.

    instance: random for each start of the program: two at one time are two machines with one key.
    rank: the path's place in the gateway's order; the lowest that lives carries the events.
    period_s: how often this path is to be proved while another one carries.
    lost: paths on which the gateway lost the connection of this lane; they carry nothing now.
    """

    protocol_min: int
    protocol_max: int
    program: str
    name: str
    boot_id: str
    lane: Lane
    path: str
    logs: tuple[LogHead, ...]
    stamp: Stamp
    instance: str = ""
    rank: int = 0
    period_s: float = HOLD_S
    lost: tuple[str, ...] = ()


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome", tag_field="type"):
    """The station's answer: the protocol version both will use, and the station's time."""

    protocol: int
    program: str
    name: str
    stamp: Stamp


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused", tag_field="type"):
    """The station will not talk under these terms. `reason` is a subkind, `text` a sentence."""

    reason: str
    text: str


class Fetch(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="fetch", tag_field="type"
):
    """Send what comes after `after`; I hold everything up to `stored`.

    id: numbered upwards, with holes; none is used twice while the station runs.
    after: where to read from. With `follows` it is 0, and the reading goes on where the answer to
        that fetch ended: so several can be open before the first is answered.
    stored: only this acknowledges. 0 says nothing.
    limit_bytes: how much the answer may hold; 0 asks for a sign of life alone.
    bare_through: on the main lane, urgent events up to here may come without their body: the
        station holds the copies that went ahead. 0 asks for every body.
    hold_s: with nothing to answer, how long to wait before the sign of life. With a `limit_bytes`
        of 0 as well it is a question alone, answered at once.

    One that follows none takes the place of every earlier one that is still open.
    """

    id: int
    lane: Lane
    log_id: str
    after: int
    stored: int
    limit_bytes: int
    follows: int = 0
    bare_through: int = 0
    hold_s: float = HOLD_S


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event in a batch. On the main lane a body that went ahead is None."""

    seq: int
    chain: bytes
    body: bytes | None


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """Numbers `first` to `last` are gone; the chain continues from `chain` at `last`.

    `before` is the chain value at `first - 1`, empty where that is not known.
    """

    first: int
    last: int
    chain: bytes
    why: str
    before: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a log holds after a number: never sent as it is, but what a batch is made of.

    entries: in order of seq. On the main lane they and `gaps` are contiguous from `after + 1`; on
        the urgent lane only urgent events are there.
    through: everything of this lane up to here has been given.
    head: the newest number in the log at the time of reading.
    """

    entries: tuple[Entry, ...]
    gaps: tuple[Gap, ...]
    through: int
    head: int


class Batch(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="batch", tag_field="type"
):
    """The answer to one fetch.

    entries: msgpack array of `Entry`, compressed as `encoding` says (empty, or `zstd`).
    through: the lane is answered up to this number; on the urgent lane it runs ahead of the last
        entry, since the numbers between belong to other events.
    head: the newest number in the log when the answer was made.
    """

    id: int
    lane: Lane
    log_id: str
    entries: bytes
    through: int
    head: int
    encoding: str = ""
    gaps: tuple[Gap, ...] = ()


Message = Hello | Welcome | Refused | Fetch | Batch | Asked | Told
