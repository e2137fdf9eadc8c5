"""What the station asks of a gateway, and what came of it.

A command is recorded before it acts and acts at most once; a crash in between is reported as
`outcome-unknown`, never repeated.
"""

from enum import StrEnum

import msgspec

from events.model import Scalar


class Verdict(StrEnum):
    APPLIED = "applied"
    APPLIED_UNCONFIRMED = "applied-unconfirmed"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    OUTCOME_UNKNOWN = "outcome-unknown"


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """Handed out by the gateway; a command's expiry counts from here on the monotonic clock."""

    boot_id: str
    counter: int


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """An order to an output, a point, the configuration or the firmware of one gateway.

    `target` is a point id, or `configuration`, `firmware`, `clock`; `action` a verb of the target
    (`set`, `pulse`, `bypass` …). Valid for `expires_s` seconds from its challenge.
    """

    id: str
    challenge: Challenge
    expires_s: float
    target: str
    action: str
    arguments: dict[str, Scalar] = {}
    issued_by: str = ""
    confirmed_by: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command."""

    command_id: str
    verdict: Verdict
    text: str = ""
    value: Scalar | None = None
