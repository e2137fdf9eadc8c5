"""The world from the command line.

`--seed N` lives one world again and tells what happens in it; `--worlds N` lives many and prints
the table of faults and hops; `--rare JSON` lives worlds of one pair of them each, until that has
met so often as is wanted (`[[fault, hop, times], …]`); `--mutations` breaks the code on purpose, and says when it is caught.
With `--json` only the account is printed, for the tests.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.world import runs
from tests.world.judge import Broken
from tests.world.mutations import MUTATIONS
from tests.world.world import World

SHM = Path("/dev/shm")


@contextmanager
def _folder() -> Iterator[Path]:
    """Return a folder in memory where there is one: no disk is to be waited for."""
    with tempfile.TemporaryDirectory(dir=SHM if os.access(SHM, os.W_OK) else None) as name:
        yield Path(name)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--rare", type=json.loads, metavar="JSON")
    parser.add_argument("--mutations", type=int, metavar="SEEDS")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set of words is no accident here
        os.execve(
            sys.executable,
            [sys.executable, "-m", "tests.world", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    with _folder() as folder:
        os.chdir(folder)  # a second connection to a file may leave its index where we stand
        if given.seed is not None:
            return _replay(given.seed, folder)
        if given.mutations is not None:
            return _mutate(range(given.mutations), folder)
        if given.rare is not None:
            return _account(runs.live_rare(given.rare, folder), json_only=given.json)
        seeds = range(given.first, given.first + given.worlds * given.step, given.step)
        account = runs.live(seeds, folder)
    return _account(account, json_only=given.json)


def _account(account: runs.Account, *, json_only: bool) -> int:
    if json_only:
        met = [[fault, hop, count] for (fault, hop), count in account.met.items()]
        print(json.dumps({**vars(account), "met": met}))
        return 0
    print(account.table())
    for seed, text in account.broken.items():
        print(f"\nBROKEN, replay with: make sim SEED={seed}\n{text}")
    print(
        f"\n{account.worlds} worlds, {account.events} accepted events, {len(account.broken)} broken;"
        f" {account.cpu_s / max(1, account.worlds) * 1000:.0f} ms of processor time each"
    )
    return 1 if account.broken else 0


def _replay(seed: int, folder: Path) -> int:
    world = World(seed, folder, folder / "templates", say=print)
    for fault, hop in world.pairs:
        print(f"armed: {fault} at {hop}")
    try:
        world.live()
    except Broken as broken:
        print(f"BROKEN: {broken}")
        return 1
    print("every promise kept")
    return 0


def _mutate(seeds: range, folder: Path) -> int:
    """Print a line of JSON for each mutation: name, worlds lived, and what the judge said.

    sound: the unbroken code lives through the world that told.
    """
    for mutation in MUTATIONS:
        lived, said, sound = 0, "", True
        for seed in mutation.seeds(seeds):
            lived += 1
            with mutation.applied():
                told = runs.live([seed], folder).broken.get(seed, "")
            if mutation.seen_as in told:
                said, sound = told, not runs.live([seed], folder).broken
                break
        given = {"name": mutation.name, "worlds": lived, "said": said, "sound": sound}
        print(json.dumps(given), flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a file that a broken world left open would be closed without our file layer
