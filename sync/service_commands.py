"""What the command lines of both programs share: their first commands, an option, JSON lines."""

# ruff: noqa: PLC0415 - a command must not wait for what only another one needs

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from events import __version__
from events.errors import EX_CONFIG, Fault

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def add_first_commands(
    app: typer.Typer, owner: str, peers: str, faults: Callable[[Path], Sequence[Fault]]
) -> None:
    """Add `version`, `keygen` and `check` to the commands of a program.

    owner: whose name a key has. peers: who gets the public one. faults: judges a file.
    """

    @app.command()
    def version() -> None:
        """Print the program's version."""
        typer.echo(__version__)

    @app.command(help=f"Make a key pair: NAME.key stays here, NAME.pub goes to {peers}.")
    def keygen(
        out: Annotated[
            Path, typer.Option("--out", metavar="DIR", help="Folder for the two files.")
        ],
        name: Annotated[str, typer.Option("--name", metavar="NAME", help=f"The {owner}'s name.")],
    ) -> None:
        from sync import keys

        secret, public = keys.keygen(out, name)
        typer.echo(secret)
        typer.echo(public)

    @app.command()
    def check(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration file.")],
        as_json: JsonOption = False,
    ) -> None:
        """Say everything that is wrong with a configuration file, with path and line."""
        found = faults(file)
        refused = any(not fault.warning for fault in found)
        if as_json:
            print_json(
                {
                    "ok": not refused,
                    "faults": [_row(fault) for fault in found if not fault.warning],
                    "warnings": [_row(fault) for fault in found if fault.warning],
                }
            )
        else:
            _show(file, found)
        if refused:
            raise typer.Exit(EX_CONFIG)


def print_json(value: Any) -> None:
    """Print one line for scripts, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def _row(fault: Fault) -> dict[str, Any]:
    return {
        "path": fault.path,
        "line": fault.line,
        "message": fault.message,
        "warning": fault.warning,
    }


def _show(file: Path, found: Sequence[Fault]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for fault in found:
        word, style = ("warning", "bold yellow") if fault.warning else ("fault", "bold red")
        text = Text(_plain(f"{file}:{fault.line}: "))
        text.append(f"{word}: ", style=style)
        text.append(_plain(f"{fault.path}: {fault.message}"))
        console.print(text)
    if not found:
        console.print(Text(_plain(f"{file}: no faults"), style="green"))


def _plain(text: str) -> str:
    """Return text that cannot steer a terminal."""
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
