import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import ConfigError
from gateway import config
from sync.keys import keygen

CASES = Path(__file__).parent / "cases"
_EXPECTED = re.compile(r"# (fault|warning) ([^:]+): (.+)$")


def furnish(folder: Path) -> None:
    """Put what the cases name into `folder`: keys, a file, and two pseudo-terminals."""
    for name in ("hall", "east", "west", "open"):
        keygen(folder, name)
    (folder / "open.key").chmod(0o640)
    shutil.copy(folder / "east.pub", folder / "east-too.pub")
    (folder / "bad.pub").write_text("not a key\n")
    (folder / "file").write_text("just a file\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("config")
    furnish(folder)
    descriptors: list[int] = []
    for name in ("port-a", "port-b"):
        pair = os.openpty()
        descriptors.extend(pair)
        (folder / name).symlink_to(os.ttyname(pair[1]))
    (folder / "also-port-a").symlink_to(folder / "port-a")
    yield folder
    for descriptor in descriptors:
        os.close(descriptor)


def expected(text: str) -> set[tuple[int, str, bool]]:
    return {
        (number, match[2], match[1] == "warning")
        for number, line in enumerate(text.splitlines(), 1)
        if (match := _EXPECTED.search(line))
    }


def place(folder: Path, case: str) -> Path:
    return Path(shutil.copy(CASES / f"{case}.toml", folder))


@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.toml")))
def test_every_fault_of_a_file_is_told_at_once_with_path_and_line(folder: Path, case: str) -> None:
    path = place(folder, case)
    found = config.check(path)
    faults = {(fault.line, fault.path, False) for fault in found if not fault.warning}
    warnings = {(fault.line, fault.path, True) for fault in found if fault.warning}
    wanted = expected(path.read_text())
    where_nothing_is_written = {(0, "$", False), (0, "station", False)}
    assert faults - where_nothing_is_written == {each for each in wanted if not each[2]}
    assert {each for each in wanted if each[2]} <= warnings
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := _EXPECTED.search(line):
            told = [fault.message for fault in found if fault.line == number]
            assert any(match[3] in message for message in told), (match[3], told)


def test_a_good_file_gives_absolute_paths(folder: Path) -> None:
    read = config.load(place(folder, "good"))
    assert read.gateway.data_dir == str(folder / "data")
    assert read.gateway.key_file == str(folder / "hall.key")
    assert read.gateway.socket == str(folder / "run/hall.sock")
    assert read.station[1].public_key_file == str(folder / "west.pub")
    assert read.bus[0].port is not None
    assert read.bus[0].port.path == str(folder / "port-a")
    assert read.receiver[0].port.path == str(folder / "port-b")
    assert read.gpio is not None
    assert read.gpio.bench_socket == str(folder / "pins.sock")
    assert config.check(place(folder, "good")) == []


def test_a_file_without_station_and_inputs_says_both(folder: Path) -> None:
    found = config.check(place(folder, "nothing"))
    assert any("no [[station]]" in fault.message and not fault.warning for fault in found)
    assert any("nothing is watched" in fault.message and fault.warning for fault in found)


def test_load_carries_every_fault(folder: Path) -> None:
    path = place(folder, "everything-at-once")
    with pytest.raises(ConfigError) as refused:
        config.load(path)
    assert list(refused.value.faults) == config.check(path)
    assert refused.value.exit_code == 78


def test_a_disk_that_takes_no_writes_is_a_fault_to_the_technician_and_none_to_the_daemon(
    folder: Path,
) -> None:
    path = folder / "sick.toml"
    path.write_text((CASES / "good.toml").read_text().replace('"data"', '"file/data"'))
    assert [fault.path for fault in config.check(path)] == ["gateway.data_dir"]
    assert config.load(path).gateway.data_dir == str(folder / "file/data")


def test_an_unplugged_port_stops_nobody(folder: Path) -> None:
    path = folder / "unplugged.toml"
    path.write_text((CASES / "good.toml").read_text().replace('"port-b"', '"port-c"'))
    assert [(fault.path, fault.warning) for fault in config.check(path)] == [
        ("receiver[0].port.path", True)
    ]
    assert config.load(path).receiver[0].port.path == str(folder / "port-c")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"[gateway\n", 1, "not TOML"),
        (b'a = 1\nb = "\xff"\n', 2, "not UTF-8"),
        (b"x = " + b"[" * 5000 + b"]" * 5000, 1, ""),
        (b"#" * (config.FILE_BYTES_MAX + 1), 0, "larger"),
        (b"", 0, "'gateway' is missing"),
        (b"gateway = 3\nstation = 4\n[bus]\n", 1, "Expected"),
    ],
)
def test_what_is_no_configuration_at_all_is_a_fault_too(
    tmp_path: Path, content: bytes, line: int, message: str
) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(content)
    found = config.check(path)
    assert any(fault.line == line and message in fault.message for fault in found), found
    with pytest.raises(ConfigError):
        config.load(path)


SAMPLES = sorted((Path(__file__).parents[2] / "protocols").glob("*/sample.toml"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.parent.name)
def test_every_sample_is_a_configuration_without_faults(folder: Path, sample: Path) -> None:
    own = (Path(config.__file__).parent / "sample.toml").read_text()
    own = own.replace("/etc/nplus/keys/hall-3.key", "hall.key")
    path = folder / "sample.toml"
    path.write_text(own.replace("/etc/nplus/keys/east.pub", "east.pub") + sample.read_text())
    assert [fault for fault in config.check(path) if not fault.warning] == []
    assert config.load(path).gateway.name == "hall-3"


def test_every_protocol_has_a_sample() -> None:
    assert [path.parent.name for path in SAMPLES] == ["contact_id", "gpio", "modbus"]


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    assert config.check(tmp_path / "none.toml")[0].message.startswith("cannot be read")
    assert config.check(tmp_path)[0].message.startswith("cannot be read")


def test_the_socket_is_found_in_a_file_with_faults(folder: Path) -> None:
    path = place(folder, "everything-at-once")
    assert config.socket_path(path) == folder / "run/hall.sock"
    (folder / "none.toml").write_text("[gateway]\n")
    with pytest.raises(ConfigError):
        config.socket_path(folder / "none.toml")


_GOOD = (CASES / "good.toml").read_text()
_LINES = _GOOD.splitlines()
_WRONG = """3 -1 1e400 nan true "" "\\u0000" "x" [] [[]] {} {a=1} "../.." "/" "/dev/null" "*" "a:b:c"
    "[::1" 1979-05-27 "port-a" """
_VALUES = st.sampled_from(_WRONG.split())
_EDITS = st.one_of(
    st.tuples(st.just("drop"), st.integers(0, len(_LINES) - 1), st.just("")),
    st.tuples(st.just("double"), st.integers(0, len(_LINES) - 1), st.just("")),
    st.tuples(st.just("value"), st.integers(0, len(_LINES) - 1), _VALUES),
    st.tuples(st.just("text"), st.integers(0, len(_LINES) - 1), st.text(max_size=8)),
)


def edited(edits: list[tuple[str, int, str]]) -> str:
    lines = list(_LINES)
    for edit, wanted, text in edits:
        number = wanted % len(lines)
        line = lines[number]
        if edit == "drop":
            del lines[number]
        elif edit == "double":
            lines.insert(number, line)
        elif edit == "value" and "=" in line:
            lines[number] = f"{line.partition('=')[0]}= {text}"
        else:
            lines[number] = line + text
    return "\n".join(lines)


@given(edits=st.lists(_EDITS, min_size=1, max_size=6))
def test_a_mutated_file_runs_or_is_refused_with_a_place_never_a_traceback(
    folder: Path, edits: list[tuple[str, int, str]]
) -> None:
    text = edited(edits)
    path = folder / "mutated.toml"
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    found = config.check(path)
    lines = text.count("\n") + 1
    assert all(fault.message for fault in found)
    assert all(0 <= fault.line <= lines for fault in found)
    refused = [fault for fault in found if not fault.warning]
    if not refused:
        assert config.load(path).gateway.name
    elif {fault.path for fault in refused} != {"gateway.data_dir"}:
        with pytest.raises(ConfigError):
            config.load(path)


def test_the_schema_names_every_section() -> None:
    text = repr(config.schema())
    for word in ("key_file", "public_key_file", "qualify_ms", "repeat_window_s", "late_window_ms"):
        assert word in text
