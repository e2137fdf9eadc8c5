"""The commands of `nplus-gateway`. Each imports what it needs when it runs."""

# ruff: noqa: PLC0415 - a command imports only what it runs, so that the others are quick
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from events.errors import Fault, UsageError
from sync.service_commands import JsonOption, add_first_commands, print_json

app = typer.Typer(
    name="nplus-gateway",
    help="Read wired alarms, keep every event, hand it to the station.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", metavar="FILE", help="The gateway's configuration file.")
]


def _faults(file: Path) -> list[Fault]:
    from gateway import config

    return config.check(file)


add_first_commands(app, owner="gateway", peers="the station", faults=_faults)


@app.command("rotate-key")
def rotate_key(config: ConfigOption) -> None:
    """Make the key pair that comes next, beside the present one; nothing else changes."""
    from gateway.config import load
    from sync import keys

    section = load(config).gateway
    secret, public = keys.keygen_beside(Path(section.key_file), section.name)
    typer.echo(secret)
    typer.echo(public)
    enroll = f"nplus-station enroll {section.name} {public.name} --config FILE"
    typer.echo(
        f"  next: copy {public.name} to every station, and there: {enroll} --beside\n"
        f'  then: in {config}, key_file = "{secret}", and start the gateway again\n'
        f"  last: once it is connected, end the old key at every station: {enroll} --replace"
    )


@app.command()
def run(config: ConfigOption) -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    from gateway import daemon

    raise typer.Exit(daemon.run(config))


@app.command()
def status(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Tell how the running gateway is."""
    answer = _ask_one(config, {"request": "status"})
    if as_json:
        print_json(answer)
        return
    from gateway import views

    views.show_status(answer)


@app.command()
def metrics(config: ConfigOption) -> None:
    """Print the running gateway's metrics as Prometheus text."""
    for text in _ask(config, {"request": "metrics"}):
        typer.echo(text, nl=False)


@app.command()
def tail(
    config: ConfigOption,
    after: Annotated[
        int | None, typer.Option(metavar="SEQ", min=0, help="Events after this number.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they happen.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the newest events of the running gateway, oldest first."""
    answer = _ask(config, {"request": "tail", "after": after, "follow": follow})
    if as_json or not sys.stdout.isatty():
        for line in answer:
            print_json(line)
        return
    from gateway import views

    for line in answer:
        views.show_event(line)


@app.command()
def snapshot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy to make.")],
    config: ConfigOption,
) -> None:
    """Copy the running gateway's store to a file, for sqlite-utils and the like."""
    answer = _ask_one(config, {"request": "snapshot", "file": str(file.absolute())})
    typer.echo(answer["file"])


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    from gateway import config

    typer.echo(json.dumps(config.schema(), indent=2))


@app.command()
def decode(
    protocol: Annotated[str | None, typer.Argument(metavar="PROTOCOL")] = None,
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Captured bytes; - is standard input.")
    ] = None,
    hexadecimal: Annotated[
        str | None, typer.Option("--hex", metavar="HEX", help="The bytes, in hex.")
    ] = None,
    request: Annotated[
        str | None, typer.Option(metavar="HEX", help="The request that the bytes answer.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="HEX", help="The key of the line.")] = None,
    as_json: JsonOption = False,
    list_names: Annotated[bool, typer.Option("--list", help="List the protocols.")] = False,
) -> None:
    """Feed captured bytes through a protocol engine and print what it makes of them."""
    from gateway import decoding
    from protocols.decode import names

    if list_names:
        for name in names():
            typer.echo(name)
        return
    if protocol is None:
        raise UsageError("no PROTOCOL", hint="nplus-gateway decode --list names them")
    lines = decoding.lines(protocol, file, hexadecimal, request=request, key=key)
    if as_json or not sys.stdout.isatty():
        for line in lines:
            print_json(line)
        return
    from gateway import views

    for line in lines:
        views.show_decoded(line)


def _ask(config: Path, message: dict[str, Any]) -> Iterator[Any]:
    from gateway.config import socket_path
    from sync.local_socket import request

    return request(socket_path(config), message)


def _ask_one(config: Path, message: dict[str, Any]) -> Any:
    from gateway.config import socket_path
    from sync.local_socket import request_one

    return request_one(socket_path(config), message)
