"""The store as replication wants it. The two engines import none of each other: they meet here."""

from collections.abc import Callable

from buffer.store import Store
from events.replication import Lane, LogHead
from sync.log import Reading


class OfferedLog:
    """A `sync.log.Log` over the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def heads(self) -> tuple[LogHead, ...]:
        return self._store.heads()

    async def read(
        self, log_id: str, lane: Lane, after: int, *, limit_bytes: int, bare_through: int = 0
    ) -> Reading:
        held = await self._store.read(
            log_id, lane, after, limit_bytes=limit_bytes, bare_through=bare_through
        )
        return Reading(entries=held.entries, gaps=held.gaps, through=held.through, head=held.head)

    def acknowledge(self, station: str, log_id: str, lane: Lane, stored: int) -> None:
        self._store.acknowledge(station, log_id, lane, stored)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        return self._store.watch(changed)
