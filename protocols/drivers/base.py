"""What the gateway gives to a driver, and what it wants from one.

A driver owns one line (a bus, a receiver, the pins of a chip) and runs until it is cancelled. It
raises `LinkError` when its line is gone; the supervisor starts it again with back-off, turns the
loss into an event, and counts. A driver author writes none of that.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from events.model import Instant, Observation, Scalar
from protocols.levels import Memory

Clock = Callable[[], Instant]

Report = Callable[[Sequence[Observation]], Awaitable[None]]
"""Returns when the observations are durable; raises `StoreError` when they cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a driver may ask of the gateway."""

    clock: Clock
    memory: Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """A driver's own account of its line, for `status`. Counters only ever grow."""

    up: bool
    counters: dict[str, int] = field(default_factory=dict)
    details: dict[str, Scalar] = field(default_factory=dict)
    units: dict[str, dict[str, Scalar]] = field(default_factory=dict)


class Driver(Protocol):
    @property
    def id(self) -> str:
        """The id of the line in the configuration."""

    async def run(self, report: Report) -> None:
        """Watch the line until cancelled. Raises `LinkError` to be started again."""

    def health(self) -> Health: ...
