"""Answers owed to the receiver, in the order in which it asked.

An answer is one byte and names no message: the receiver takes it for whatever it sent last. So an
answer is never sent late, never overtakes an older one, and never follows one that was withheld
while the receiver may still be waiting for that.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

ANSWERS_MAX = 64


class State(Enum):
    WAITING = "waiting"  # for the disk
    READY = "ready"
    SENT = "sent"
    WITHHELD = "withheld"  # could not be stored; holds back the answers behind it
    LAPSED = "lapsed"


@dataclass(slots=True, kw_only=True, eq=False)
class Answer:
    """One answer, owed from `received` to `due` (both monotonic seconds)."""

    data: bytes
    received: float
    due: float
    state: State
    sent: float | None = None


class Answers:
    def __init__(self, within_s: float) -> None:
        self.sent = 0
        self.lapsed = 0
        self._within_s = within_s
        self._queue: deque[Answer] = deque()

    def owe(self, data: bytes, now: float, state: State) -> Answer:
        """Return a new answer; with `ANSWERS_MAX` owed already it has lapsed from the start."""
        answer = Answer(data=data, received=now, due=now + self._within_s, state=state)
        if len(self._queue) >= ANSWERS_MAX:
            answer.state = State.LAPSED
            self.lapsed += 1
        else:
            self._queue.append(answer)
        return answer

    def renew(self, answer: Answer, now: float) -> None:
        """Count the time of a waiting answer from now: the receiver has asked again."""
        answer.received = now
        answer.due = now + self._within_s

    def withdraw(self, answer: Answer) -> None:
        """Let a withheld answer lapse: the receiver has stopped waiting for it and asks again."""
        if answer.state is State.WITHHELD:
            answer.state = State.LAPSED
            self.lapsed += 1
            self._queue.remove(answer)

    def advance(self, now: float) -> bytes:
        """Return what is to be sent now, and drop what has lapsed."""
        out = b""
        while self._queue:
            head = self._queue[0]
            if head.state is State.READY and now <= head.due:
                head.state, head.sent = State.SENT, now
                out += head.data
                self.sent += 1
                self._queue.popleft()
            elif now >= head.due:
                self.clear()
            else:
                break
        return out

    def clear(self) -> None:
        """Let every answer lapse."""
        self.lapsed += len(self._queue)
        for answer in self._queue:
            answer.state = State.LAPSED
        self._queue.clear()

    def deadline(self) -> float | None:
        """Return when the oldest answer lapses."""
        return self._queue[0].due if self._queue else None
