"""How a command line ends: what goes wrong becomes one or two sentences and a status (sysexits).

Typer is not imported here: a running gateway does without it.
"""

import errno
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

from events.errors import EX_IOERR, EX_USAGE, ConfigError, NplusError

INTERRUPTED = 130
_OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE, errno.EBADF)
"""What writing to standard output raises; an error about a file names the file."""
TYPER_USAGE = 2  # what Typer exits with when it does not understand the command line


def exit_after(program: str, work: Callable[[], object]) -> NoReturn:
    """Run the command line of `program`, and exit with its status."""
    _show_any_text()
    status: int | str | None = 0
    try:
        try:
            work()
        except SystemExit as leaving:
            status = EX_USAGE if leaving.code == TYPER_USAGE else leaving.code
        if sys.stdout is not None:
            sys.stdout.flush()
    except NplusError as error:
        _explain(program, error)
        status = error.exit_code
    except KeyboardInterrupt:
        status = INTERRUPTED
    except OSError as error:
        if error.filename is not None or error.errno not in _OUTPUT_FAILS:
            raise
        if not isinstance(error, BrokenPipeError):  # that is a reader who has seen enough
            why = error.strerror or "no reason given"
            _explain(program, NplusError(f"cannot write the output: {why}"))
        status = EX_IOERR
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter would try again at its end
    sys.exit(status)


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
