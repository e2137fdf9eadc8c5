"""Commands in the station's file: each is a row before anything of it is sent.

The table stands beside the ledger's own; a program that does not know it ignores it.
"""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from events.commands import Challenge, Command, Outcome, Verdict

_TABLE = """
CREATE TABLE IF NOT EXISTS command (
  n INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  gateway TEXT NOT NULL,
  state TEXT NOT NULL,
  asked_us INTEGER,
  settled_us INTEGER,
  body BLOB NOT NULL,
  outcome BLOB
) STRICT
"""

_NOBODY = Challenge(boot_id="", counter=0)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)

_command = msgspec.msgpack.Decoder(Command)
_outcome = msgspec.msgpack.Decoder(Outcome)


class Progress(StrEnum):
    NEW = "new"  # nothing was sent
    SENT = "sent"  # it may have reached the gateway
    SETTLED = "settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A command without its payload. Times are POSIX microseconds, None while the clock is unset."""

    n: int
    gateway: str
    state: Progress
    asked_us: int | None
    settled_us: int | None
    command: Command
    outcome: Outcome | None


def prepare(connection: sqlite3.Connection) -> None:
    """Make the table where there is none."""
    connection.execute(_TABLE)


def add(
    connection: sqlite3.Connection, gateway: str, command: Command, asked_us: int | None
) -> None:
    connection.execute(
        "INSERT INTO command (id, gateway, state, asked_us, body) VALUES (?, ?, ?, ?, ?)",
        (command.id, gateway, Progress.NEW, asked_us, _body(command)),
    )


def sent(connection: sqlite3.Connection, command: Command) -> None:
    """Note that a command is about to be sent, as it will be."""
    connection.execute(
        "UPDATE command SET state = ?, body = ? WHERE id = ? AND state = ?",
        (Progress.SENT, _body(command), command.id, Progress.NEW),
    )


def settle(
    connection: sqlite3.Connection, gateway: str, outcome: Outcome, settled_us: int | None
) -> bool:
    """Keep what came of a command of this gateway; False when nothing waited for it."""
    changed = connection.execute(
        "UPDATE command SET state = ?, outcome = ?, settled_us = ?"
        " WHERE id = ? AND gateway = ? AND state <> ?",
        (
            Progress.SETTLED,
            msgspec.msgpack.encode(outcome),
            settled_us,
            outcome.command_id,
            gateway,
            Progress.SETTLED,
        ),
    ).rowcount
    return changed == 1


def unsettled(connection: sqlite3.Connection) -> list[Row]:
    return _rows(connection, "WHERE state <> 'settled' ORDER BY n", ())


def newest(connection: sqlite3.Connection, gateway: str | None, limit: int) -> list[Row]:
    """Return the newest commands, newest first."""
    where = "" if gateway is None else "WHERE gateway = ?"
    values: tuple[object, ...] = () if gateway is None else (gateway,)
    return _rows(connection, f"{where} ORDER BY n DESC LIMIT ?", (*values, limit))


def _rows(connection: sqlite3.Connection, rest: str, values: tuple[object, ...]) -> list[Row]:
    found = connection.execute(
        f"SELECT n, gateway, state, asked_us, settled_us, id, body, outcome FROM command {rest}",  # noqa: S608 - our words
        values,
    )
    return [
        Row(
            n=n,
            gateway=gateway,
            state=Progress(state),
            asked_us=asked_us,
            settled_us=settled_us,
            command=_read_command(command_id, body),
            outcome=None if outcome is None else _read_outcome(command_id, outcome),
        )
        for n, gateway, state, asked_us, settled_us, command_id, body, outcome in found
    ]


def _read_command(command_id: str, body: bytes) -> Command:
    """Return a command; of bytes that nobody can read the id alone, by which it is asked after."""
    try:
        return _command.decode(body)
    except _UNREADABLE:
        return Command(id=command_id, challenge=_NOBODY, expires_s=1.0, target="", action="")


def _read_outcome(command_id: str, outcome: bytes) -> Outcome:
    try:
        return _outcome.decode(outcome)
    except _UNREADABLE:
        text = "its outcome is stored here and cannot be read; see the gateway's events"
        return Outcome(command_id=command_id, verdict=Verdict.OUTCOME_UNKNOWN, text=text)


def _body(command: Command) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(command, payload=b""))
