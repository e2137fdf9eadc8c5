import json
import os
import pty
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.station.site import PROGRAM, Site, alarm, fill


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_keygen_writes_a_pair_and_never_over_one(tmp_path: Path, site: Site) -> None:
    words = ("keygen", "--out", str(tmp_path / "keys"), "--name", "centre-2")
    assert site.command(*words, config=False).returncode == 0
    secret, public = tmp_path / "keys" / "centre-2.key", tmp_path / "keys" / "centre-2.pub"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert [len(file.read_text()) for file in (secret, public)] == [41, 41]
    again = site.command(*words, config=False)
    assert (again.returncode, "exists already" in again.stderr) == (78, True)


def test_without_a_ledger_or_a_station_the_answer_is_69_and_a_hint(site: Site) -> None:
    for words in (["events"], ["events", "--follow"], ["gateways"], ["status", "--json"]):
        done = site.command(*words)
        assert (done.returncode, done.stdout) == (69, "")
        assert "start" in done.stderr


def test_verify_names_what_does_not_fit_and_a_snapshot_can_be_verified_too(site: Site) -> None:
    for words in (["verify"], ["snapshot", str(site.folder / "copy.db")]):
        assert site.command(*words).returncode == 69
    fill(site, ("building-1", alarm("a")), ("building-1", alarm("b")), ("building-2", alarm("c")))
    good = site.command("verify")
    assert (good.returncode, good.stdout.count("0 faults")) == (0, 2)
    copy = site.folder / "copy.db"
    assert "up to n 3" in site.command("snapshot", str(copy)).stdout
    assert site.command("snapshot", str(copy)).returncode == 73
    assert site.command("verify", "nobody").returncode == 64
    with closing(sqlite3.connect(site.folder / "data" / "station.db")) as connection, connection:
        connection.execute("UPDATE event SET chain = zeroblob(16) WHERE n = 2")
    bad = site.command("verify", "building-1", "--json")
    (told,) = json.loads(bad.stdout)
    assert bad.returncode == 65
    assert (told["misfits"], told["first"][0]["seq"]) == (1, 2)
    copy.replace(site.folder / "data" / "station.db")
    assert site.command("verify").returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_characters_shows_their_codes(
    site: Site, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site, ("building-1", alarm("lobby/panic")))
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    for words in (["events"], ["verify"], ["events", "--json"]):
        done = site.command(*words)
        assert (done.returncode, done.stderr) == (0, "")
        assert "building-1" in done.stdout


@pytest.mark.parametrize("words", [["events"], ["events", "--json"], ["verify"], ["--help"]])
def test_an_output_that_takes_nothing_is_named(site: Site, words: list[str]) -> None:
    fill(site, ("building-1", alarm("lobby/panic")))
    given = words if words == ["--help"] else [*words, "--config", str(site.config)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *given],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 74
    assert done.stderr == "nplus-station: cannot write the output: No space left on device\n"


def test_check_says_every_fault_with_its_line_in_words_and_in_json(site: Site) -> None:
    good = site.command("check", str(site.config), config=False)
    assert (good.returncode, "warning" in good.stdout) == (0, True)  # no list of gateways yet
    text = site.config.read_text().replace("centre.key", "none.key")
    site.config.write_text(text + "colour = 3\n[extra]\n")
    bad = site.command("check", str(site.config), config=False)
    assert bad.returncode == 78
    assert re.search(r"station\.toml:9: fault: station\.colour: unknown key", bad.stdout)
    told = json.loads(site.command("check", "--json", str(site.config), config=False).stdout)
    assert told["ok"] is False
    assert {fault["path"]: fault["line"] for fault in told["faults"]} == {
        "station.key_file": 4,
        "station.colour": 9,
        "extra": 10,
    }


GARBAGE = [b"", b"\xff\xfe\x00garbage", b"[station", b"station = 3", b"[station]\nname = 1\n"]


@pytest.mark.parametrize("content", GARBAGE)
def test_a_garbage_configuration_is_a_sentence_for_every_command(
    site: Site, content: bytes
) -> None:
    site.config.write_bytes(content)
    every = (["run"], ["events"], ["gateways"], ["status"], ["revoke", "house-1"])
    for words in every if content == GARBAGE[-1] else (["run"],):
        done = site.command(*words)
        assert done.returncode == 78
        assert "nplus-station: " in done.stderr
        assert "Traceback" not in done.stderr


def test_a_missing_configuration_is_a_sentence(site: Site) -> None:
    site.config.unlink()
    for words in (["run"], ["events"], ["gateways"]):
        done = site.command(*words)
        assert (done.returncode, "cannot read" in done.stderr) == (78, True)
    assert site.command("check", str(site.config), config=False).returncode == 78


@pytest.mark.parametrize("data_dir", ["/proc/nowhere", "/dev/null/data"])
def test_a_folder_that_takes_no_writes_is_a_sentence(tmp_path: Path, data_dir: str) -> None:
    done = Site(tmp_path, data_dir=data_dir).command("run")
    assert done.returncode in {73, 78}
    assert data_dir in done.stderr
    assert "Traceback" not in done.stderr


def test_what_nobody_understands_is_a_usage_fault(site: Site) -> None:
    for words in (["no-such"], ["events", "--after", "-1"], ["events", "--limit", "many"]):
        assert site.command(*words).returncode == 64
    assert site.command("enroll", "house-1", config=False).returncode == 64


def test_enrolling_names_the_key_and_the_next_step(tmp_path: Path, site: Site) -> None:
    site.command("keygen", "--out", str(tmp_path), "--name", "house-1", config=False)
    key = tmp_path / "house-1.pub"
    done = site.command("enroll", "house-1", str(key))
    assert done.returncode == 0
    assert key.read_text().strip() in done.stdout.replace(" ", "")
    assert "next:" in done.stdout
    assert (tmp_path / "gateways" / "house-1.pub").read_text() == key.read_text()
    again = site.command("enroll", "house-1", str(key))
    assert (again.returncode, "already" in again.stdout) == (0, True)
    for words in (
        ("enroll", "house-2", str(key)),
        ("enroll", "House", str(key)),
        ("enroll", "house-2", str(tmp_path / "house-1.key")),
        ("enroll", "house-2", str(tmp_path / "none.pub")),
        ("enroll", "house-2", str(site.config)),
        ("enroll", "house-2", str(tmp_path)),
    ):
        refused = site.command(*words)
        assert (refused.returncode, "Traceback" in refused.stderr) == (78, False)
        assert refused.stderr.startswith("nplus-station: ")
    assert site.command("revoke", "house-1").returncode == 0
    assert site.command("revoke", "house-1").returncode == 78


def test_events_on_a_terminal_are_lines_in_colour(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fill(site, ("house-1", alarm("door")))
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb") as terminal:
        done = subprocess.run(
            [*PROGRAM, "events", "--config", str(site.config)],
            stdout=theirs,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"},
            check=False,
            timeout=30,
        )
        os.close(theirs)
        shown = terminal.read1(65536).decode()
    assert done.returncode == 0
    assert "house-1/door" in shown
    assert "\x1b[" in shown
    piped = site.command("events").stdout
    assert "house-1/door" in piped
    assert "\x1b" not in piped


def test_limits_and_filters_choose_events(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fill(site, *((f"house-{number}", alarm("door")) for number in (1, 2, 3)))
    assert [event["n"] for event in site.events()] == [1, 2, 3]
    assert [event["n"] for event in site.events("--limit", "2")] == [2, 3]
    assert [event["n"] for event in site.events("--limit", "1", "--after", "1")] == [2]
    assert [event["n"] for event in site.events("--after", "3")] == []
    assert [event["gateway"] for event in site.events("--gateway", "house-2")] == ["house-2"]
    assert site.events("--gateway", "house-2", "--limit", "0") == []


def test_status_and_gateways_are_tables_for_people(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.enrol("house-1")
    (tmp_path / "gateways" / "Bad Name.pub").write_text("x")
    with site.station():
        assert "never-seen" in site.command("gateways").stdout
        shown = site.command("status").stdout
        assert "gateways.never-seen" in shown
        status = json.loads(site.command("status", "--json").stdout)
    assert (status["store"]["state"], status["gateways"]["never-seen"]) == ("ok", 1)
    assert "Bad Name" in status["warnings"][0]
