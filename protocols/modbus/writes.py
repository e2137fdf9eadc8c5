"""Writes to outputs, queued between the reads of a bus."""

from collections import deque
from dataclasses import dataclass

from events.commands import Verdict
from events.errors import LocalProtocolError
from protocols.modbus.codes import READS
from protocols.modbus.exchange import Request

WRITES_MAX = 32
OUTCOMES_MAX = 256  # not yet fetched; the oldest go first
BUSY_MAX = 3  # how often a request is repeated that the unit was too busy for
BUSY_DELAY_S = 0.2


@dataclass(slots=True, kw_only=True, eq=False)
class Write:
    """A write that waits, or is on the line."""

    ticket: int
    request: Request
    expires_at: float
    busy: int = 0
    hold_until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of a write. `exception` is the unit's own reason where it gave one."""

    ticket: int
    verdict: Verdict
    exception: int | None = None


class Writes:
    """The queue of writes, and what became of them."""

    def __init__(self) -> None:
        self._waiting: deque[Write] = deque()
        self._outcomes: deque[Written] = deque(maxlen=OUTCOMES_MAX)
        self._tickets = 0

    def add(self, request: Request, expires_at: float) -> int:
        """Queue a write; return its ticket. Raises `LocalProtocolError` when it cannot be taken."""
        if request.fc in READS:
            raise LocalProtocolError(f"function {request.fc} writes nothing")
        if len(self._waiting) >= WRITES_MAX:
            raise LocalProtocolError(
                f"{WRITES_MAX} writes are waiting already", hint="wait for their outcomes"
            )
        self._tickets += 1
        self._waiting.append(Write(ticket=self._tickets, request=request, expires_at=expires_at))
        return self._tickets

    def next(self, now_s: float) -> Write | None:
        """Take the oldest write that may go now; those that came too late are settled."""
        while self._waiting and self._waiting[0].expires_at <= now_s:
            self.settle(self._waiting.popleft(), Verdict.EXPIRED)
        if self._waiting and self._waiting[0].hold_until <= now_s:
            return self._waiting.popleft()
        return None

    def wake(self) -> float | None:
        """Return when `next` has something to do."""
        if not self._waiting:
            return None
        return min(self._waiting[0].expires_at, self._waiting[0].hold_until)

    def try_again(self, write: Write, now_s: float) -> bool:
        """Put a write back whose unit was busy; False when that was often enough."""
        write.busy += 1
        if write.busy > BUSY_MAX:
            return False
        write.hold_until = now_s + BUSY_DELAY_S
        self._waiting.appendleft(write)
        return True

    def settle(self, write: Write, verdict: Verdict, exception: int | None = None) -> None:
        self._outcomes.append(Written(ticket=write.ticket, verdict=verdict, exception=exception))

    def outcomes(self) -> list[Written]:
        """Drain what became of writes."""
        found = list(self._outcomes)
        self._outcomes.clear()
        return found
