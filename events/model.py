"""The record types: what was seen, when, and where it stands in a log.

Every struct is frozen. Field names end with their unit. An empty field means unknown, never zero.
"""

from enum import StrEnum

import msgspec

from events.kinds import Qualifier

Scalar = str | int | float | bool


class ClockQuality(StrEnum):
    """What the wall clock was worth when it was read."""

    UNSET = "unset"  # never set since power-on: a wall time beside it is what a station said
    FREE = "free"  # set once, running by itself
    SYNCHRONISED = "synchronised"


class Instant(msgspec.Struct, frozen=True, kw_only=True):
    """The `now` that every engine gets. `monotonic` and `wall` are in seconds.

    Engines order and time by `monotonic` alone. While nobody has set the clock, `wall` is what a
    station said, or None; `clock` is `UNSET` either way.
    """

    monotonic: float
    wall: float | None = None
    clock: ClockQuality = ClockQuality.UNSET


class Stamp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """When an event was recorded, in microseconds: wall time, and monotonic time of one boot."""

    monotonic_us: int
    boot_id: str
    wall_us: int | None = None
    clock: ClockQuality = ClockQuality.UNSET


class DeviceTime(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The device's own time, as it sent it: ISO 8601 text without zone, and the zone if known."""

    text: str
    zone: str = ""
    trusted: bool = False


class Native(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The device's own words for what it reported: the lossless way back.

    `scheme` names the language (`contact-id`, `modbus`, `gpio` …), `code` its code as text,
    `fields` whatever else its frame said, under the names of its standard.
    """

    scheme: str
    code: str = ""
    text: str = ""
    fields: dict[str, Scalar] = {}


class Observation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a driver saw at a point, before it has a place in the log.

    point: configured id, or `<receiver>/<account>/<zone>` for a source nobody configured.
    kind, subkind, qualifier: see `events.kinds`; open strings.
    source: id of the input that saw it (bus, receiver, `gpio`); with `raw` it identifies repeats.
    address: where in its own scheme it is (account, receiver, line, unit, register, zone, user …).
    value, unit, raw_value, quality: a measurement or level; quality is good, limit, uncertain or
        invalid.
    state, changed: for devices that send levels: the bits now on, and `+bit` / `-bit` differences.
    condition: what tells conditions of one kind at one point apart, such as the event code of a panel;
        empty where kind and subkind do.
    edge_us: gateway-monotonic microseconds of the first edge of the run; None = when recorded.
    raw: the bytes that said it, at most `RAW_LENGTH_MAX` of them.
    integrity: the checks that passed and the leniencies that were used (`crc`, `parity-stripped`).
    flags: `possible_repeat`, `initial`, `test-mode` …
    cause: for restores: device, reset, timeout; empty = unknown.
    details: anything else worth keeping, under its own name.
    """

    point: str
    kind: str
    subkind: str = ""
    condition: str = ""
    qualifier: str = Qualifier.NEW
    source: str = ""
    address: dict[str, str] = {}
    value: Scalar | None = None
    unit: str = ""
    raw_value: Scalar | None = None
    quality: str = "good"
    state: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    native: Native | None = None
    device_time: DeviceTime | None = None
    text: str = ""
    text_encoding: str = ""
    edge_us: int | None = None
    raw: bytes = b""
    integrity: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    cause: str = ""
    details: dict[str, Scalar] = {}


RAW_LENGTH_MAX = 256
POSSIBLE_REPEAT = "possible_repeat"  # stored, though it may be the one before it once more


class Origin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The place an event first had, when it was recorded again elsewhere.

    An event that left volatile memory for the disk, or that was salvaged from a damaged store,
    keeps the `(log_id, seq)` under which the station may already hold it.
    """

    log_id: str
    seq: int


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is encoded, stored, chained, sent and kept: an observation with its stamp."""

    stamp: Stamp
    observation: Observation
    urgent: bool = False
    origin: Origin | None = None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A record with its place in a log, and the bytes that are the evidence for it."""

    log_id: str
    seq: int
    chain: bytes
    body: bytes
    record: Record


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A place in a log: number and chain value. Two histories that differ differ in the chain."""

    log_id: str
    seq: int
    chain: bytes


Condition = tuple[str, str, str, str]


BYPASSED_KIND = "bypassed_kind"
"""The detail that holds the kind of what a bypassed point said, recorded as `disabled`."""


def condition(observation: Observation) -> Condition:
    """Return the key under which states are kept: point, kind, subkind and condition.

    What a bypass silenced is a state of the point's own condition: the next start compares with it.
    """
    seen = observation
    kind = str(seen.details.get(BYPASSED_KIND, seen.kind))
    return (seen.point, kind, seen.subkind, seen.condition)
