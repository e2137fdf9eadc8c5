"""The `command` and `config` commands: words to an order, an order to its outcome on the screen."""

import base64
import getpass
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from events.errors import (
    EX_IOERR,
    EX_NOPERM,
    EX_TEMPFAIL,
    NplusError,
    UsageError,
)
from station.views import plain
from sync.local_socket import request
from sync.payload import pack, unpack

LENGTH_SHOWN = 2000

Show = Callable[[Mapping[str, Any]], None]

_FORMS = (
    "output set|clear|pulse ID, bypass add|remove POINT, clock [set], log upload, restart, list"
)
_WHOLE: dict[tuple[str, ...], tuple[str, str]] = {
    ("clock",): ("clock", "report"),
    ("clock", "set"): ("clock", "set"),
    ("log", "upload"): ("program", "log"),
    ("restart",): ("program", "restart"),
}
_OF_A_POINT: dict[tuple[str, ...], str] = {
    ("output", "set"): "set",
    ("output", "clear"): "clear",
    ("output", "pulse"): "pulse",
    ("bypass", "add"): "bypass",
    ("bypass", "remove"): "unbypass",
}
_LASTING = {"pulse": "duration_s", "bypass": "for_s"}
_CODES = {
    "applied": 0,
    "applied-unconfirmed": 0,
    "refused": EX_NOPERM,
    "failed": EX_IOERR,
    "expired": EX_TEMPFAIL,
    "outcome-unknown": EX_TEMPFAIL,
    "pending": EX_TEMPFAIL,
}


class Unreadable(NplusError):  # noqa: N818 - the state has a name of its own
    """A file that was named cannot be used."""

    exit_code = EX_IOERR


def login() -> str:
    """Return the name of whoever is logged in. Raises `UsageError` where there is none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise UsageError("nobody is logged in by name", hint="say who asks: --by NAME") from error


def order(words: Sequence[str], *, for_s: float | None) -> dict[str, Any]:
    """Return what `words` ask for. Raises `UsageError`."""
    *verb, last = words
    target, action = _WHOLE.get(tuple(words)) or (last, _OF_A_POINT.get(tuple(verb), ""))
    if not action:
        raise UsageError(f"{' '.join(words)!r} is no command", hint=f"there are: {_FORMS}")
    if action == "pulse" and for_s is None:
        raise UsageError("how long is the pulse?", hint="--for SECONDS")
    if for_s is None:
        return {"target": target, "action": action, "arguments": {}}
    if action not in _LASTING:
        raise UsageError("--for belongs to output pulse and bypass add")
    return {"target": target, "action": action, "arguments": {_LASTING[action]: for_s}}


def follow(socket: Path, message: Mapping[str, Any], *, show: Show) -> dict[str, Any]:
    """Send an order to the running station, show what comes, and return the last of it."""
    last: dict[str, Any] = {}
    for line in request(socket, {**message, "request": "command"}):
        last = line
        if not last.get("payload"):
            show(last)
    return last


def configure(
    socket: Path,
    gateway: str,
    file: Path,
    action: str,
    *,
    by: str | None,
    wait_s: float,
    confirmed_by: str = "",
    arguments: Mapping[str, Any] | None = None,
    quiet: bool,
) -> dict[str, Any]:
    """Send a configuration command; return its outcome."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from error
    message = {
        "target": "configuration",
        "action": action,
        "gateway": gateway,
        "by": by or login(),
        "arguments": dict(arguments or {}),
        "confirmed_by": confirmed_by,
        "payload": base64.b64encode(pack(text)).decode("ascii"),
        "wait_s": wait_s,
    }

    def show_progress(line: Mapping[str, Any]) -> None:
        if not quiet and line["verdict"] == "accepted":
            typer.echo("the gateway has taken it", err=True)

    return follow(socket, message, show=show_progress)


def report(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a gateway says of a configuration; empty where it says nothing."""
    packed = base64.b64decode(outcome.get("payload") or "")
    if not packed:
        return {}
    found: dict[str, Any] = json.loads(unpack(packed))
    return found


def show_report(told: Mapping[str, Any]) -> None:
    for fault in told.get("faults", ()):
        word = "warning" if fault["warning"] else "fault"
        typer.echo(
            plain(
                f"line {fault['line']}: {fault['path']}: {word}: {fault['message']}", LENGTH_SHOWN
            )
        )
    for change in told.get("changes", ()):
        sign = "!" if change["protected"] and change["lost"] else "-" if change["lost"] else " "
        typer.echo(plain(f"{sign} {change['text']}", LENGTH_SHOWN))
    for refused in told.get("refused", ()):
        typer.echo(plain(f"refused: {refused}", LENGTH_SHOWN))
    if told.get("needs_second_person"):
        typer.echo("a push needs a second person: --confirmed-by NAME (lines marked !)")
    if told.get("ok") and not told.get("changes") and not told.get("refused"):
        typer.echo("no changes")


def show(line: Mapping[str, Any]) -> None:
    """Print one step of a command."""
    text = f"{line['verdict']}"
    if line.get("text"):
        text += f": {line['text']}"
    if line["verdict"] == "new":
        text = f"command {line['command']}"
    typer.echo(plain(text, LENGTH_SHOWN))


def show_listed(row: Mapping[str, Any]) -> None:
    asked = row["asked_at"] or "time unknown"
    names = row["by"] + (f" with {row['confirmed_by']}" if row["confirmed_by"] else "")
    text = f"{asked}  {names}: {row['action']} {row['target']}  {row['verdict']}"
    typer.echo(plain(f"{text}: {row['text']}" if row["text"] else text, LENGTH_SHOWN))


def write_log(outcome: Mapping[str, Any], out: Path | None, *, as_json: bool) -> None:
    """Write an uploaded log to a file, or to the screen."""
    packed = base64.b64decode(outcome.get("payload") or "")
    if not packed:
        return
    text = unpack(packed)
    if out is None and not as_json:
        typer.echo(text.decode(errors="replace"), nl=False)
    elif out is not None:
        try:
            out.write_bytes(text)
        except OSError as error:
            raise Unreadable(f"{out} cannot be written: {error.strerror}") from error
    summary = {**outcome, "payload": None, "log": None if out else text.decode(errors="replace")}
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False))
    else:
        show({**outcome, "text": f"{outcome['text']}{f', in {out}' if out else ''}"})


def exit_code(outcome: Mapping[str, Any]) -> int:
    """Return what the program exits with (sysexits)."""
    return _CODES.get(str(outcome.get("verdict")), EX_TEMPFAIL)
