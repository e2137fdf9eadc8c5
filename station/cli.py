"""`nplus-station`: the commands of the station. Each imports what it needs when it runs."""

# ruff: noqa: PLC0415 - a command must not wait for what only another one needs

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from events.errors import EX_DATAERR, Fault, UsageError
from station import command_cli
from station.terminal import ConfigOption, ask
from sync.service_commands import JsonOption, add_first_commands, print_json
from sync.service_exit import exit_after

SHOWN_BY_DEFAULT = 100  # events on a terminal, where nobody said how many

app = typer.Typer(
    name="nplus-station",
    help="Enrol gateways, pull their events, store them, and say who is silent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _faults(file: Path) -> list[Fault]:
    from station.config import inspect

    return inspect(file)[1]


add_first_commands(app, owner="station", peers="every gateway", faults=_faults)
app.command("command")(command_cli.command)
app.add_typer(command_cli.config_app, name="config")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The gateway's name.")]


def main() -> NoReturn:
    """Run the command line and exit with its status (sysexits)."""
    exit_after("nplus-station", app)


@app.command()
def enroll(
    name: NameArgument,
    pubkeyfile: Annotated[
        Path, typer.Argument(metavar="PUBKEYFILE", help="The gateway's NAME.pub.")
    ],
    config: ConfigOption,
    replace: Annotated[
        bool, typer.Option("--replace", help="The gateway has a new key: forget the old one.")
    ] = False,
    beside: Annotated[
        bool,
        typer.Option(
            "--beside", help="It is about to change to this key: take both until --replace."
        ),
    ] = False,
    lost_after_s: Annotated[
        float | None,
        typer.Option(
            "--lost-after",
            metavar="SECONDS",
            help="Silence after which it is lost: 20, 90, 180 … Without it, as configured.",
        ),
    ] = None,
) -> None:
    """Listen to a gateway from now on; a running station notices within a second."""
    from station import allow_list
    from station.config import load

    settings = load(config, places=False)
    enrolled = allow_list.enroll(
        settings.gateways_dir,
        name,
        pubkeyfile,
        replace=replace,
        beside=beside,
        lost_after_s=lost_after_s,
    )
    typer.echo(f"{name} {enrolled.what}: key {enrolled.fingerprint}")
    typer.echo(f"  list: {enrolled.file}")
    if beside and not enrolled.changed:
        typer.echo(
            "  next: name the new secret as key_file on the gateway, start it again; once it is"
            f" connected,\n        end the old key: nplus-station enroll {name} {pubkeyfile}"
            f" --config {config} --replace"
        )
    if enrolled.changed:
        typer.echo(
            f"  next: compare the key with {name}.pub on the gateway, put the station's .pub there"
            f" as public_key_file,\n        start the gateway, and watch `nplus-station gateways"
            f" --config {config}`"
        )


@app.command()
def revoke(name: NameArgument, config: ConfigOption) -> None:
    """Stop listening to a gateway; what it sent stays in the ledger."""
    from station import allow_list
    from station.config import load

    file = allow_list.revoke(load(config, places=False).gateways_dir, name)
    typer.echo(f"{name} revoked: {file} removed; live connections end within a second")


@app.command()
def run(config: ConfigOption) -> None:
    """Run the station until SIGTERM or SIGINT."""
    from station import daemon

    raise typer.Exit(daemon.run(config))


@app.command()
def status(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Tell how the running station is."""
    answer = ask(config, {"request": "status"})
    if as_json:
        print_json(answer)
        return
    from station.views import show_status

    show_status(answer)


@app.command()
def gateways(config: ConfigOption, as_json: JsonOption = False) -> None:
    """List the gateways and how each is, as the running station knows it."""
    answer = ask(config, {"request": "gateways"})
    if as_json:
        print_json(answer)
        return
    from station.views import show_gateways

    show_gateways(answer)


@app.command()
def availability(
    config: ConfigOption,
    month: Annotated[
        str, typer.Option("--month", metavar="YYYY-MM", help="In UTC; the present one without it.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Say how much of a month each gateway was there. Needs no running station."""
    from station.attendance import table
    from station.config import load

    rows = table(load(config, places=False).data_dir, month)
    if as_json:
        print_json(rows)
        return
    from station.views import show_availability

    show_availability(rows)


@app.command()
def events(
    config: ConfigOption,
    after: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Only events numbered above N.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    gateway: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only events of this gateway.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT", min=0, help="The first COUNT after N, else the newest COUNT."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print events in the order of their commit. Needs no running station."""
    from station import follow as following
    from station.config import load

    settings = load(config, places=False)
    if after is None and limit is None and not as_json and sys.stdout.isatty():
        limit = SHOWN_BY_DEFAULT
    show: following.Show = print_json
    if not as_json:
        from station.views import EventLines

        show = EventLines().show
    try:
        following.print_events(
            settings.data_dir, show, after=after, gateway=gateway, limit=limit, follow=follow
        )
    except following.ReaderGone:
        following.leave_quietly()


@app.command()
def verify(
    config: ConfigOption,
    gateway: Annotated[
        str | None, typer.Argument(metavar="[GATEWAY]", help="Only the logs of this gateway.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute the chain over everything that is stored. Needs no running station."""
    from dataclasses import asdict

    from station import verification
    from station.config import load

    def progress(name: str, seq: int) -> None:
        if not as_json and sys.stderr.isatty():
            typer.echo(f"\r{name}: {seq}", err=True, nl=False)

    verdicts = verification.verify(load(config, places=False).data_dir, gateway, progress)
    if gateway is not None and not verdicts:
        raise UsageError(
            f"nothing is stored of a gateway {gateway!r}",
            hint="`nplus-station gateways` names those that are known",
        )
    if as_json:
        print_json([asdict(verdict) for verdict in verdicts])
    else:
        from station.views import show_verdicts

        show_verdicts(verdicts)
    if any(verdict.misfits for verdict in verdicts):
        raise typer.Exit(EX_DATAERR)


@app.command()
def snapshot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The copy to make.")],
    config: ConfigOption,
) -> None:
    """Copy the ledger to a file, for a backup, while the station goes on."""
    from station import backup
    from station.config import load

    n = backup.snapshot(load(config, places=False).data_dir, file.absolute())
    typer.echo(f"{file}: everything up to n {n}")
