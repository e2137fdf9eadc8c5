"""The computer's end of an alarm receiver's line: what is on disk is acknowledged, nothing else.

A message is acknowledged when its observation is stored, and only within `acknowledge_within_s` of
its arrival: the receiver then repeats it, and a later answer would be taken for that of another
message. What cannot be stored is met with silence, never with a refusal: the receiver keeps it.

A message that cannot be read is met with silence too, so that a damaged one is sent again. The
same bytes for the `UNREADABLE_REPEATS`th repeat are no damage: they are stored as they came and
acknowledged, since the receiver would send nothing else any more.
"""

from collections import deque

import msgspec

from events.kinds import Kind, Subkind
from events.model import POSSIBLE_REPEAT, Instant, Observation
from protocols.contact_id.answers import Answers, State
from protocols.contact_id.config import Receiver
from protocols.contact_id.formats import FORMATS, Frame, FrameKind, Splitter
from protocols.contact_id.mapping import Points, observe
from protocols.contact_id.repeats import (
    DOUBT_S,
    Decision,
    Opening,
    Sent,
    Storing,
    crosses,
    decide,
)
from protocols.contact_id.silence import Silence
from protocols.levels import Memory, stored_level

WAITING_MAX = 32  # messages that wait for the disk; a receiver sends one at a time
UNREADABLE_REPEATS = 3


class ReceiverLink:
    """A `Link`. Survives the loss of its line: `start` goes on with what it knows.

    `memory` tells what was stored of this receiver before; None where there is none.
    """

    def __init__(self, receiver: Receiver, memory: Memory | None = None) -> None:
        self.form = FORMATS[receiver.format]
        self.counters = dict.fromkeys(
            ("events", "heartbeats", "others", "unreadable", "repeats", "possible_repeats"), 0
        )
        self._receiver = receiver
        self._points = Points(receiver.id, receiver.point)
        self._splitter = Splitter(self.form, strip_parity=receiver.strip_parity)
        self._answers = Answers(receiver.acknowledge_within_s)
        self._out = bytearray()
        self._seen: list[Observation] = []
        self._unsettled: deque[Sent | None] = deque()  # None: an observation of the link's own
        self._opened = 0.0
        self._opening: Opening | None = None
        self._first_line = True
        self._unreadable = (b"", 0, 0.0)  # bytes, how often in a row, when last
        raw, silent = None, False
        if memory is not None:
            raw = memory.last_raw(receiver.id)
            silent = bool(stored_level(memory, receiver.id, Kind.FAULT, Subkind.COMMUNICATION))
        self._last = Sent(raw=raw, storing=Storing.STORED, remembered=True) if raw else None
        self._silence = Silence(
            receiver.id,
            receiver.silence_s if receiver.silence_s and self.form.has_heartbeat else None,
            silent=silent,
        )

    @property
    def silent(self) -> bool:
        """Tell whether the receiver has said nothing for too long."""
        return self._silence.silent

    def totals(self) -> dict[str, int]:
        """Return every counter of the line."""
        return {
            **self.counters,
            "acknowledged": self._answers.sent,
            "lapsed": self._answers.lapsed,
            "rejected": self._splitter.rejected,
            "discarded_bytes": self._splitter.discarded_bytes,
        }

    def start(self, now: Instant) -> None:
        self._splitter.clear()
        self._answers.clear()
        self._out.clear()
        drained = len(self._unsettled) - len(self._seen)
        for _ in range(drained):
            sent = self._unsettled.popleft()
            if sent is not None:
                sent.storing = Storing.UNKNOWN
        self._opened = now.monotonic
        self._opening = None
        self._first_line = True
        self._silence.start(now.monotonic)

    def receive(self, data: bytes, now: Instant) -> None:
        self._advance(now.monotonic)
        if data and self._opening is None:
            self._opening = Opening(opened=self._opened, first_byte=now.monotonic)
        for frame in self._splitter.feed(data):
            self.take(frame, now)
            self._first_line = self._first_line and frame.kind is FrameKind.NOISE

    def take(self, frame: Frame, now: Instant) -> None:
        """Act on one frame, as `receive` does on those it finds."""
        at = now.monotonic
        if frame.kind is FrameKind.NOISE:
            self._interrupt(unless_first_line=True)
        elif frame.kind is FrameKind.UNREADABLE:
            self._take_unreadable(frame, at)
        else:
            self._heard(at)
            if frame.kind is FrameKind.HEARTBEAT:
                self.counters["heartbeats"] += 1
                self._interrupt()
                self._answers.owe(self.form.answer, at, State.READY)
            else:
                self._take_message(frame, at)
        self._advance(at)

    def timeout(self, now: Instant) -> None:
        self._advance(now.monotonic)
        self._report(self._silence.timeout(now.monotonic), now.monotonic)

    def deadline(self) -> float | None:
        deadlines = (self._answers.deadline(), self._silence.deadline())
        return min((at for at in deadlines if at is not None), default=None)

    def to_send(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    def observations(self) -> list[Observation]:
        seen, self._seen = self._seen, []
        return seen

    def stored(self, count: int, now: Instant) -> None:
        for sent in self._settle(count):
            if sent is not None:
                sent.storing = Storing.STORED
                if sent.answer is not None and sent.answer.state is State.WAITING:
                    sent.answer.state = State.READY
        self._advance(now.monotonic)

    def dropped(self, count: int, now: Instant) -> None:
        """Stay silent: the oldest `count` drained observations were not stored and are gone."""
        for sent in self._settle(count):
            if sent is None:
                self._silence.refused(now.monotonic)
                continue
            sent.storing = Storing.REFUSED
            if sent.answer is not None and sent.answer.state is State.WAITING:
                sent.answer.state = State.WITHHELD
        self._advance(now.monotonic)

    def _settle(self, count: int) -> list[Sent | None]:
        drained = len(self._unsettled) - len(self._seen)
        return [self._unsettled.popleft() for _ in range(min(count, drained))]

    def _advance(self, at: float) -> None:
        self._out += self._answers.advance(at)

    def _heard(self, at: float) -> None:
        self._report(self._silence.heard(at), at)

    def _report(self, own: Observation | None, at: float) -> None:
        """Report what the link itself has to say; nothing is acknowledged for it."""
        if own is None:
            return
        if len(self._unsettled) >= 2 * WAITING_MAX:
            self._silence.refused(at)
            return
        self._seen.append(own)
        self._unsettled.append(None)

    def _interrupt(self, *, unless_first_line: bool = False) -> None:
        """Note that something other than a message came.

        The line was opened in the middle of whatever was on it, so a broken first line is no sign.
        """
        if self._last is not None and not (unless_first_line and self._first_line):
            self._last.interrupted = True

    def _take_message(self, frame: Frame, at: float) -> None:
        self.counters["events" if frame.kind is FrameKind.EVENT else "others"] += 1
        self._unreadable = (b"", 0, at)
        self._judge(frame, at)

    def _take_unreadable(self, frame: Frame, at: float) -> None:
        if self._last is not None and frame.raw == self._last.raw:
            self._judge(frame, at)
            return
        raw, count, last = self._unreadable
        again = raw == frame.raw and at - last <= DOUBT_S
        self._unreadable = (frame.raw, count + 1 if again else 0, at)
        self._interrupt(unless_first_line=True)
        if self._unreadable[1] >= UNREADABLE_REPEATS:
            self._unreadable = (b"", 0, at)
            self.counters["unreadable"] += 1
            self._judge(frame, at)

    def _judge(self, frame: Frame, at: float) -> None:
        decision = Decision.NEW
        if self._last is not None and self._last.raw == frame.raw:
            if self._last.answer is not None:
                self._answers.withdraw(self._last.answer)
            opening = self._opening or Opening(opened=self._opened, first_byte=at)
            decision = decide(self._last, opening, at, self._receiver.repeat_window_s)
            if decision is Decision.REPEAT:
                self._take_repeat(self._last, at)
                return
        self._take_new(frame, at, doubtful=decision is Decision.DOUBT)

    def _take_repeat(self, last: Sent, at: float) -> None:
        self.counters["repeats"] += 1
        last.note_answer()
        last.interrupted = False
        if last.answer is not None and last.answer.state in {State.WAITING, State.READY}:
            self._answers.renew(last.answer, at)
        elif last.storing is Storing.WAITING:
            last.answer = self._answers.owe(self.form.acknowledge, at, State.WAITING)
        elif not crosses(last, at, self._receiver.acknowledge_within_s):
            last.answer = self._answers.owe(self.form.acknowledge, at, State.READY)

    def _take_new(self, frame: Frame, at: float, *, doubtful: bool) -> None:
        full = len(self._unsettled) >= WAITING_MAX
        self._last = Sent(
            raw=frame.raw,
            storing=Storing.REFUSED if full else Storing.WAITING,
            answer=self._answers.owe(
                self.form.acknowledge, at, State.WITHHELD if full else State.WAITING
            ),
            doubtful=doubtful,
        )
        if full:
            return
        observation = observe(frame, self.form, self._receiver.id, self._points)
        if doubtful:
            self.counters["possible_repeats"] += 1
            flags = (*observation.flags, POSSIBLE_REPEAT)
            observation = msgspec.structs.replace(observation, flags=flags)
        self._seen.append(observation)
        self._unsettled.append(self._last)
