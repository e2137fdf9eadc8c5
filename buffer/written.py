"""What the program gave to the medium, counted by the kernel.

`write_bytes` of /proc/self/io: what the whole process caused to be written, the store being nearly
all of it. None where that cannot be read.
"""

from pathlib import Path
from typing import Any, Final

_IO: Final = Path("/proc/self/io")
_FIELD: Final = "write_bytes:"
DAY_S: Final = 86_400
DAY_FROM_S: Final = 60.0  # nothing is said of a day after less


def written_bytes() -> int | None:
    """Return the bytes that this process caused to be written since its start."""
    try:
        lines = _IO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(_FIELD)), None)


class Written:
    """Counts from now, `since_s` on the monotonic clock."""

    def __init__(self, since_s: float) -> None:
        self._since_s = since_s
        self._before = written_bytes()

    def status(self, now_s: float, events: int) -> dict[str, Any]:
        """Return the bytes written, those for each of `events`, and those for a day at this pace."""
        after, passed_s = written_bytes(), now_s - self._since_s
        if after is None or self._before is None:
            return dict.fromkeys(
                ("written_bytes", "written_per_event_bytes", "written_per_day_bytes")
            )
        total = after - self._before
        per_day = round(total / passed_s * DAY_S) if passed_s >= DAY_FROM_S else None
        return {
            "written_bytes": total,
            "written_per_event_bytes": round(total / events) if events > 0 else None,
            "written_per_day_bytes": per_day,
        }
