"""How a command line ends: what goes wrong becomes one or two sentences and a status (sysexits).

Typer is not imported here: a running gateway does without it.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

from events.errors import EX_USAGE, ConfigError, NplusError

INTERRUPTED = 130
TYPER_USAGE = 2  # what Typer exits with when it does not understand the command line


def exit_after(program: str, work: Callable[[], object]) -> NoReturn:
    """Run the command line of `program`, and exit with its status."""
    _show_any_text()
    try:
        work()
    except NplusError as error:
        _explain(program, error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit as leaving:
        sys.exit(EX_USAGE if leaving.code == TYPER_USAGE else leaving.code)
    sys.exit(0)


def _show_any_text() -> None:
    """Let a terminal show the code of a character that it does not have (GBK, Latin-1, ASCII)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _explain(program: str, error: NplusError) -> None:
    """Say on standard error what is wrong and what to do next."""
    said = [str(fault) for fault in error.faults] if isinstance(error, ConfigError) else []
    said.append(f"{program}: {error}")
    if error.hint:
        said.append(f"  {error.hint}")
    with suppress(OSError):
        sys.stderr.write("".join(f"{line}\n" for line in said))
