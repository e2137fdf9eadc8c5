from pathlib import Path

import pytest

from events.errors import ConfigError
from station.config import endpoint, inspect, load
from sync.keys import keygen

GOOD = """
[station]
name = "centre"
data_dir = "data"
key_file = "centre.key"
listen = "*:7780"
gateways_dir = "gateways"
socket = "/run/nplus/station.sock"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    keygen(tmp_path, "centre")
    (tmp_path / "gateways").mkdir()
    file = tmp_path / "station.toml"
    file.write_text(GOOD)
    return file


def test_relative_paths_are_relative_to_the_file(file: Path) -> None:
    config = load(file)
    assert config.data_dir == file.parent / "data"
    assert config.key_file == file.parent / "centre.key"
    assert config.socket == Path("/run/nplus/station.sock")
    assert (config.listen, config.lost_after_s) == ("tcp://*:7780", 90.0)
    assert inspect(file)[1] == []


def test_every_fault_is_named_at_once_with_its_line(file: Path) -> None:
    file.write_text(
        GOOD.replace('"centre"', '"The Centre"')
        .replace("*:7780", "nowhere")
        .replace("centre.key", "missing.key")
        + "lost_after_s = 1\n"
    )
    with pytest.raises(ConfigError) as refused:
        load(file)
    faults = {fault.path: fault.line for fault in refused.value.faults}
    assert faults == {
        "station.name": 3,
        "station.key_file": 5,
        "station.listen": 6,
        "station.lost_after_s": 9,
    }


def test_unknown_missing_and_wrong_keys_are_named_together(file: Path) -> None:
    file.write_text('[station]\nname = 3\nlisten_on = "x"\n[stations]\n')
    value, faults = inspect(file)
    assert value is None
    text = "\n".join(map(str, faults))
    for word in ("name", "listen_on", "stations", "'data_dir' is missing", "'socket' is missing"):
        assert word in text
    assert any(fault.line == 2 and fault.path == "station.name" for fault in faults)


@pytest.mark.parametrize("seconds", ["5", "5.0", "90", "90.0"])
def test_times_within_the_promise_are_taken(file: Path, seconds: str) -> None:
    file.write_text(GOOD + f"lost_after_s = {seconds}\n")
    assert inspect(file)[1] == []


@pytest.mark.parametrize("seconds", ["4.9", "0", "-1", "3601", "nan", "inf"])
def test_times_out_of_range_are_refused(file: Path, seconds: str) -> None:
    file.write_text(GOOD + f"lost_after_s = {seconds}\n")
    value, faults = inspect(file)
    assert value is None
    assert faults[0].path == "station.lost_after_s"


def test_a_time_beyond_the_promise_is_a_warning_that_refuses_nothing(file: Path) -> None:
    file.write_text(GOOD + "lost_after_s = 180\n")
    value, faults = inspect(file)
    assert value is not None
    assert [fault.warning for fault in faults] == [True]


def test_a_key_that_others_can_read_is_refused(file: Path) -> None:
    (file.parent / "centre.key").chmod(0o644)
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert "chmod 600" in refused.value.faults[0].message
    assert load(file, places=False).name == "centre"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"[station", b"", b"= 1", b"a = 1\n" * 500])
def test_garbage_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "station.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError):
        load(file)


def test_a_missing_file_and_a_folder_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("*:7780", "tcp://*:7780"),
        ("tcp://0.0.0.0:7780", "tcp://0.0.0.0:7780"),
        ("centre.example:65535", "tcp://centre.example:65535"),
        ("[::1]:7780", "tcp://[::1]:7780"),
        ("::1:7780", None),
        ("*:0", None),
        ("*:65536", None),
        ("*", None),
        (":7780", None),
        ("a b:7780", None),
        ("ipc:///tmp/x:1", None),
        ("host:١٢", None),
    ],
)
def test_addresses(written: str, meant: str | None) -> None:
    assert endpoint(written) == meant
