"""What the station makes of an event's bytes: columns to search by, the best time, the order.

Pure. The bytes themselves are stored beside it as they came.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from events.kinds import Kind, Qualifier, Subkind
from events.model import ClockQuality, Origin, Record, Scalar, Stamp

INTEGER_MAX: Final = 2**63 - 1  # SQLite's
VALUE_LENGTH_MAX = 500  # of a text value beside the state; the body has all of it


class Basis(StrEnum):
    """Which clocks the time of an event was made from."""

    GATEWAY = "gateway"  # the gateway's wall clock, as stamped
    CORRECTED = "corrected"  # the gateway's wall clock, as it was set later
    STATION = "station"  # the gateway's monotonic clock, tied to the station's at a Hello
    RECEIVED = "received"  # nothing better is known than when it arrived


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """One boot of a gateway: its stamp in a Hello, and the station's time of hearing it.

    rank: a later boot of the gateway has a greater one.
    """

    rank: int
    stamp: Stamp
    station_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
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


def is_older(event: Place, state: Place, *, restores: bool) -> bool:
    """Tell whether `event` happened before the event that made the present `state`.

    Within one history of a log, numbers decide, unless the order of two boots contradicts them:
    the urgent events of a restored card come before it is known that its history began anew.
    Otherwise, in this order: the monotonic clock of one boot; the order of boots; the order of the
    logs in which they came. A copy and an event of unknown boots in one log are in doubt: then the
    place of receiving decides, but a restore counts as older, since an old restore must never
    clear a newer alarm.
    """
    boots_known = event.boot_rank and state.boot_rank and event.boot_id != state.boot_id
    if event.log == state.log and event.history == state.history and not boots_known:
        return event.seq < state.seq
    if event.boot_id and event.boot_id == state.boot_id:
        return event.monotonic_us < state.monotonic_us
    if event.boot_rank and state.boot_rank:
        return event.boot_rank < state.boot_rank
    event_carrier = (event.carrier_log, event.history)
    state_carrier = (state.carrier_log, state.history)
    if event_carrier == state_carrier:
        return restores or event.carrier_seq < state.carrier_seq
    return event_carrier < state_carrier


def best_time(
    stamp: Stamp, edge_us: int | None, boot: Boot | None, received_us: int | None
) -> tuple[int | None, Basis]:
    """Return when it happened, in POSIX microseconds, and which clocks say so.

    `boot` is what is known of the boot in which the event was stamped. None: nobody knew the time.
    """
    happened_us = stamp.monotonic_us
    if edge_us is not None and 0 <= edge_us <= happened_us:
        happened_us = edge_us
    own_us = None
    if stamp.wall_us is not None and stamp.clock != ClockQuality.UNSET:
        own_us = stamp.wall_us - (stamp.monotonic_us - happened_us)
        if stamp.clock == ClockQuality.SYNCHRONISED:
            return own_us, Basis.GATEWAY
    if boot is not None:
        since_us = boot.stamp.monotonic_us - happened_us
        if boot.stamp.clock == ClockQuality.SYNCHRONISED and boot.stamp.wall_us is not None:
            return boot.stamp.wall_us - since_us, Basis.CORRECTED
        if own_us is None and boot.station_us is not None:
            return boot.station_us - since_us, Basis.STATION
    if own_us is not None:
        return own_us, Basis.GATEWAY
    return received_us, Basis.RECEIVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """An event in the station's words. `value` fits a column of SQLite."""

    point: str
    kind: str
    subkind: str
    condition: str
    qualifier: str
    value: int | float | str | None
    at_us: int | None
    at_basis: Basis
    boot_id: str
    monotonic_us: int
    urgent: bool
    readable: bool = True
    origin: Origin | None = None


def interpret(record: Record, boot: Boot | None, received_us: int | None) -> Reading:
    """Return what the station says of a record."""
    seen = record.observation
    at_us, basis = best_time(record.stamp, seen.edge_us, boot, received_us)
    return Reading(
        point=seen.point,
        kind=seen.kind,
        subkind=seen.subkind,
        condition=seen.condition,
        qualifier=seen.qualifier,
        value=_column(seen.value),
        at_us=None if at_us is None else clamped(at_us),
        at_basis=basis,
        boot_id=record.stamp.boot_id,
        monotonic_us=clamped(record.stamp.monotonic_us),
        urgent=record.urgent,
        origin=record.origin,
    )


def unreadable(received_us: int | None) -> Reading:
    """Return what the station says of bytes that it cannot read: that they came."""
    return Reading(
        point="",
        kind=Kind.INFORMATION.value,
        subkind=Subkind.UNREADABLE_EVENT.value,
        condition="",
        qualifier=Qualifier.NEW.value,
        value=None,
        at_us=received_us,
        at_basis=Basis.RECEIVED,
        boot_id="",
        monotonic_us=0,
        urgent=False,
        readable=False,
    )


def clamped(number: int) -> int:
    """Return a number that SQLite can hold: a gateway's wrong clock must not stop its events."""
    return max(-INTEGER_MAX - 1, min(INTEGER_MAX, number))


def _column(value: Scalar | None) -> int | float | str | None:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -INTEGER_MAX <= value <= INTEGER_MAX else float(value)
    return value[:VALUE_LENGTH_MAX] if isinstance(value, str) else value
