"""What the station asks of a gateway, and what came of it.

A command is recorded before it acts and acts at most once; a crash in between is reported as
`outcome-unknown`, never repeated. The conversation runs beside the events, over the same
connections: the station asks for a challenge, sends the command with it, and is told the outcome;
after any loss it inquires, and the inquiry settles the command for good.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from events.model import Scalar

EXPIRES_S_MAX = 3600.0
PAYLOAD_LENGTH_MAX = 48 * 1024  # packed
UNPACKED_LENGTH_MAX = 1024 * 1024
ARGUMENTS_MAX = 16
TEXT_LENGTH_MAX = 2000

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Word = Annotated[str, msgspec.Meta(max_length=64)]
Target = Annotated[str, msgspec.Meta(max_length=200)]
Person = Annotated[str, msgspec.Meta(max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=TEXT_LENGTH_MAX)]
Payload = Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_LENGTH_MAX)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=EXPIRES_S_MAX)]
Counter = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Arguments = Annotated[
    dict[Word, bool | Whole | float | Text], msgspec.Meta(max_length=ARGUMENTS_MAX)
]


class Verdict(StrEnum):
    ACCEPTED = "accepted"  # recorded, and now being done: another verdict follows
    APPLIED = "applied"
    APPLIED_UNCONFIRMED = "applied-unconfirmed"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    OUTCOME_UNKNOWN = "outcome-unknown"


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """Handed out by the gateway; a command's expiry counts from here on the monotonic clock.

    counter: milliseconds of that clock, in the boot `boot_id`.
    """

    boot_id: Word
    counter: Counter


class ChallengeRequest(
    msgspec.Struct, frozen=True, kw_only=True, tag="challenge-request", tag_field="type"
):
    """The station is about to send the command `command_id`."""

    command_id: Id


class ChallengeOffer(msgspec.Struct, frozen=True, kw_only=True, tag="challenge", tag_field="type"):
    """The gateway's answer to it."""

    command_id: Id
    challenge: Challenge


class Command(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag="command",
    tag_field="type",
):
    """An order to an output, a point, the configuration or the program of one gateway.

    `target` is a point id, or `configuration`, `program`, `clock`; `action` a verb of the target
    (`set`, `pulse`, `bypass` …). Valid for `expires_s` seconds from its challenge. `payload` is
    zstd, of whatever the action says. `confirmed_by` is a second person's name.
    """

    id: Id
    challenge: Challenge
    expires_s: Seconds
    target: Target
    action: Word
    arguments: Arguments = {}
    issued_by: Person = ""
    confirmed_by: Person = ""
    payload: Payload = b""


class Inquiry(msgspec.Struct, frozen=True, kw_only=True, tag="inquiry", tag_field="type"):
    """What became of a command that was sent? One that never came is refused from now on."""

    command_id: Id


class Outcome(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag="outcome",
    tag_field="type",
):
    """What became of a command. `payload` is zstd, of whatever the action gives.

    repeated: the command was known already; nothing was done again.
    """

    command_id: Id
    verdict: Verdict
    text: Text = ""
    value: Scalar | None = None
    payload: Payload = b""
    repeated: bool = False

    @property
    def settled(self) -> bool:
        return self.verdict is not Verdict.ACCEPTED


Asked = ChallengeRequest | Command | Inquiry
"""What a station says to a gateway."""

Told = ChallengeOffer | Outcome
"""What a gateway answers."""
