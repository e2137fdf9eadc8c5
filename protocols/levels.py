"""Levels at start: what a point reads now against what was last stored of it.

Inputs that have a level (contacts, polled registers) may have changed while nobody watched. At
every start the first level of each point is compared with the last stored one: a difference
becomes an event, equal levels store nothing, and the unwatched interval is an event of its own.
"""

from typing import Protocol

from events.calendar import rfc3339
from events.kinds import Kind, Qualifier, Subkind
from events.model import Instant, Observation, Record, Scalar
from events.watching import since


class Memory(Protocol):
    """What the store holds, cheap to ask.

    `latest` and `last_raw` follow what is stored, so that a driver that is started again compares
    with the present. `last_record` is fixed when the store is opened: it tells who watched last.
    """

    def latest(self, point: str, kind: str, subkind: str) -> Observation | None:
        """Return the newest stored observation of one condition."""

    def last_raw(self, source: str) -> bytes | None:
        """Return the raw bytes of the newest stored observation of a source that carried any."""

    def last_record(self) -> Record | None:
        """Return the newest record of all: the last moment at which we know we were watching."""

    @property
    def boot_id(self) -> str:
        """Return the id of the machine's present boot."""


def stored_level(memory: Memory, point: str, kind: str, subkind: str) -> bool | None:
    """Return the last stored level of a two-state condition; None when it was never stored."""
    last = memory.latest(point, kind, subkind)
    return None if last is None else last.qualifier != Qualifier.RESTORE


def unwatched(
    memory: Memory,
    *,
    point: str,
    source: str,
    level: Scalar | None,
    now: Instant,
    quality: str = "good",
) -> Observation:
    """Return the event for the time in which nobody watched a point, ending now.

    `from` and `to` are in the details as RFC 3339 where a wall time is known, and as monotonic
    microseconds; `from` is the last stored event, so the interval is at most that long. `why` is
    one of `first-start`, `stopped`, `killed`, `machine-restarted`.
    """
    to_us = round(now.monotonic * 1_000_000)
    details: dict[str, Scalar] = {"to_monotonic_us": to_us}
    if now.wall is not None:
        details["to"] = rfc3339(round(now.wall * 1_000_000))
    details |= since(memory.last_record(), memory.boot_id)
    return Observation(
        point=point,
        kind=Kind.INFORMATION,
        subkind=Subkind.UNWATCHED,
        source=source,
        value=level,
        quality=quality,
        edge_us=to_us,
        details=details,
    )
