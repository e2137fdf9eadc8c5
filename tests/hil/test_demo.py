"""The demonstration as a user runs it: the real programs, power cuts, and the account."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

NPLUS_HIL = str(Path(sys.executable).parent / "nplus-hil")


def demo(*options: str, within_s: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NPLUS_HIL, "demo", "--speed", "4", *options],
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


def programs(folder: Path) -> list[str]:
    """What still runs with a configuration file in this folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if any(part.startswith(str(folder)) for part in command) and process.pid != os.getpid():
            found.append(" ".join(command))
    return found


def served(folder: Path, out: Path, err: Path) -> tuple[int, dict[str, list[str]]]:
    """Run the demonstration with `--serve`; try the commands that it offers; end it with Ctrl-C."""
    command = [NPLUS_HIL, "demo", "--speed", "4", "--json", "--seed", "7", "--serve"]
    with out.open("w") as stdout, err.open("w") as stderr:
        bench = subprocess.Popen(
            [*command, "--keep", str(folder)], stdout=stdout, stderr=stderr, text=True
        )
    try:
        deadline = time.monotonic() + 140
        while "Ctrl-C ends it" not in err.read_text():
            assert bench.poll() is None, err.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        answers = {}
        for line in err.read_text().splitlines():
            words = line.split()
            if words[1:2] in (["gateways"], ["status"]):
                answered = subprocess.run(
                    [*words, "--json"], capture_output=True, text=True, timeout=30, check=True
                )
                answers[words[1]] = answered.stdout.splitlines()
        bench.send_signal(signal.SIGINT)
        return bench.wait(60), answers
    finally:
        bench.kill()
        bench.wait()


@pytest.mark.timeout(170)
def test_every_accepted_signal_is_at_the_station_once(tmp_path: Path) -> None:
    folder, out, err = tmp_path / "kept", tmp_path / "out", tmp_path / "err"
    status, answers = served(folder, out, err)
    assert status == 0, err.read_text()
    assert answers.keys() == {"gateways", "status"}
    assert "building-1" in "".join(answers["status"])
    outcome: dict[str, Any] = json.loads(out.read_text())
    account = outcome["account"]
    assert outcome["ok"] is True
    assert account["accepted"] == account["recorded"] >= 25
    faults = ("lost", "twice", "unexplained", "disordered", "numbers_missing")
    assert [account[name] for name in faults] == [0, 0, 0, 0, 0]
    assert account["states"] == account["states_right"] >= 15
    assert account["findings"] == []
    assert {"contact", "panel", "modbus", "all"} <= account["delays"].keys()
    assert outcome["stopped"] == {"building-1": 0, "building-2": 0, "station": 0}
    assert outcome["false_words"] == []
    assert "PASS" in err.read_text()
    kinds = {path.stem for path in (folder / "journals").iterdir()}
    assert kinds == {
        "building-1-contacts",
        "building-2-contacts",
        "floor-bus",
        "plant-room",
        "panels",
    }
    assert programs(folder) == []


@pytest.mark.timeout(170)
def test_a_gateway_that_acknowledges_before_its_commit_is_found_out(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    run = demo("--json", "--break", "ack-before-commit", "--keep", str(folder))
    assert run.returncode == 1, run.stderr
    outcome: dict[str, Any] = json.loads(run.stdout)
    assert outcome["ok"] is False
    assert outcome["account"]["lost"] >= 1
    assert any(
        finding["fault"] == "lost" and finding["device"] == "panels"
        for finding in outcome["account"]["findings"]
    )
    assert "FAIL" in run.stderr
    assert programs(folder) == []


def test_an_interrupted_demonstration_leaves_nothing_running(tmp_path: Path) -> None:
    folder, err = tmp_path / "kept", tmp_path / "err"
    with err.open("w") as stderr:
        bench = subprocess.Popen(
            [NPLUS_HIL, "demo", "--keep", str(folder)], stdout=stderr, stderr=stderr
        )
    try:
        deadline = time.monotonic() + 60
        while "All is quiet" not in err.read_text():
            assert bench.poll() is None, err.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(programs(folder)) >= 3
        bench.send_signal(signal.SIGTERM)
        assert bench.wait(30) == 130
    finally:
        bench.kill()
        bench.wait()
    assert "Traceback" not in err.read_text()
    assert programs(folder) == []


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    run = demo("--keep", str(tmp_path))
    assert run.returncode == 1
    assert "not empty" in run.stderr
    assert "Traceback" not in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
