"""Thousands of worlds keep every promise, and every fault strikes at every hop."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.world.plan import CELLS, DIRECTED, UNREACHABLE, Fault, Hop, armed, directed
from tests.world.runs import Account

ROOT = Path(__file__).parents[2]
WORLDS = 2_000
PARTS = 2
EACH_CELL_MIN = 10
TOPPED_UP_MAX = 60  # cells; that would mean that the plan does not fit any more


def world(*words: str) -> str:
    """Run the world in a process of its own, behind the tests that wait for real programs."""
    done = subprocess.run(
        ["nice", "-n", "10", sys.executable, "-m", "tests.world", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert not done.stderr, done.stderr[-3000:]
    return done.stdout


def account(*words: str) -> Account:
    told = json.loads(world(*words, "--json"))
    told["met"] = Counter({(fault, hop): count for fault, hop, count in told["met"]})
    told["broken"] = {int(seed): text for seed, text in told["broken"].items()}
    return Account(**told)


def part(number: int) -> Account:
    return account("--first", str(number), "--step", str(PARTS), "--worlds", str(WORLDS // PARTS))


def rare_part(cells: list[tuple[Fault, Hop, int]]) -> Account:
    return account("--rare", json.dumps(cells))


@pytest.mark.timeout(1200)
def test_thousands_of_worlds_keep_every_promise(
    record_property: Callable[[str, object], None],
) -> None:
    lived = Account()
    with ThreadPoolExecutor(PARTS) as parts:
        for each in parts.map(part, range(PARTS)):
            lived.add(each)
        assert lived.worlds == WORLDS
        # What chance brought too seldom is sought in worlds of its own.
        rare = lived.rare(EACH_CELL_MIN)
        for each in parts.map(rare_part, [rare[number::PARTS] for number in range(PARTS)]):
            lived.add(each)
    title = f"{lived.worlds} simulated worlds, {lived.worlds - WORLDS} of them of one pair alone"
    record_property("table", f"{title}\n{lived.table()}")
    broken = [f"make sim SEED={seed}: {text}" for seed, text in lived.broken.items()]
    assert not broken, "\n".join(broken[:5])
    assert lived.events > 10 * WORLDS, "devices had hardly anything to say"
    assert lived.looks > WORLDS, "the judge hardly looked"
    assert lived.rare(EACH_CELL_MIN) == []
    assert len(rare) <= TOPPED_UP_MAX, rare


def test_every_pair_of_fault_and_hop_has_its_turn() -> None:
    turns = Counter(pair for seed in range(WORLDS) for pair in armed(seed))
    assert set(turns) == set(CELLS)
    assert min(turns.values()) >= 1.5 * EACH_CELL_MIN
    assert [armed(directed(*cell)[7]) for cell in CELLS] == [[cell] for cell in CELLS]
    assert WORLDS <= DIRECTED
    assert set(CELLS) | set(UNREACHABLE) == {(fault, hop) for fault in Fault for hop in Hop}


@pytest.mark.parametrize("seed", [9, 44, 1_235_003])
def test_a_world_is_lived_again_to_the_last_message(seed: int) -> None:
    first, second = (world("--seed", str(seed)) for _ in range(2))
    assert first.endswith("every promise kept\n")
    assert len(first.splitlines()) > 50
    assert first == second
