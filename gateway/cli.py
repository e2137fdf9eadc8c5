"""`nplus-gateway`: the entry point. What goes wrong becomes one or two sentences and a status.

`run` is recognised here, before Typer is imported: Typer and what it brings would cost the running
gateway some 10 MB for ever. Any other form of the command line takes the usual way.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sync.service_exit import exit_after


def main() -> NoReturn:
    """Run the command line and exit with its status (sysexits)."""
    exit_after("nplus-gateway", _work)


def _work() -> None:
    file = _file_to_run(sys.argv[1:])
    if file is not None:
        from gateway import daemon  # noqa: PLC0415 - only `run` needs it

        sys.exit(daemon.run(file))
    from gateway.commands import app  # noqa: PLC0415 - see above

    app()


def _file_to_run(words: Sequence[str]) -> Path | None:
    match words:
        case ["run", "--config" | "-c", file]:
            return Path(file)
        case ["run", option] if option.startswith("--config="):
            return Path(option.removeprefix("--config="))
        case _:
            return None
