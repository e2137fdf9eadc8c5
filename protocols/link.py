"""`Link`: the shape of every protocol engine.

One end of one conversation: bytes and time in; bytes, observations and a deadline out. An engine
touches no clock, no port and no log, and never raises on what a device sent: bad bytes are normal
input, counted and left behind. `protocols.drivers.stream.drive` runs any of them over a port.
"""

from typing import Protocol

from events.model import Instant, Observation


class Link(Protocol):
    def start(self, now: Instant) -> None:
        """Begin on a freshly opened line. Called again after each loss; clears half-read input."""

    def receive(self, data: bytes, now: Instant) -> None:
        """Take bytes as they came, split anywhere."""

    def timeout(self, now: Instant) -> None:
        """Act on a deadline that has passed. Calling early or twice does no harm."""

    def deadline(self) -> float | None:
        """Return the monotonic second at which `timeout` is due, or None."""

    def to_send(self) -> bytes:
        """Drain the bytes to put on the line now."""

    def observations(self) -> list[Observation]:
        """Drain what was seen since the last call, oldest first."""

    def stored(self, count: int, now: Instant) -> None:
        """Acknowledge to the device: the oldest `count` drained observations are on disk."""

    def dropped(self, count: int, now: Instant) -> None:
        """Note that the oldest `count` drained observations were not stored and are gone.

        Nothing may be acknowledged for them. A later `stored` counts from the next one on.
        """
