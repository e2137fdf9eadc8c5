"""From notices about peers to the station's own events: each thing once, repeats with a count."""

from events.kinds import Qualifier
from events.model import Scalar
from station.announcements import Announcement
from station.notices import Limiter
from sync.peers import Notice

QUIET_S = 600.0
STRANGERS_MAX = 30  # keys named one by one; beyond them the others are spoken of together

Subject = tuple[str, str, str, str]  # reason, gateway, key of a stranger, log id


class Told:
    """What was told about whom."""

    def __init__(self) -> None:
        self._gateways: Limiter[Subject] = Limiter(quiet_s=QUIET_S)
        self._strangers: Limiter[Subject] = Limiter(quiet_s=QUIET_S)

    def take(self, notice: Notice, now: float) -> Announcement | None:
        """Return the event that says it; None where it only counts."""
        subject = (notice.reason, notice.gateway, "", notice.log_id)
        limiter = self._gateways
        if not notice.gateway:
            limiter = self._strangers
            subject = (notice.reason, "", notice.key, "")
            if subject not in limiter and len(limiter) >= STRANGERS_MAX:
                subject = (notice.reason, "", "", "")
        count = limiter.admit(subject, now)
        if not count:
            return None
        return _announcement(subject, notice.text, count, key=notice.key, head=notice.head)

    def ended(self, reason: str, gateway: str, log_id: str) -> None:
        """Treat a subject as new from here on: what it said of a gateway is over."""
        self._gateways.forget((reason, gateway, "", log_id))

    def due(self, now: float) -> list[Announcement]:
        """Return events for repeats that were held back long enough."""
        return [
            _announcement(subject, _again(count), count)
            for limiter in (self._gateways, self._strangers)
            for subject, count in limiter.due(now)
        ]

    def start_anew(self) -> list[Announcement]:
        """Treat everything as new, since the list of gateways changed; return what was held back."""
        return [
            _announcement(subject, _again(count), count)
            for limiter in (self._gateways, self._strangers)
            for subject, count in limiter.flush()
        ]


def _again(count: int) -> str:
    return f"the same happened {count} more times" if count > 1 else "the same happened once more"


def _announcement(
    subject: Subject, text: str, count: int, *, key: str = "", head: int = 0
) -> Announcement:
    reason, gateway, stranger, log_id = subject
    details: dict[str, Scalar] = {"key": key or stranger, "log_id": log_id, "announced": head}
    return Announcement(
        gateway=gateway,
        subkind=reason,
        qualifier=Qualifier.NEW,
        text=text,
        count=count,
        details={name: value for name, value in details.items() if value},
    )
