"""Decide whether a message is new, or the last one once more.

The receiver sends a message again when it saw no acknowledgement, and only then; nothing on this
line is numbered. Only a message that is byte-identical to the one before it can be a repeat: after
any other message it is new. In this order, when the message before it

- still waits for the disk: a repeat, since it was not acknowledged;
- could not be stored: new, since nothing holds it (doubt, if that one was in doubt itself);
- may or may not be stored, because the line was lost meanwhile: doubt;
- is stored but was never acknowledged: a repeat, since the receiver cannot have let go of it;
- was acknowledged, and a heartbeat or a broken frame came since: doubt. No heartbeat comes between
  repeats, so either the receiver had its answer and this is another event, or it had given up for
  a while and begins again;
- was stored before this program was started: a repeat if it comes within the repeat window of the
  first byte and within `RESTART_S` of the opening, since the acknowledgement was perhaps cut off;
  otherwise doubt;
- was acknowledged, the first time within the repeat window: a repeat, since the acknowledgement
  may have been lost on the line;
- was acknowledged, the first time within `DOUBT_S`: doubt; before that: new.

A repeat is acknowledged and counted, not stored. Doubt is stored, with the flag `possible_repeat`:
an event too many can be explained, one too few cannot. The window counts from the first copy that
was acknowledged, so that a signal that comes every ten seconds is not one event for ever.
"""

from dataclasses import dataclass
from enum import Enum

from protocols.contact_id.answers import Answer, State

RESTART_S = 60.0  # a receiver without an answer sends again long before
DOUBT_S = 3600.0
CROSSING_S = 0.5  # a message takes up to 0.2 s on the line at 1200 baud


class Storing(Enum):
    WAITING = "waiting"
    STORED = "stored"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Decision(Enum):
    NEW = "new"
    REPEAT = "repeat"
    DOUBT = "doubt"


@dataclass(slots=True, kw_only=True)
class Sent:
    """A message as the receiver sent it, and what became of it.

    answer: the newest answer owed for it.
    acknowledged: when the first copy that was acknowledged came; None = none was.
    interrupted: something other than a message has come since.
    remembered: stored before this program was started.
    doubtful: it may be a copy of one that is stored.
    """

    raw: bytes
    storing: Storing
    answer: Answer | None = None
    acknowledged: float | None = None
    interrupted: bool = False
    remembered: bool = False
    doubtful: bool = False

    def note_answer(self) -> None:
        """Take over from the newest answer whether it was sent."""
        if self.acknowledged is None and self.answer and self.answer.state is State.SENT:
            self.acknowledged = self.answer.received


@dataclass(slots=True, kw_only=True)
class Opening:
    """When the line was opened, and when its first byte came (monotonic seconds)."""

    opened: float
    first_byte: float


def decide(before: Sent, opening: Opening, now: float, window_s: float) -> Decision:
    """Judge a message that is byte-identical to `before`."""
    decided = {
        Storing.WAITING: Decision.REPEAT,
        Storing.REFUSED: Decision.DOUBT if before.doubtful else Decision.NEW,
        Storing.UNKNOWN: Decision.DOUBT,
    }.get(before.storing)
    if decided is not None:
        return decided
    before.note_answer()
    if before.acknowledged is None and not before.remembered:
        return Decision.REPEAT
    if before.interrupted:
        return Decision.DOUBT
    if before.acknowledged is None:
        promptly = now - opening.first_byte <= window_s and now - opening.opened <= RESTART_S
        return Decision.REPEAT if promptly else Decision.DOUBT
    age_s = now - before.acknowledged
    if age_s <= window_s:
        return Decision.REPEAT
    return Decision.DOUBT if age_s <= DOUBT_S else Decision.NEW


def crosses(before: Sent, now: float, within_s: float) -> bool:
    """Tell whether a copy was on its way while its acknowledgement, sent late, went the other way.

    The receiver takes that acknowledgement for the copy. A second one would be taken for the
    message after it, which may never have arrived.
    """
    answer = before.answer
    return (
        answer is not None
        and answer.sent is not None
        and answer.sent - answer.received > within_s - CROSSING_S
        and now - answer.sent <= CROSSING_S
    )
