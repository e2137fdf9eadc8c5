"""`nplus-gateway`: the entry point. What goes wrong becomes one or two sentences and a status.

`run` is recognised here, before Typer is imported: Typer and what it brings would cost the running
gateway some 10 MB for ever. Any other form of the command line takes the usual way.
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from events.errors import EX_USAGE, ConfigError, NplusError

INTERRUPTED = 130
TYPER_USAGE = 2  # what Typer exits with when it does not understand the command line


def main() -> None:
    """Run the command line and exit with its status (sysexits)."""
    file = _file_to_run(sys.argv[1:])
    try:
        if file is not None:
            from gateway import daemon  # noqa: PLC0415 - only `run` needs it

            sys.exit(daemon.run(file))
        from gateway.commands import app  # noqa: PLC0415 - see above

        app()
    except NplusError as error:
        explain(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except SystemExit as leaving:
        sys.exit(EX_USAGE if leaving.code == TYPER_USAGE else leaving.code)


def explain(error: NplusError) -> None:
    """Say on standard error what is wrong and what to do next."""
    said = [str(fault) for fault in error.faults] if isinstance(error, ConfigError) else []
    said.append(f"nplus-gateway: {error}")
    if error.hint:
        said.append(f"  {error.hint}")
    with suppress(OSError):
        sys.stderr.write("".join(f"{line}\n" for line in said))


def _file_to_run(words: Sequence[str]) -> Path | None:
    match words:
        case ["run", "--config" | "-c", file]:
            return Path(file)
        case ["run", option] if option.startswith("--config="):
            return Path(option.removeprefix("--config="))
        case _:
            return None
