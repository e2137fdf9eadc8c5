"""The manual and the programs say the same."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main

import gateway.commands
import hil.cli
import station.cli
from events.settings import read
from gateway.sections import Configuration
from station.config import Document

ROOT = Path(__file__).parent.parent
MANUAL = (ROOT / "docs" / "commands.md").read_text()
EVERYWHERE = {"--help", "--install-completion", "--show-completion"}
PROGRAMS = {
    "nplus-gateway": gateway.commands.app,
    "nplus-station": station.cli.app,
    "nplus-hil": hil.cli.app,
}


def commands() -> list[tuple[str, str, Any]]:
    found = []
    for program, app in PROGRAMS.items():
        group: Any = typer.main.get_command(app)
        found += [(program, name, command) for name, command in group.commands.items()]
    return found


@pytest.mark.parametrize(
    ("program", "name", "command"),
    commands(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_command_and_option_is_in_the_manual(program: str, name: str, command: Any) -> None:
    section = MANUAL.split(f"## {program}")[1].split("\n## ")[0]
    rows = [row for row in section.splitlines() if row.startswith(f"| `{name}")]
    assert len(rows) == 1, f"{program} {name} has no row"
    assert command.help
    for parameter in command.params:
        names = {option for option in parameter.opts if option.startswith("--")} - EVERYWHERE
        assert not names or any(option in rows[0] for option in names), names


def test_the_manual_names_no_command_that_does_not_exist() -> None:
    known = {(program, name) for program, name, _ in commands()}
    for program in PROGRAMS:
        section = MANUAL.split(f"## {program}")[1].split("\n## ")[0]
        for name in re.findall(r"^\| `([a-z][a-z-]*)", section, re.MULTILINE):
            assert (program, name) in known


def test_the_station_in_the_manual_is_a_configuration() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    block = text.split("## A station")[1].split("```toml")[1].split("```")[0]
    settings = read(block, Document)
    assert settings.faults == []
    assert tomllib.loads(block)["station"]["lost_after_s"] == 90.0


@pytest.mark.parametrize(
    "path", ["gateway", "protocols/modbus", "protocols/contact_id", "protocols/gpio"]
)
def test_every_sample_reads_as_part_of_a_gateway(path: str) -> None:
    own = (ROOT / "gateway" / "sample.toml").read_text()
    text = own if path == "gateway" else own + (ROOT / path / "sample.toml").read_text()
    assert read(text, Configuration).faults == []
