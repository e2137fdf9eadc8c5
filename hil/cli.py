"""`nplus-hil`: the bench on the command line."""

import asyncio
import io
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import msgspec
import typer
from rich.console import Console

from events.errors import NplusError

if TYPE_CHECKING:
    from hil.demo import Outcome

EX_INTERRUPTED = 130

app = typer.Typer(
    help="The bench: judges the product from outside.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def bench() -> None:
    """Judge the product from outside."""


@app.command()
def demo(
    break_: Annotated[
        Literal["ack-before-commit"] | None,
        typer.Option("--break", help="Run gateways with this defect; the account must find it."),
    ] = None,
    serve: Annotated[bool, typer.Option(help="Keep everything running afterwards.")] = False,
    seed: Annotated[int, typer.Option(help="Choose what happens between the scenes.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the account as JSON.")] = False,
    keep: Annotated[
        Path | None, typer.Option(help="Put files, logs and journals here, and leave them.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0.1, max=100, help="Shorten the pauses by this factor.")
    ] = 1.0,
) -> None:
    """Play a small virtual community, with power cuts, and account for every signal.

    Exits with 0 only when each signal that a gateway accepted stands at the station exactly once.
    """
    from hil.demo import Options, demonstrate  # noqa: PLC0415 - `--help` stays quick

    options = Options(mutant=break_ or "", seed=seed, speed=speed, serve=serve, keep=keep)
    console = Console(stderr=json, highlight=False)
    try:
        outcome = asyncio.run(_interruptible(demonstrate(options, console)))
    except NplusError as error:
        _refuse(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise SystemExit(EX_INTERRUPTED) from None
    if json:
        sys.stdout.buffer.write(
            msgspec.json.format(msgspec.json.encode(outcome), indent=2) + b"\n"
        )
    raise SystemExit(0 if outcome.ok else 1)


async def _interruptible(work: Coroutine[Any, Any, "Outcome"]) -> "Outcome":
    """Clean up on SIGTERM as on Ctrl-C."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _refuse(error: NplusError) -> NoReturn:
    print(error, file=sys.stderr)  # noqa: T201 - a command's complaint
    if error.hint:
        print(error.hint, file=sys.stderr)  # noqa: T201 - and what to do about it
    raise SystemExit(1)


def main() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Chinese gets `?` for it
            stream.reconfigure(errors="replace")
    app()
