import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks import calling, figures, page
from tests.benchmarks.figures import Beside, Goal, Measured, Row
from tests.benchmarks.parts import PARTS, Part
from tests.benchmarks.peers import tools

AT_MOST = Row(name="delay", unit="ms", goal=Goal(50))
AT_LEAST = Row(name="rate", unit="ev/s", goal=Goal(1000, least=True))
values = st.lists(st.floats(0, 1e9), min_size=1)


@given(values, st.floats(0.01, 1.0))
def test_a_quantile_is_a_value_that_its_share_does_not_exceed(
    given_values: list[float], share: float
) -> None:
    found = figures.quantile(given_values, share)
    assert found in given_values
    assert sum(value <= found for value in given_values) >= share * len(given_values) - 1e-9
    assert sum(value < found for value in given_values) < share * len(given_values)


def test_of_a_hundred_the_99th_is_p99() -> None:
    assert figures.quantile([float(n) for n in range(100, 0, -1)], 0.99) == 99.0


@pytest.mark.parametrize("function", [figures.median, lambda none: figures.quantile(none, 0.5)])
def test_nothing_has_no_middle(function: object) -> None:
    assert callable(function)
    with pytest.raises(ValueError, match="no values"):
        function([])


@pytest.mark.parametrize(
    ("row", "measured", "words"),
    [
        (AT_MOST, (10.0, 50.0, 90.0), "reached"),
        (AT_MOST, (75.0,), "missed: 1.50 times it"),
        (AT_LEAST, (1000.0,), "reached"),
        (AT_LEAST, (999.0, 400.0, 100.0), "missed: 40% of it"),
        (Row(name="plain", unit=""), (1.0,), ""),
    ],
)
def test_the_median_is_judged(row: Row, measured: tuple[float, ...], words: str) -> None:
    assert figures.verdict(row, Measured(values=measured)) == words


def test_a_row_that_failed_says_why_and_is_never_reached() -> None:
    failed = Measured(failed="took longer than 5 s")
    assert figures.verdict(AT_MOST, failed) == "not measured"
    assert "took longer than 5 s" in figures.cells(AT_MOST, failed)[1]


def test_a_line_shows_spread_goal_and_every_peer() -> None:
    measured = Measured(
        values=(1500.0, 1000.0, 12000.0),
        beside=(
            Beside(name="a", unit="ev/s", values=(2.0,)),
            Beside(name="b", missing="not installed; install: apt-get install b"),
            Beside(name="c", failed="broke | off"),
        ),
    )
    text = figures.markdown([AT_LEAST], {"rate": measured}, "here")
    assert "1,500 ev/s (1,000–12,000, 3 runs)" in text
    assert "≥ 1,000 ev/s" in text
    assert "apt-get install b" in text
    assert "failed: broke \\| off" in text
    assert {line.replace("\\|", "").count("|") for line in text.splitlines()[2:]} == {6}


def test_names_of_rows_are_unique() -> None:
    names = [row.name for part in PARTS.values() for row in part.rows]
    assert len(names) == len(set(names))


def test_the_page_has_every_row_and_no_other() -> None:
    lines = page.between(page.PAGE.read_text()).strip().splitlines()
    shown = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert shown[2:] == [row.name for part in PARTS.values() for row in part.rows]


def test_the_page_names_every_part() -> None:
    commands = page.PAGE.read_text().split("```")[1].split()
    assert set(PARTS) <= set(commands)


def test_a_new_table_replaces_the_old_one_alone() -> None:
    text = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    assert page.replaced(page.replaced(text, "one"), "two") == (
        f"before\n{page.BEGIN}\n\ntwo\n\n{page.END}\nafter\n"
    )
    with pytest.raises(ValueError, match="marks"):
        page.replaced("no marks", "two")


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    marker = f"hung-{time.monotonic_ns()}"
    script = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)', '{marker}'])\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(RuntimeError, match="longer than 1 s"):
        calling.run([sys.executable, "-c", script], 1.0, tmp_path / "log")
    alive = [p for p in psutil.process_iter(["cmdline"]) if marker in (p.info["cmdline"] or [])]
    assert psutil.wait_procs(alive, timeout=5)[1] == []


def test_a_part_that_fails_leaves_its_last_words_in_every_row(tmp_path: Path) -> None:
    part = Part(rows=(AT_MOST, AT_LEAST), run=lambda _: {}, limit_s=20)
    results = calling.call("no-such-part", part, tmp_path, calling.Clock(), quick=True)
    assert set(results) == {"delay", "rate"}
    assert all("no-such-part" in each.failed for each in results.values())
    assert len(calling.failures(results)) == 2


def test_without_time_left_a_part_is_not_begun(tmp_path: Path) -> None:
    part = Part(rows=(AT_MOST,), run=lambda _: {}, limit_s=20)
    results = calling.call("start", part, tmp_path, calling.Clock(0.0), quick=True)
    assert "no time left" in results["delay"].failed


def test_a_peer_that_is_missing_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_PLACES", "/nowhere")

    def measure() -> list[float]:
        subprocess.run([tools.program("nats-server")], check=True)
        return [1.0]

    beside = tools.beside("NATS", "ev/s", measure)
    assert beside.missing == "not installed; install: apt-get install nats-server"
    assert calling.failures({"row": Measured(values=(1.0,), beside=(beside,))}) == []


def test_a_peer_that_breaks_is_a_failure_of_its_own() -> None:
    def measure() -> list[float]:
        raise RuntimeError("stored 5 of 10")

    result = Measured(values=(1.0,), beside=(tools.beside("NATS", "ev/s", measure),))
    assert calling.failures({"row": result}) == ["row: NATS: RuntimeError: stored 5 of 10"]
