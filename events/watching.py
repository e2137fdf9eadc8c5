"""Since when nobody watched: what an event of kind `unwatched` says of the time before it."""

from events.calendar import rfc3339
from events.kinds import Kind, Subkind
from events.model import Record, Scalar

FIRST_START = "first-start"


def since(last: Record | None, boot_id: str) -> dict[str, Scalar]:
    """Return `why`, and `from` as far as it is known; `last` is the last record of all."""
    if last is None:
        return {"why": FIRST_START}
    details: dict[str, Scalar] = {
        "why": _why(last, boot_id),
        "from_monotonic_us": last.stamp.monotonic_us,
        "from_boot_id": last.stamp.boot_id,
    }
    if last.stamp.wall_us is not None:
        details["from"] = rfc3339(last.stamp.wall_us)
    return details


def _why(last: Record, boot_id: str) -> str:
    if (last.observation.kind, last.observation.subkind) == (Kind.STATUS, Subkind.STOPPED):
        return "stopped"
    return "killed" if last.stamp.boot_id == boot_id else "machine-restarted"
