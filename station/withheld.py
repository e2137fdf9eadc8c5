"""Events that a gateway announces and does not deliver: a fault until they are here.

A pure engine. Signs of life alone prove nothing where the events that they announce stay away.
"""

from collections.abc import Mapping

from events.kinds import Qualifier, Subkind
from station.announcements import Announcement
from sync.peers import Notice

Log = tuple[str, str]  # gateway, log id


class Withheld:
    """Remembers, for each log, up to where events are announced."""

    def __init__(self) -> None:
        self._announced: dict[Log, int] = {}

    def resume(self, announced: Mapping[Log, int]) -> None:
        """Go on with what stood in the ledger before this start."""
        self._announced |= announced

    def note(self, notice: Notice) -> None:
        """Take a notice of the replication; others than this one are passed over."""
        if notice.reason == Subkind.EVENTS_WITHHELD and notice.gateway:
            log = (notice.gateway, notice.log_id)
            self._announced[log] = max(notice.head, self._announced.get(log, 0))

    def waiting(self) -> list[Log]:
        """Return the logs of which events stay away."""
        return list(self._announced)

    def come(self, gateway: str, log_id: str, held: int) -> Announcement | None:
        """Return the end of the fault, if the log is `held` up to what was announced."""
        announced = self._announced.get((gateway, log_id))
        if announced is None or held < announced:
            return None
        del self._announced[gateway, log_id]
        return Announcement(
            gateway=gateway,
            subkind=Subkind.EVENTS_WITHHELD,
            qualifier=Qualifier.RESTORE,
            text=f"events up to {announced} are here now",
            details={"log_id": log_id, "announced": announced},
        )
