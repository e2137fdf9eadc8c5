"""What replication needs of a store: five verbs over one or more logs.

`buffer.store.Store` fits; so does a list in a test.
"""

from collections.abc import Callable
from typing import Protocol

from events.replication import Lane, LogHead, Reading

__all__ = ["Log", "Reading"]


class Log(Protocol):
    def heads(self) -> tuple[LogHead, ...]:
        """Return every log offered now, the main one first. Never blocks."""

    async def read(
        self, log_id: str, lane: Lane, after: int, *, limit_bytes: int, bare_through: int = 0
    ) -> Reading:
        """Return entries after `after`, at least one if there is any, then up to `limit_bytes`.

        On the main lane, urgent events numbered up to `bare_through` come without their body: the
        station said that it holds them. Raises `StoreError`; `KeyError` for a log not offered.
        """

    def acknowledge(self, station: str, log_id: str, lane: Lane, stored: int) -> None:
        """Note that `station` (its public key, Z85) holds this lane up to `stored`. Never blocks."""

    def mark(self, station: str, log_id: str, lane: Lane) -> int:
        """Return up to where `station` is known to hold this lane; 0 where nothing is known."""

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` on the loop after every append and change of logs; returns the undo."""
