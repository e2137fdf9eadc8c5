"""What the commands of the station share: their options, the running station, and JSON lines."""

# ruff: noqa: PLC0415 - a command must not wait for what only another one needs

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The station's configuration file.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def socket_of(config: Path) -> Path:
    """Return where the station of this configuration is asked."""
    from station.config import load

    return load(config, places=False).socket


def ask(config: Path, message: dict[str, Any]) -> Any:
    """Ask the running station, and return its one answer."""
    from sync.local_socket import request_one

    return request_one(socket_of(config), message)


def print_json(value: Any) -> None:
    """Print one line for scripts, at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()
