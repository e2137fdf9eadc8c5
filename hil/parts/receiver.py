"""An alarm receiver on a port: alarm panels call it, it tells the gateway and waits to be told so."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from events.kinds import Qualifier
from events.model import Instant
from hil.parts.journal import Journal
from hil.parts.line import Port
from protocols.contact_id.simulated import Entry, Patience, SimulatedReceiver

PATIENCE = Patience(repeat_s=2.0, pause_s=2.0)  # half of the real ones: a story has no time
_QUALIFIERS = {Qualifier.NEW: "E", Qualifier.RESTORE: "R", Qualifier.STILL: "P"}


class PanelReceiver:
    """A receiver with the messages of its panels.

    Its journal: `sent` (point, qualifier), the last byte of a message is on the line; `repeated`;
    `acknowledged`, with the moment in which the receiver read the acknowledgement.
    """

    def __init__(
        self,
        link: Path,
        journal: Journal,
        *,
        form: Literal["mlr2", "system3", "685"] = "mlr2",
        patience: Patience = PATIENCE,
    ) -> None:
        self.journal = journal
        self._port = Port(link)
        self._engine = SimulatedReceiver(form, patience=patience)
        self._messages: list[tuple[Entry, str, str]] = []
        self._noted = 0  # messages whose acknowledgement has been written down
        self._sent = 0  # transmissions of the message after them that have been written down
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        self._port.received = self._received
        self._port.plug()
        self._engine.start(_now())
        self._go_on()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer:
            self._timer.cancel()
        self._port.unplug()

    @property
    def pending(self) -> int:
        """How many messages are not acknowledged."""
        return len(self._messages) - self._noted

    def report(self, point: str, *, account: str, code: str, zone: str, qualifier: str) -> None:
        """Let a panel report: the message waits for its turn on the line."""
        entry = self._engine.event(
            _now(),
            account=account,
            event=code,
            zone_or_user=zone,
            qualifier=_QUALIFIERS[Qualifier(qualifier)],
        )
        self._messages.append((entry, point, qualifier))
        self._go_on()

    def _received(self, data: bytes) -> None:
        self._engine.receive(data, _now())
        self._go_on()

    def _timeout(self) -> None:
        self._engine.timeout(_now())
        self._go_on()

    def _go_on(self) -> None:
        if data := self._engine.to_send():
            self._port.send(data)
        self._write_down()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due_s = self._engine.deadline()
        if due_s is not None and self._port.plugged:
            self._timer = asyncio.get_running_loop().call_at(due_s, self._timeout)

    def _write_down(self) -> None:
        """Bring the journal up to what the receiver has done."""
        while self._noted < len(self._messages):
            entry, point, qualifier = self._messages[self._noted]
            for at_s in entry.sent[self._sent :]:
                event = "repeated" if self._sent else "sent"
                self.journal.note(event, point=point, text=qualifier, at_s=at_s)
                self._sent += 1
            if entry.accepted is None:
                return
            self._noted += 1
            self._sent = 0
            self.journal.note("acknowledged", point=point, accepted=True, at_s=entry.accepted)


def _now() -> Instant:
    return Instant(monotonic=asyncio.get_running_loop().time())
