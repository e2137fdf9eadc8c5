"""A receiver that behaves: the far end for tests and demonstrations.

It sends one message at a time, waits for the acknowledgement, repeats, gives up for a while, begins
again, and asks with a heartbeat when it has nothing to say. Its journal, not our counters, says
what a receiver would swear to: what it sent, how often, and when it was acknowledged.
"""

from collections import deque
from dataclasses import dataclass

from events.errors import LocalProtocolError
from events.model import Instant
from protocols.contact_id.formats import FORMATS

JOURNAL_MAX = 100_000
NAK = 0x15


@dataclass(slots=True, kw_only=True)
class Entry:
    """One message: its bytes, and what became of it (monotonic seconds)."""

    number: int
    raw: bytes
    queued: float
    sent: list[float]
    accepted: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The times of a receiver.

    repeat_s: how long it waits for an answer before it sends again, `repeats` times.
    pause_s: how long it then keeps the message before it begins again, with a heartbeat first if
        `heartbeat_first`.
    heartbeat_s: silence after which it asks whether the computer is there.
    turnaround_s: how long after an answer it sends nothing, and discards what comes.
    """

    repeat_s: float = 4.0
    repeats: int = 3
    pause_s: float = 4.0
    heartbeat_s: float = 30.0
    turnaround_s: float = 0.1
    heartbeat_first: bool = False


class SimulatedReceiver:
    """Bytes and time in, bytes and a deadline out, like every engine here."""

    def __init__(
        self, tag: str, *, receiver: str = "01", line: str = "1", patience: Patience | None = None
    ) -> None:
        self.journal: list[Entry] = []
        self.heartbeats_sent = 0
        self.heartbeats_answered = 0
        self.stray = 0  # answers that nobody had asked for
        self._form = FORMATS[tag]
        self._place = {"receiver": receiver, "line": line}
        self._patience = patience or Patience()
        self._waiting: deque[Entry] = deque()
        self._out = b""
        self._tries = 0  # of the oldest message, in this round
        self._asked: bytes | None = None  # the answer that is awaited
        self._quiet_until = 0.0
        self._next: float | None = None  # an answer is overdue, or it is time to go on
        self._heartbeat_at = 0.0
        self._heartbeat_due = False

    @property
    def idle(self) -> bool:
        """Tell whether every message has been acknowledged."""
        return not self._waiting

    def event(
        self,
        now: Instant,
        *,
        account: str,
        event: str,
        zone_or_user: str,
        qualifier: str = "E",
        group: str = "01",
        address_kind: str = "C",
    ) -> Entry:
        """Queue one event; return its entry in the journal."""
        fields = {
            **self._place,
            "message_type": "18",
            "account": account,
            "event": event,
            "zone_or_user": zone_or_user,
            "qualifier": qualifier,
            "group": group,
            "address_kind": address_kind,
        }
        return self.message(now, self._form.event(fields))

    def message(self, now: Instant, raw: bytes) -> Entry:
        """Queue any bytes as one message. Raises `LocalProtocolError` when the journal is full."""
        if len(self.journal) >= JOURNAL_MAX:
            raise LocalProtocolError("the journal of the simulated receiver is full")
        entry = Entry(number=len(self.journal), raw=raw, queued=now.monotonic, sent=[])
        self.journal.append(entry)
        self._waiting.append(entry)
        self._advance(now.monotonic)
        return entry

    def start(self, now: Instant) -> None:
        """Switch on: the first heartbeat comes after `heartbeat_s`."""
        self._heartbeat_at = now.monotonic + self._patience.heartbeat_s
        self._advance(now.monotonic)

    def receive(self, data: bytes, now: Instant) -> None:
        at = now.monotonic
        for byte in data:
            if self._asked is None or at < self._quiet_until:
                self.stray += 1
            elif byte == self._asked[0]:
                self._answered(at)
            elif byte == NAK:
                self._next = at
        self._advance(at)

    def timeout(self, now: Instant) -> None:
        self._advance(now.monotonic)

    def deadline(self) -> float | None:
        due = [self._heartbeat_at]
        if self._next is not None:
            due.append(self._next)
        return min(due)

    def to_send(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def _answered(self, at: float) -> None:
        if self._heartbeat_due:
            self.heartbeats_answered += 1
            self._heartbeat_due = False
        else:
            self._waiting.popleft().accepted = at
        self._tries = 0
        self._asked = None
        self._quiet_until = self._next = at + self._patience.turnaround_s

    def _advance(self, at: float) -> None:
        if at >= self._heartbeat_at:
            self._heartbeat_at = at + self._patience.heartbeat_s
            if self._form.has_heartbeat and not self._waiting and self._asked is None:
                self._heartbeat_due = True
        if self._next is not None and at < self._next:
            return
        if self._asked is not None:
            self._give_up_waiting(at)
        elif self._heartbeat_due:
            self._send_heartbeat(at)
        elif self._waiting:
            self._send_message(self._waiting[0], at)
        else:
            self._next = None

    def _give_up_waiting(self, at: float) -> None:
        self._asked = None
        if self._heartbeat_due:
            # Unanswered: what waits is tried all the same, and the heartbeat comes in its time.
            self._heartbeat_due = False
            self._next = at + self._patience.turnaround_s
        elif self._tries > self._patience.repeats:
            self._tries = 0
            self._heartbeat_due = self._patience.heartbeat_first and self._form.has_heartbeat
            self._next = at + self._patience.pause_s
        else:
            self._send_message(self._waiting[0], at)

    def _send_heartbeat(self, at: float) -> None:
        self.heartbeats_sent += 1
        self._heartbeat_at = at + self._patience.heartbeat_s
        self._out += self._form.heartbeat(self._place)
        self._asked = self._form.answer
        self._next = at + self._patience.repeat_s

    def _send_message(self, entry: Entry, at: float) -> None:
        self._tries += 1
        entry.sent.append(at)
        self._out += entry.raw
        self._asked = self._form.acknowledge
        self._next = at + self._patience.repeat_s
        self._heartbeat_at = at + self._patience.heartbeat_s
