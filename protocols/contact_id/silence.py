"""A receiver that says nothing, not even its heartbeat, may be dead: nobody would know."""

from events.kinds import Kind, Qualifier, Subkind
from events.model import Observation

RETRY_S = 10.0  # a fault that could not be stored is reported again after this


class Silence:
    """Watches over one receiver. `silence_s` is None where its format has no heartbeat."""

    def __init__(self, receiver: str, silence_s: float | None, *, silent: bool) -> None:
        self.silent = silent
        self._receiver = receiver
        self._silence_s = silence_s
        self._silent_at: float | None = None
        self._retry_at: float | None = None

    def start(self, now: float) -> None:
        """Count from the opening of the line."""
        if self._silence_s is not None and not self.silent:
            self._silent_at = now + self._silence_s

    def heard(self, now: float) -> Observation | None:
        """Take note of a checked message; return the restore if it ends a silence."""
        ended, self.silent = self.silent, False
        self._silent_at = None if self._silence_s is None else now + self._silence_s
        if not ended:
            return None
        self._retry_at = None
        return self._observation()

    def timeout(self, now: float) -> Observation | None:
        """Return what is due: that the receiver is silent, or what could not be stored before."""
        if self._silent_at is not None and now >= self._silent_at:
            self.silent = True
            self._silent_at = self._retry_at = None
            return self._observation()
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            return self._observation()
        return None

    def refused(self, now: float) -> None:
        """Report again later: what was reported last could not be stored."""
        self._retry_at = now + RETRY_S

    def deadline(self) -> float | None:
        """Return when `timeout` is due."""
        return min(
            (at for at in (self._silent_at, self._retry_at) if at is not None), default=None
        )

    def _observation(self) -> Observation:
        return Observation(
            point=self._receiver,
            kind=Kind.FAULT,
            subkind=Subkind.COMMUNICATION,
            qualifier=Qualifier.NEW if self.silent else Qualifier.RESTORE,
            source=self._receiver,
            cause="" if self.silent else "device",
            text=f"nothing heard for {self._silence_s:g} s" if self.silent else "",
        )
