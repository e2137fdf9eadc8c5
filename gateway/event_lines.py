"""An event of this gateway's log as one JSON object, for `tail`."""

from typing import Any

import msgspec

from events.calendar import rfc3339
from events.errors import UnreadableEvent
from events.kinds import shown_kind
from events.model import ClockQuality, Record
from events.replication import Entry, Gap
from events.wire import decode


def event_line(log_id: str, entry: Entry, *, volatile: bool = False) -> dict[str, Any]:
    """Return the line for one entry. Bytes are hex; a body that cannot be read is shown as such."""
    place = {"log_id": log_id, "seq": entry.seq, "volatile": volatile}
    body = entry.body or b""
    try:
        record = decode(body)
    except UnreadableEvent as error:
        return {**place, "kind": "information", "subkind": "unreadable-event", "text": str(error)}
    return {**place, **_described(record)}


def gap_line(log_id: str, gap: Gap) -> dict[str, Any]:
    """Return the line for numbers that this gateway no longer holds."""
    return {
        "log_id": log_id,
        "seq": gap.last,
        "first": gap.first,
        "kind": "information",
        "subkind": "gap",
        "text": f"{gap.last - gap.first + 1} events are not held any more: {gap.why}",
    }


def _described(record: Record) -> dict[str, Any]:
    seen = record.observation
    told: dict[str, Any] = msgspec.to_builtins(seen, builtin_types=(bytes,))
    told["raw"] = seen.raw.hex()
    told.update(
        at=_at(record),
        clock=str(record.stamp.clock),
        urgent=record.urgent,
        kind=shown_kind(seen.kind),
        subkind=seen.subkind,
        qualifier=str(seen.qualifier),
        value=seen.value,
        unit=seen.unit,
        native=None if seen.native is None else msgspec.to_builtins(seen.native),
    )
    if record.origin is not None:
        told["origin"] = {"log_id": record.origin.log_id, "seq": record.origin.seq}
    return told


def _at(record: Record) -> str | None:
    """Return when it happened, by this gateway's own clock; None while that was never set."""
    stamp = record.stamp
    if stamp.wall_us is None or stamp.clock == ClockQuality.UNSET:
        return None
    edge_us = record.observation.edge_us
    earlier_us = 0 if edge_us is None else max(0, stamp.monotonic_us - edge_us)
    return rfc3339(stamp.wall_us - earlier_us)
