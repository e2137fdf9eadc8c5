"""Events that no station takes: said on the spot, by an output, the status and an event.

EN 54-21 lets an alarm that is not acknowledged be indicated after 100 s at the latest. Here that
holds for every event: whatever is older than the limit and not held by every required station (by
any, where none is required) is not delivered. While a long backlog drains the indication therefore
lasts; it ends when nothing is left that is older than half the limit.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

import structlog

from events.kinds import Subkind
from events.model import Instant
from gateway.conditions import Conditions
from gateway.config_checks import GATEWAY_POINT
from gateway.sections import AnnunciationSection
from protocols.drivers.base import Clock

LOOK_S = 1.0
NOT_DELIVERED = "not-delivered"


class Switch(Protocol):
    """What is ruled; `gateway.outputs.Outputs` fits."""

    def set(self, output: str, on: bool, *, why: str) -> None: ...


class Annunciation:
    """Whether something is not delivered. Pure: ages and `now` in, a state out."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.since: float | None = None  # monotonic

    def look(self, oldest_s: float | None, now: float) -> bool:
        """Take the age of the oldest undelivered event (None: all is delivered); tell the state."""
        limit_s = self.after_s if self.since is None else self.after_s / 2
        if oldest_s is None or oldest_s < limit_s:
            self.since = None
        elif self.since is None:
            self.since = now
        return self.since is not None

    def wait_s(self, oldest_s: float | None) -> float:
        """Return how long it takes until the same event is not delivered, or until the next look."""
        if oldest_s is None or self.since is not None:
            return LOOK_S
        return min(LOOK_S, max(0.0, self.after_s - oldest_s))


class Annunciator:
    """Looks at the age once a second and when it reaches the limit, and says what follows."""

    def __init__(
        self,
        section: AnnunciationSection,
        *,
        oldest_s: Callable[[Instant], float | None],
        conditions: Conditions,
        outputs: Switch,
        clock: Clock,
    ) -> None:
        self._engine = Annunciation(section.after_s)
        self._output = section.output
        self._oldest_s = oldest_s
        self._conditions = conditions
        self._outputs = outputs
        self._clock = clock
        self._log = structlog.get_logger()
        self._shown: bool | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            now = self._clock()
            oldest_s = self._oldest_s(now)
            self._show(self._engine.look(oldest_s, now.monotonic))
            await asyncio.sleep(self._engine.wait_s(oldest_s))

    def status(self) -> dict[str, Any]:
        """Return the state for `status`."""
        since = self._engine.since
        return {
            "not_delivered": since is not None,
            "since_s": None if since is None else round(self._clock().monotonic - since, 1),
            "after_s": self._engine.after_s,
            "output": self._output,
        }

    def _show(self, on: bool) -> None:
        if on == self._shown:
            return
        self._shown = on
        after_s = self._engine.after_s
        text = f"an event is older than {after_s:g} s and not held by every required station"
        if self._conditions.set(
            GATEWAY_POINT,
            Subkind.NOT_DELIVERED,
            NOT_DELIVERED if on else "",
            text=text if on else "what was not delivered is",
            source=GATEWAY_POINT,
            details={"after_s": after_s},
        ):
            say = self._log.error if on else self._log.info
            say("not delivered" if on else "delivered", after_s=after_s)
        if self._output is not None:
            self._outputs.set(self._output, on, why=NOT_DELIVERED)
