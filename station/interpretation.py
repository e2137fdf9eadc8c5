"""What the station makes of an event's bytes: columns to search by, the best time, the order.

Pure. The bytes themselves are stored beside it as they came.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from events.kinds import Kind, Subkind
from events.model import ClockQuality, Observation, Record, Scalar, Stamp

INTEGER_MAX: Final = 2**63 - 1  # SQLite's
VALUE_LENGTH_MAX = 500  # of a text value beside the state; the body has all of it


class Basis(StrEnum):
    """Which clocks the time of an event was made from."""

    GATEWAY = "gateway"  # the gateway's wall clock, as stamped
    CORRECTED = "corrected"  # the gateway's wall clock, as it was set later
    STATION = "station"  # the gateway's monotonic clock, tied to the station's at a Hello
    RECEIVED = "received"  # nothing better is known than when it arrived


# Looked up once: looking a member up in its class takes longer than most of what is done with it.
_GATEWAY = Basis.GATEWAY.value
_CORRECTED = Basis.CORRECTED.value
_STATION = Basis.STATION.value
_RECEIVED = Basis.RECEIVED.value
_UNSET = ClockQuality.UNSET
_SYNCHRONISED = ClockQuality.SYNCHRONISED


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One boot of a gateway: its stamp in a Hello, and the station's time of hearing it.

    rank: a later boot of the gateway has a greater one.
    """

    rank: int
    stamp: Stamp
    station_us: int | None


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an event stands in the order of its gateway, as far as that can be known.

    log, seq: where it was first recorded, `log` being the station's number of the log.
    carrier_log, carrier_seq: where it was received; the same, unless it was recorded again there.
        A newer carrier has a greater number.
    history: how often the carrier's history had begun anew by then.
    boot_rank: the rank of its boot, 0 where no Hello of that boot was ever heard.
    """

    log: int
    seq: int
    carrier_log: int
    carrier_seq: int
    history: int
    boot_id: str
    boot_rank: int
    monotonic_us: int


def is_older(event: Place, state: Place, *, restores: bool, newest_rank: int = 0) -> bool:
    """Tell whether `event` happened before the event that made the present `state`.

    Within one history of a log, numbers decide, unless the order of two boots contradicts them: the
    urgent events of a restored card come before it is known that its history began anew. Otherwise,
    in this order: the monotonic clock of one boot; the order of boots; the order of the logs in
    which they came. The boot heard last (`newest_rank`) comes after every boot of which no Hello
    was heard: whatever a salvaged log still holds of these. A copy and an event of unknown boots in
    one log are in doubt: then the place of receiving decides, but a restore counts as older, since
    an old restore must never clear a newer alarm.
    """
    boots_known = event.boot_id != state.boot_id and (
        min(event.boot_rank, state.boot_rank) > 0
        or max(event.boot_rank, state.boot_rank) == newest_rank > 0
    )
    if event.log == state.log and event.history == state.history and not boots_known:
        return event.seq < state.seq
    if event.boot_id and event.boot_id == state.boot_id:
        return event.monotonic_us < state.monotonic_us
    if boots_known:
        return event.boot_rank < state.boot_rank
    event_carrier = (event.carrier_log, event.history)
    state_carrier = (state.carrier_log, state.history)
    if event_carrier == state_carrier:
        return restores or event.carrier_seq < state.carrier_seq
    return event_carrier < state_carrier


def best_time(
    stamp: Stamp, edge_us: int | None, boot: Boot | None, received_us: int | None
) -> tuple[int | None, str]:
    """Return when it happened, in POSIX microseconds, and which clocks (`Basis`) say so.

    `boot` is what is known of the boot in which the event was stamped. None: nobody knew the time.
    """
    happened_us = stamp.monotonic_us
    if edge_us is not None and 0 <= edge_us <= happened_us:
        happened_us = edge_us
    wall_us, clock = stamp.wall_us, stamp.clock
    if clock == _UNSET:
        wall_us = None
    sure = wall_us is not None and clock == _SYNCHRONISED
    told = None if boot is None or sure else boot.stamp
    at_us, basis = received_us, _RECEIVED
    if told is not None and told.clock == _SYNCHRONISED and told.wall_us is not None:
        at_us, basis = told.wall_us - (told.monotonic_us - happened_us), _CORRECTED
    elif wall_us is not None:
        at_us, basis = wall_us - (stamp.monotonic_us - happened_us), _GATEWAY
    elif boot is not None and boot.station_us is not None:
        at_us, basis = boot.station_us - (boot.stamp.monotonic_us - happened_us), _STATION
    if at_us is None or -INTEGER_MAX <= at_us <= INTEGER_MAX:
        return at_us, basis
    return clamped(at_us), basis


UNREADABLE: Final = Record(
    stamp=Stamp(monotonic_us=0, boot_id=""),
    observation=Observation(
        point="", kind=Kind.INFORMATION.value, subkind=Subkind.UNREADABLE_EVENT.value
    ),
)
"""What the station says of bytes that it cannot read: that they came."""


def clamped(number: int) -> int:
    """Return a number that SQLite can hold: a gateway's wrong clock must not stop its events."""
    if -INTEGER_MAX <= number <= INTEGER_MAX:
        return number
    return INTEGER_MAX if number > 0 else -INTEGER_MAX - 1


def column(value: Scalar | None) -> int | float | str | None:
    """Return a value that fits a column of SQLite."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -INTEGER_MAX <= value <= INTEGER_MAX else float(value)
    return value[:VALUE_LENGTH_MAX] if isinstance(value, str) else value
