"""When the station must have heard something over a connection: the path that carries, or an idle one."""

from dataclasses import dataclass

from events.replication import HOLD_S

SILENCE_S = 8.0  # nothing heard for so long from the path that carries: the connection is dead
ANSWER_S = HOLD_S + 4.0  # a fetch that is open for longer is lost
IDLE_SPARE_S = 1.0  # an idle path is proved so much earlier than its period asks


@dataclass(slots=True)
class Vigil:
    """One connection. heard: the last word. turned: when it last became carrier or idle.

    period_s: how often the path is to be proved while it idles. Times are monotonic seconds.
    """

    heard: float
    turned: float
    period_s: float = HOLD_S
    active: bool = True

    @property
    def hold_s(self) -> float:
        """How long the gateway shall wait with a sign of life."""
        return HOLD_S if self.active else max(HOLD_S, self.period_s - IDLE_SPARE_S)

    @property
    def answer_s(self) -> float:
        """How long a fetch may be open."""
        return ANSWER_S - HOLD_S + self.hold_s

    @property
    def silent_at(self) -> float:
        """When the connection is dead, unless something is heard."""
        # What an idle path owes by its period it does not owe at once when it becomes the carrier.
        return max(self.heard, self.turned) + SILENCE_S - HOLD_S + self.hold_s
