"""Many worlds in one process, and what came of them."""

import gc
import signal
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tests.world.judge import Broken
from tests.world.plan import CELLS, UNREACHABLE, Fault, Hop, directed
from tests.world.world import World

COLLECT_EVERY = 20
TRIES = 4  # worlds for each time that a pair is still to be met
LIMIT_S = 30.0  # of real time; a world takes a tenth of a second


@dataclass
class Account:
    """met: how often a fault struck at a hop. broken: what the judge said, by seed."""

    worlds: int = 0
    events: int = 0
    looks: int = 0
    cpu_s: float = 0.0
    met: Counter[tuple[str, str]] = field(default_factory=Counter)
    broken: dict[int, str] = field(default_factory=dict)

    def rare(self, least: int) -> list[tuple[Fault, Hop, int]]:
        """Return the cells that were met less often, and how often each is still to be met."""
        return [
            (fault, hop, least - self.met[fault, hop])
            for fault, hop in CELLS
            if self.met[fault, hop] < least
        ]

    def table(self) -> str:
        """Return the counts, a line for each fault and a column for each hop."""
        names = [str(hop) for hop in Hop]
        widths = [max(5, *(len(word) for word in name.split())) for name in names]
        words = [name.split() for name in names]
        lines = []
        for row in range(max(map(len, words))):
            cells = [
                (each[row] if row < len(each) else "").rjust(width)
                for each, width in zip(words, widths, strict=True)
            ]
            lines.append(f"{'':18} " + " ".join(cells))
        for fault in Fault:
            cells = [
                ("–" if (fault, hop) in UNREACHABLE else str(self.met[fault, hop])).rjust(width)
                for hop, width in zip(Hop, widths, strict=True)
            ]
            lines.append(f"{fault:18} " + " ".join(cells))
        lines += [f"– {fault} at {hop}: {why}" for (fault, hop), why in UNREACHABLE.items()]
        return "\n".join(lines)

    def add(self, other: "Account") -> None:
        self.worlds += other.worlds
        self.events += other.events
        self.looks += other.looks
        self.cpu_s += other.cpu_s
        self.met += other.met
        self.broken |= other.broken


def _hangs(_number: int, _frame: object) -> None:
    raise Broken(f"a world does not end within {LIMIT_S:.0f} s")


def live_rare(cells: Iterable[tuple[Fault, Hop, int]], folder: Path) -> Account:
    """Live worlds of one pair alone, until each pair was met so often as is still wanted."""
    account = Account()
    for fault, hop, wanted in cells:
        for seed in islice(directed(fault, hop), TRIES * wanted):
            if account.met[fault, hop] >= wanted:
                break
            account.add(live([seed], folder))
    return account


def live(seeds: Iterable[int], folder: Path, *, stop_at_first: bool = False) -> Account:
    """Live the worlds of some seeds."""
    account = Account()
    began = time.process_time()
    gc.disable()
    gc.freeze()  # the program itself is no garbage, and is not looked through
    signal.signal(signal.SIGALRM, _hangs)
    try:
        for seed in seeds:
            world = World(seed, folder, folder / "templates")
            signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
            try:
                world.live()
            except Broken as broken:
                account.broken[seed] = str(broken)
            account.worlds += 1
            account.events += sum(1 for _ in world.judge.book.accepted())
            account.looks += world.judge.looks
            account.met += world.met
            if account.worlds % COLLECT_EVERY == 0:
                gc.collect()
            if account.broken and stop_at_first:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.unfreeze()
        gc.enable()
    account.cpu_s = time.process_time() - began
    return account
