import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import cli, commands, views
from gateway.config import load
from sync.keys import public_of, read_public, read_secret
from tests.gateway.test_config import CASES, furnish

COMMANDS = [
    "check",
    "decode",
    "keygen",
    "metrics",
    "rotate-key",
    "run",
    "schema",
    "snapshot",
    "status",
    "tail",
    "version",
]


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Run a command line in this process; return status, output and errors."""
    monkeypatch.setattr(sys, "argv", ["nplus-gateway", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    said = capsys.readouterr()
    code = left.value.code
    return (code if isinstance(code, int) else 0), said.out, said.err


def test_keys_are_files_of_one_line_and_the_secret_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("keygen", "--out", str(tmp_path / "keys"), "--name", "hall")
    code, out, _ = call(monkeypatch, capsys, *words)
    assert code == 0
    secret, public = (Path(line) for line in out.split())
    assert (secret.name, public.name) == ("hall.key", "hall.pub")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert all(len(path.read_text().strip()) == 40 for path in (secret, public))
    assert call(monkeypatch, capsys, *words)[0] == 78  # an identity is never overwritten


def test_the_next_key_is_made_beside_the_present_one_and_the_steps_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    furnish(tmp_path)
    config = tmp_path / "gateway.toml"
    config.write_text((CASES / "good.toml").read_text())
    section = load(config).gateway
    present = Path(section.key_file)
    before = present.read_bytes()
    code, out, _ = call(monkeypatch, capsys, "rotate-key", "--config", str(config))
    assert code == 0
    secret, public, *steps = out.splitlines()
    assert Path(secret) == present.parent / f"{section.name}-2.key"
    assert public_of(read_secret(Path(secret))) == read_public(Path(public))
    assert present.read_bytes() == before
    assert [step.split(":")[0].strip() for step in steps] == ["next", "then", "last"]
    assert all(f"enroll {section.name} {section.name}-2.pub" in steps[n] for n in (0, 2))
    code, out, err = call(monkeypatch, capsys, "rotate-key", "--config", str(config))
    assert (code, out) == (78, "")
    assert "exists already" in err
    assert f"{section.name}-2.key as key_file" in err
    config.write_text(config.read_text().replace(present.name, f"{section.name}-2.key"))
    _, out, _ = call(monkeypatch, capsys, "rotate-key", "--config", str(config))
    assert f"{section.name}-3.key" in out


def test_check_as_json_has_every_fault_with_path_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    furnish(tmp_path)
    path = tmp_path / "gateway.toml"
    path.write_text((CASES / "everything-at-once.toml").read_text())
    code, out, err = call(monkeypatch, capsys, "check", str(path), "--json")
    told = json.loads(out)
    assert (code, err, told["ok"]) == (78, "", False)
    assert {"path", "line", "message", "warning"} == set(told["faults"][0])
    assert all(fault["line"] > 0 for fault in told["faults"])
    code, out, _ = call(monkeypatch, capsys, "check", str(path))
    assert code == 78
    for fault in told["faults"]:
        assert f"{path}:{fault['line']}: fault: {fault['path']}: " in out


def test_nothing_in_a_file_steers_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[gateway]\n"\\u001b[2J" = 1\n')
    code, out, _ = call(monkeypatch, capsys, "check", str(path))
    assert (code, "\x1b" in out) == (78, False)
    assert "\N{REPLACEMENT CHARACTER}[2J" in out


def test_warnings_do_not_change_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    furnish(tmp_path)
    path = tmp_path / "gateway.toml"
    path.write_text((CASES / "good.toml").read_text())  # its ports do not exist here
    code, out, _ = call(monkeypatch, capsys, "check", str(path), "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["faults"]) == (0, True, [])
    assert told["warnings"]


def test_the_schema_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = call(monkeypatch, capsys, "schema")
    assert code == 0
    assert json.loads(out)["$defs"]["GatewaySection"]["additionalProperties"] is False


def test_decode_prints_json_lines_that_end_with_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = call(
        monkeypatch, capsys, "decode", "modbus-rtu", "--hex", "01 03 00 00 00 01 84 0a"
    )
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert "frame" in lines[0]
    assert lines[-1]["counts"] == {"frames": 1, "rejected": 0, "discarded_bytes": 0}
    capture = tmp_path / "capture.bin"
    capture.write_bytes(bytes.fromhex("010300000001840a"))
    assert call(monkeypatch, capsys, "decode", "modbus-rtu", str(capture))[1] == out


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        (("modbus-rtu", "--hex", "ff" * 9), 0, ""),
        (("no-such", "--hex", "00"), 64, "no-such"),
        (("modbus-rtu",), 64, "--hex"),
        (("modbus-rtu", "file", "--hex", "00"), 64, "--hex"),
        ((), 64, "--list"),
        (("modbus-rtu", "/no/such/file"), 66, "/no/such/file"),
        (("modbus-rtu", "--hex", "0 1 g"), 65, "'g' at place 5"),
        (("modbus-rtu", "--hex", "012"), 65, "odd"),
        (("modbus-rtu", "--hex", "00", "--request", "x"), 65, "--request"),
        (("modbus-rtu", "--hex", "00", "--key", "x"), 65, "--key"),
    ],
)
def test_decode_says_what_it_cannot_take(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    word: str,
) -> None:
    status, _, err = call(monkeypatch, capsys, "decode", *words)
    assert status == code
    assert word in err


def test_decode_lists_every_protocol(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = call(monkeypatch, capsys, "decode", "--list")[1].split()
    assert {"modbus-rtu", "modbus-tcp", "contact-id-mlr2", "contact-id-system3"} <= set(names)
    assert {"contact-id-685", "contact-id-dtmf"} <= set(names)


@pytest.mark.parametrize(
    "words", [("nonsense",), ("tail",), ("tail", "--after", "-3"), ("check",)]
)
def test_a_command_line_that_is_none_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert call(monkeypatch, capsys, *words)[0] == 64


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, out, _ = call(monkeypatch, capsys, command, "--help")
    assert code == 0
    assert "Usage" in out


def test_there_are_no_other_commands() -> None:
    callbacks = [command.callback for command in commands.app.registered_commands]
    names = [callback.__name__.replace("_", "-") for callback in callbacks if callback]
    assert sorted(names) == COMMANDS


def test_a_quick_command_imports_nothing_of_the_daemon() -> None:
    code = (
        "import sys; sys.argv = ['nplus-gateway', 'version']\n"
        "from gateway.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'zmq', 'sqlite3', 'pymodbus', 'gpiozero', 'structlog', 'sqlite_utils', 'serial'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_daemon_imports_nothing_of_the_command_line(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['nplus-gateway', 'run', '--config', 'none.toml']\n"
        "from gateway.cli import main\n"
        "try: main()\nexcept SystemExit as left: assert left.code == 78, left.code\n"
        "heavy = {'typer', 'pydantic', 'click', 'gpiozero', 'gpiod', 'sqlite_utils'}\n"
        "sys.exit(','.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [("run",), ("run", "--config"), ("run", "-c", "x", "y"), ("run", "x")]
)
def test_a_run_without_its_file_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    assert call(monkeypatch, capsys, *words)[0] == 64


def test_views_show_what_they_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    with views._console.capture() as shown:
        views.show_event(
            {"seq": 7, "at": None, "kind": "alarm", "subkind": "panic", "qualifier": "new"}
            | {"point": "lobby/[red]panic", "value": 3, "unit": "V", "text": "help"}
        )
        views.show_decoded({"frame": {"unit": 1}})
        views.show_decoded({"send": "06"})
    text = shown.get()
    assert "lobby/[red]panic" in text
    assert "time unknown" in text
    assert "unit=1" in text
