"""`nplus-station command` and `config`: what a person asks of a gateway from the command line."""

# ruff: noqa: PLC0415 - a command must not wait for what only another one needs

from pathlib import Path
from typing import Annotated

import typer

from events.errors import EX_CONFIG
from station.terminal import ConfigOption, ask, socket_of
from sync.service_commands import JsonOption, print_json

config_app = typer.Typer(no_args_is_help=True, help="Compare and push a gateway's configuration.")

ByOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who asks; by default whoever is logged in."),
]
WaitOption = Annotated[
    float, typer.Option(metavar="SECONDS", help="How long to wait for the outcome.")
]
GatewayArgument = Annotated[str, typer.Argument(metavar="GATEWAY", help="The gateway's name.")]


def command(
    gateway: GatewayArgument,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="output set|clear|pulse ID; bypass add|remove POINT; clock [set]; log upload;"
            " restart; list",
        ),
    ],
    config: ConfigOption,
    for_s: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", help="Of a pulse or a bypass.")
    ] = None,
    by: ByOption = None,
    expires: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Not done if it comes later than that."),
    ] = 30.0,
    wait: WaitOption = 60.0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the uploaded log goes.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a gateway to do something, and say what came of it."""
    from station import command_lines

    if words == ["list"]:
        _listed(config, gateway, as_json=as_json)
        return
    order = command_lines.order(words, for_s=for_s)
    outcome = command_lines.follow(
        socket_of(config),
        {
            **order,
            "gateway": gateway,
            "by": by or command_lines.login(),
            "expires_s": expires,
            "wait_s": wait,
        },
        show=print_json if as_json else command_lines.show,
    )
    if order["action"] == "log":
        command_lines.write_log(outcome, out, as_json=as_json)
    raise typer.Exit(command_lines.exit_code(outcome))


@config_app.command("diff")
def config_diff(
    gateway: GatewayArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration to compare.")],
    config: ConfigOption,
    by: ByOption = None,
    wait: WaitOption = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Say what a configuration would change at a gateway, as the gateway itself judges it."""
    from station import command_lines

    outcome = command_lines.configure(
        socket_of(config), gateway, file, "diff", by=by, wait_s=wait, quiet=as_json
    )
    report = command_lines.report(outcome)
    if as_json:
        print_json({**outcome, "payload": None, "report": report})
    else:
        command_lines.show_report(report)
    code = command_lines.exit_code(outcome)
    raise typer.Exit(code or (0 if report.get("ok") else EX_CONFIG))


@config_app.command("push")
def config_push(
    gateway: GatewayArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The configuration to push.")],
    config: ConfigOption,
    by: ByOption = None,
    confirmed_by: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="A second person, where a panic, fire, gas or tamper point gets weaker.",
        ),
    ] = "",
    trial: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Rolled back without a fetch within that time."),
    ] = 90.0,
    wait: WaitOption = 180.0,
    as_json: JsonOption = False,
) -> None:
    """Try a configuration at a gateway: it stays if the gateway reaches this station under it."""
    from station import command_lines

    outcome = command_lines.configure(
        socket_of(config),
        gateway,
        file,
        "push",
        by=by,
        confirmed_by=confirmed_by,
        arguments={"trial_s": trial},
        wait_s=wait,
        quiet=as_json,
    )
    report = command_lines.report(outcome)
    if as_json:
        print_json({**outcome, "payload": None, "report": report})
    else:
        command_lines.show_report(report)
        command_lines.show(outcome)
    code = command_lines.exit_code(outcome)
    refused_for_faults = outcome["verdict"] == "refused" and report.get("ok") is False
    raise typer.Exit(EX_CONFIG if refused_for_faults else code)


def _listed(config: Path, gateway: str, *, as_json: bool) -> None:
    from station import command_lines

    rows = ask(config, {"request": "commands", "gateway": gateway})
    for row in rows:
        if as_json:
            print_json(row)
        else:
            command_lines.show_listed(row)
