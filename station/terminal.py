"""What the commands of the station share: their option and the running station."""

# ruff: noqa: PLC0415 - a command must not wait for what only another one needs

from pathlib import Path
from typing import Annotated, Any

import typer

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The station's configuration file.")
]


def socket_of(config: Path) -> Path:
    """Return where the station of this configuration is asked."""
    from station.config import load

    return load(config, places=False).socket


def ask(config: Path, message: dict[str, Any]) -> Any:
    """Ask the running station, and return its one answer."""
    from sync.local_socket import request_one

    return request_one(socket_of(config), message)
