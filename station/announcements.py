"""The station's own events: what it says about gateways, and about who tried to be one."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from events.kinds import Kind, Qualifier, Subkind
from events.model import Observation, Record, Scalar, Stamp
from events.points import segment

STATION_POINT = "station"
GATEWAY_POINT = "gateway"


class Announced(IntEnum):
    """How the loss of a gateway is announced; the ledger keeps the number."""

    NO = 0
    ALONE = 1
    FOLDED = 2  # together with others


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """An event of the station's own, and what it remembers with it.

    gateway: whom it is about; empty for the station itself.
    path: the path whose silence it announces, if it is about one.
    silence: it announces the begin or the end of a silence.
    marks: gateways whose loss it announces or ends, beside its own.
    """

    gateway: str
    subkind: str
    qualifier: Qualifier
    text: str
    path: str | None = None
    silence: bool = False
    count: int = 1
    details: Mapping[str, Scalar] | None = None
    marks: Mapping[str, Announced] | None = None


def record_of(announcement: Announcement, stamp: Stamp) -> Record:
    """Return what is stored of an announcement."""
    point = STATION_POINT
    if announcement.gateway:
        point = GATEWAY_POINT
        if announcement.path is not None:
            point = f"{GATEWAY_POINT}/{segment(announcement.path)}"
    details: dict[str, Scalar] = dict(announcement.details or {})
    if announcement.count > 1:
        details["count"] = announcement.count
    observation = Observation(
        point=point,
        kind=Kind.FAULT,
        subkind=announcement.subkind,
        qualifier=announcement.qualifier,
        source=STATION_POINT,
        text=announcement.text,
        details=details,
    )
    return Record(stamp=stamp, observation=observation)


def unreadable(
    gateway: str, count: int, details: Mapping[str, Scalar] | None = None
) -> Announcement:
    """Say that the bytes of `count` events are kept but not understood."""
    what = "an event" if count == 1 else f"{count} events"
    return Announcement(
        gateway=gateway,
        subkind=Subkind.UNREADABLE_EVENT,
        qualifier=Qualifier.NEW,
        text=f"{what} from {gateway} cannot be read by this program; the bytes are kept",
        count=count,
        details=details,
    )
