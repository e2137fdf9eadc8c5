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

from tests.world.plan import CELLS, UNREACHABLE, Fault, Hop, armed
from tests.world.runs import Account

ROOT = Path(__file__).parents[2]
WORLDS = 400  # `tests/world/test_mutations.py` takes its worlds from these
PARTS = 2
EACH_CELL_MIN = 1
UNMET_MAX = 3  # of some two hundred cells: which are met moves with every change of timing


def world(*words: str) -> str:
    """Run the world in a process of its own, behind the tests that wait for real programs."""
    done = subprocess.run(
        ["nice", "-n", "10", sys.executable, "-m", "tests.world", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert not done.stderr, done.stderr[-3000:]
    return done.stdout


def part(number: int) -> Account:
    given = ("--first", str(number), "--step", str(PARTS), "--worlds", str(WORLDS // PARTS))
    told = json.loads(world(*given, "--json"))
    told["met"] = Counter({(fault, hop): count for fault, hop, count in told["met"]})
    told["broken"] = {int(seed): text for seed, text in told["broken"].items()}
    return Account(**told)


@pytest.mark.timeout(600)
def test_thousands_of_worlds_keep_every_promise(
    record_property: Callable[[str, object], None],
) -> None:
    account = Account()
    with ThreadPoolExecutor(PARTS) as parts:
        for each in parts.map(part, range(PARTS)):
            account.add(each)
    record_property("table", f"{WORLDS} simulated worlds\n{account.table()}")
    broken = [f"make sim SEED={seed}: {text}" for seed, text in account.broken.items()]
    assert not broken, "\n".join(broken[:5])
    assert account.worlds == WORLDS
    assert account.events > 10 * WORLDS, "devices had hardly anything to say"
    assert account.looks > WORLDS, "the judge hardly looked"
    unmet = account.rare(EACH_CELL_MIN)
    assert len(unmet) <= UNMET_MAX, unmet


def test_every_pair_of_fault_and_hop_has_its_turn() -> None:
    turns = Counter(pair for seed in range(WORLDS) for pair in armed(seed))
    assert set(turns) == set(CELLS)
    assert min(turns.values()) >= 5 * EACH_CELL_MIN
    assert set(CELLS) | set(UNREACHABLE) == {(fault, hop) for fault in Fault for hop in Hop}


@pytest.mark.parametrize("seed", [3, 44])
def test_a_world_is_lived_again_to_the_last_message(seed: int) -> None:
    first, second = (world("--seed", str(seed)) for _ in range(2))
    assert first.endswith("every promise kept\n")
    assert len(first.splitlines()) > 50
    assert first == second
