"""The audit events of commands: who asked for what, and what came of it."""

from events.commands import Command, Verdict
from events.kinds import Kind, Subkind
from events.model import POSSIBLE_REPEAT, Observation, Scalar
from gateway.command_journal import OUTCOME, Owed
from gateway.config_checks import GATEWAY_POINT

ARGUMENT_LENGTH_MAX = 200


def audit(owed: Owed, *, doubtful: bool) -> Observation:
    """Return the event. `doubtful`: it may be in the log already, since before a crash."""
    command, outcome = owed.entry.command, owed.entry.outcome
    details: dict[str, Scalar] = {
        "command": command.id,
        "target": command.target,
        "action": command.action,
        "by": command.issued_by,
        "station": owed.entry.station,
    }
    if command.confirmed_by:
        details["confirmed_by"] = command.confirmed_by
    text = sentence(command)
    subkind = Subkind.COMMAND
    if owed.what == OUTCOME and outcome is not None:
        subkind = Subkind.COMMAND_OUTCOME
        details["verdict"] = outcome.verdict
        text = f"{text}: {said(outcome.verdict, outcome.text)}"
        if outcome.value is not None:
            details["value"] = outcome.value
    else:
        details |= {
            name: value[:ARGUMENT_LENGTH_MAX] if isinstance(value, str) else value
            for name, value in command.arguments.items()
            if name not in details
        }
    return Observation(
        point=GATEWAY_POINT,
        kind=Kind.INFORMATION,
        subkind=subkind,
        source=GATEWAY_POINT,
        text=text,
        flags=(POSSIBLE_REPEAT,) if doubtful else (),
        details=details,
    )


def sentence(command: Command) -> str:
    """Return who asks for what, in one line."""
    if not command.action:
        return f"inquiry after {command.id}"
    names = command.issued_by or "nobody"
    if command.confirmed_by:
        names += f" with {command.confirmed_by}"
    return f"{names}: {command.action} {command.target}"


def said(verdict: Verdict, text: str) -> str:
    return f"{verdict}, {text}" if text else str(verdict)
