"""The rig for power cuts: a real store or ledger on a disk with a volatile cache.

`python -m tests.end_to_end.power_cuts gateway|station|aside CUTS SEED full|normal`, in a mount namespace
of its own, prints one JSON object: how many cuts counted, and what was wrong after which of them.
A cut counts when the writer was told "durable" within the 50 ms before it.
"""

import asyncio
import itertools
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from buffer.eviction import TRIMMED
from buffer.log import FILE_NAME
from buffer.schema import sync_folder
from buffer.store import Store
from events.errors import NplusError
from events.replication import Entry, Lane
from events.wire import decode
from hil.parts.disks import CuttableDisk
from hil.parts.volatile_disk import POLICIES
from station.schema import open_reader
from station.store import Store as Ledger
from tests.buffer.logs import MIB, check_chain, item, open_log, read
from tests.buffer.stores import panic, store_at
from tests.end_to_end.cut_writers import CLOCK, GATEWAYS, PRODUCERS, extend, point_of
from tests.station.gateway_log import GatewayLog

FRESH_S = 0.05
CUTS_PER_WRITER = 20
PATIENCE_S = 20.0
OLD_EVENTS, OLD_POINT = 300, "old"
BOUNDS = ((64 * MIB, 10**9), (MIB, 100), (MIB, 10**9))
"""Bound and lag: everything is kept; the log turns over; it fills up,
refuses, and is emptied at once."""


@dataclass
class Told:
    """What a writer said: told, handed, acknowledged, early."""

    newest: dict[str, int] = field(default_factory=dict)  # by producer or gateway
    early: dict[str, set[int]] = field(default_factory=dict)
    handed: dict[int, str] = field(default_factory=dict)  # chain by number
    acknowledged: int = 0
    at_s: float = 0.0

    def hear(self, line: str) -> None:
        word, *rest = line.split()
        if word == "told":
            self.newest[rest[0]] = max(self.newest.get(rest[0], 0), int(rest[1]))
            self.at_s = time.monotonic()
        elif word == "early":
            self.early.setdefault(rest[0], set()).add(int(rest[1]))
            self.at_s = time.monotonic()
        elif word == "handed":
            self.handed[int(rest[0])] = rest[1]
        else:
            self.acknowledged = max(self.acknowledged, int(rest[0]))


@dataclass
class Report:
    cuts: int = 0
    lost_sectors: int = 0
    events: int = 0
    repaired: int = 0  # filesystems that e2fsck had to repair
    trimmed: int = 0  # cuts of a log that had turned over
    full: int = 0  # cuts of a log that took up most of its bound
    wrong: list[str] = field(default_factory=list)


class Writer:
    """A writer at work, and what it has said so far."""

    def __init__(self, command: list[str], told: Told) -> None:
        self.told = told
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        self._rest = b""

    def listen(self, for_s: float) -> None:
        """Hear what it says in the next moments."""
        end_s = time.monotonic() + for_s
        while True:
            left_s = max(0.0, end_s - time.monotonic())
            if not select.select([self._pipe], [], [], left_s)[0]:
                return
            data = os.read(self._pipe, 1 << 16)
            if not data:
                raise RuntimeError(f"the writer ended with {self._process.wait()}")
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self.told.hear(line.decode())

    def until_told(self) -> None:
        """Wait until something new was told durable."""
        before_s, end_s = self.told.at_s, time.monotonic() + PATIENCE_S
        while self.told.at_s == before_s:
            self.listen(0.002)
            if time.monotonic() > end_s:
                raise RuntimeError("nothing was told durable")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Check:
    """Notes what does not hold."""

    def __init__(self) -> None:
        self.wrong: list[str] = []

    def that(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)

    @contextmanager
    def survives(self) -> Iterator[None]:
        try:
            yield
        except (NplusError, AssertionError, OSError) as error:
            self.wrong.append(f"corrupt: {type(error).__name__}: {error}")


# ------------------------------------------------------------------ the gateway's store


def gateway_left(folder: Path, told: Told, bound_bytes: int, report: Report) -> list[str]:
    """Return what is wrong with the store that a cut left."""
    check = Check()
    with check.survives():
        log = open_log(folder, bound_bytes=bound_bytes)
        try:
            head = log.head
            reading = read(log, Lane.MAIN)
            check_chain(head.log_id, reading)
            check.that(log.quick_check() == [], f"corrupt: {log.quick_check()}")
            evicted = [gap for gap in reading.gaps if gap.why != TRIMMED]
            thrown = sum(gap.last - gap.first + 1 for gap in evicted)
            values = _values(reading.entries)
            memory = log.memory()
            for producer in range(PRODUCERS):
                own, newest = values.get(producer, []), told.newest.get(str(producer), 0)
                last = memory.latest(*point_of(producer))
                known = int(last.value) if last is not None and last.value is not None else 0
                check.that(known >= newest, f"lost: p/{producer} {known} of {newest}")
                if own:
                    check.that(known == own[-1], f"memory: p/{producer} {known}, log {own[-1]}")
                    missing = own[-1] - own[0] + 1 - len(set(own))
                    check.that(missing <= thrown, f"lost: {missing} of p/{producer} in between")
                    check.that(len(set(own)) == len(own), f"twice: p/{producer}")
            first = head.first
            report.trimmed += first > 1
            report.full += log.file_bytes > 0.8 * bound_bytes
            allowed = told.acknowledged + thrown
            check.that(first - 1 <= allowed, f"trimmed to {first}, allowed to {allowed}")
            chains = {entry.seq: entry.chain.hex() for entry in reading.entries}
            for seq, chain in list(told.handed.items())[-50:]:
                check.that(
                    head.head >= seq, f"lost: number {seq} was handed out, head {head.head}"
                )
                same = seq not in chains or chains[seq] == chain
                check.that(same, f"number {seq} is used for something else")
            log.append([item(1)])
            check.that(log.head.head == head.head + 1, "the next number is not the next")
        finally:
            log.close()
    return check.wrong


def _values(entries: Sequence[Entry]) -> dict[int, list[int]]:
    values: dict[int, list[int]] = {}
    for entry in entries:
        seen = decode(entry.body or b"").observation
        if seen.point.startswith("p/"):
            values.setdefault(int(seen.point[2:]), []).append(int(seen.value or 0))
    return values


# ------------------------------------------------------------------ the station's ledger


def station_left(folder: Path, told: Told, logs: dict[str, GatewayLog]) -> list[str]:
    """Return what is wrong with the ledger that a cut left."""
    check = Check()
    with check.survives():
        asyncio.run(_station_left(folder, told, logs, check))
    return check.wrong


async def _station_left(
    folder: Path, told: Told, logs: dict[str, GatewayLog], check: Check
) -> None:
    with closing(open_reader(folder)[0]) as reader:
        rows = reader.execute("SELECT n, gateway, seq FROM events ORDER BY n").fetchall()
    check.that([n for n, _, _ in rows] == list(range(1, len(rows) + 1)), "numbers have a gap")
    async with Ledger(folder, clock=CLOCK) as ledger:
        sound = await ledger._writer.run(
            lambda connection: connection.execute("PRAGMA integrity_check").fetchall()
        )
        check.that(sound == [("ok",)], f"corrupt: {sound}")
        for name in GATEWAYS:
            log = logs[name]
            held = [seq for _, gateway, seq in rows if gateway == name]
            cursor = (await ledger.cursors(name, [log.log_id])).get(log.log_id)
            main = cursor.main if cursor else 0
            newest = told.newest.get(name, 0)
            check.that(main >= newest, f"lost: {name} {main} of {newest}")
            check.that(len(held) == len(set(held)), f"twice: {name}")
            lost = (set(range(1, main + 1)) | told.early.get(name, set())) - set(held)
            check.that(not lost, f"lost: {name} {sorted(lost)[:5]}")
            beyond = {seq for seq in held if seq > main}
            extend(log, max([main, *held]) + 5)
            check.that(beyond <= log.urgent, f"{name} holds more than its cursor says")
            if cursor and main:
                check.that(cursor.chain == log.chain_at(main), f"the chain of {name} is another")
            again = await ledger.commit(name, log.main(1, main + 3), CLOCK.now())
            fresh = len(set(range(main + 1, main + 4)) - beyond)
            check.that(again.stored == fresh, f"twice: {name} {again.stored} for {fresh}")


# ------------------------------------------------------------------ setting a damaged store aside


def damaged(folder: Path) -> None:
    """Make a store whose file no longer says what it is; its events lie there all the same."""
    log = open_log(folder)
    for first in range(0, OLD_EVENTS, 50):
        numbers = range(first, first + 50)
        log.append([item(n, point=OLD_POINT, value=n, text="x" * (n % 90)) for n in numbers])
    log.close()
    with (folder / FILE_NAME).open("r+b") as file:
        file.write(b"\0" * 100)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


async def _aside_left(folder: Path, told: Told, check: Check) -> None:
    async with store_at(folder) as store, asyncio.timeout(PATIENCE_S):
        values: list[int] = []
        newest: dict[str, int] = {}
        while not values:  # the old log is offered once it was looked through
            await asyncio.sleep(0.01)
            for head in [each for each in store.heads() if each.head]:
                for entry in await _whole(store, head.log_id, head.head):
                    seen = decode(entry.body or b"").observation
                    if seen.point == OLD_POINT:
                        values.append(int(seen.value or 0))
                    elif seen.point.startswith("p/"):
                        newest[seen.point[2:]] = int(seen.value or 0)
        check.that(sorted(values) == list(range(OLD_EVENTS)), f"lost: {len(values)} old events")
        for producer, number in told.newest.items():
            known = newest.get(producer, 0)
            check.that(known >= number, f"lost: p/{producer} {known} of {number}")
        check.that(store.status()["state"] == "ok", f"not recording: {store.status()['text']}")
        await store.record([panic(1)])


async def _whole(store: Store, log_id: str, head: int) -> list[Entry]:
    entries: list[Entry] = []
    after = 0
    while after < head:
        reading = await store.read(log_id, Lane.MAIN, after, limit_bytes=1 << 20)
        entries += reading.entries
        after = reading.through
    return entries


def aside_left(folder: Path, told: Told) -> list[str]:
    """Return what is wrong after a cut while a damaged store was set aside, or soon after."""
    check = Check()
    with check.survives():
        asyncio.run(_aside_left(folder, told, check))
    return check.wrong


def run_aside(cuts: int, seed: int, folder: Path) -> Report:
    """Cut at random instants of each start; the first cuts fall before anything was told."""
    report, chance = Report(), random.Random(seed)
    with CuttableDisk(folder) as disk:
        for life in itertools.count():
            if report.cuts >= cuts:
                break
            home = disk.mounted / f"life-{life}"
            damaged(home)
            command = [sys.executable, "-m", "tests.end_to_end.cut_writers", "gateway"]
            writer = Writer([*command, str(home), "FULL", str(64 * MIB), str(10**9)], Told())
            try:
                while not (home / FILE_NAME).exists() or not _lying_beside(home):
                    writer.listen(0.001)
                for _ in range(4):
                    writer.listen(chance.uniform(0.0, 0.02))
                    _cut(disk, writer, aside_left, home.name, report, chance, any_time=True)
            finally:
                writer.kill()
            shutil.rmtree(home)
        report.lost_sectors, report.repaired = disk.lost_sectors, disk.repaired
    return report


def _lying_beside(home: Path) -> bool:
    return any(FILE_NAME in each.name and each.name != FILE_NAME for each in home.iterdir())


# ------------------------------------------------------------------ the cuts


def run(subject: str, cuts: int, seed: int, sync: str, folder: Path) -> Report:
    report, chance = Report(), random.Random(seed)
    with CuttableDisk(folder) as disk:
        for life in itertools.count():
            if report.cuts >= cuts:
                break
            home = disk.mounted / f"life-{life}"
            bound, lag = BOUNDS[life % len(BOUNDS)]
            command = [sys.executable, "-m", "tests.end_to_end.cut_writers", subject]
            writer = Writer([*command, str(home), sync, str(bound), str(lag)], Told())
            look = _looker(subject, bound, report)
            try:
                writer.until_told()
                for _ in range(min(CUTS_PER_WRITER, cuts - report.cuts)):
                    _cut(disk, writer, look, home.name, report, chance)
            finally:
                writer.kill()
                report.events += sum(writer.told.newest.values())
            shutil.rmtree(home)
        report.lost_sectors, report.repaired = disk.lost_sectors, disk.repaired
    return report


def _looker(subject: str, bound_bytes: int, report: Report) -> Callable[[Path, Told], list[str]]:
    if subject == "gateway":
        return lambda folder, told: gateway_left(folder, told, bound_bytes, report)
    logs = {name: GatewayLog() for name in GATEWAYS}
    return lambda folder, told: station_left(folder, told, logs)


def _cut(
    disk: CuttableDisk,
    writer: Writer,
    look: Callable[[Path, Told], list[str]],
    name: str,
    report: Report,
    chance: random.Random,
    *,
    any_time: bool = False,
) -> None:
    if not any_time:
        writer.until_told()
        writer.listen(chance.uniform(0.0, FRESH_S * 0.9))
    told = msgspec.convert(asdict(writer.told), Told)  # as it was heard before the cut
    policy, seed = POLICIES[report.cuts % len(POLICIES)], chance.randrange(1 << 30)
    before_s = disk.cut_s
    try:
        with disk.cut(policy, seed) as left:
            writer.listen(0.0)  # what was allowed to go may have grown until the cut
            told.acknowledged = writer.told.acknowledged
            wrong = look(left / name, told)
    except RuntimeError as error:  # it cannot even be mounted
        wrong = [f"corrupt: {error}"]
    report.cuts += any_time or before_s < disk.cut_s <= told.at_s + FRESH_S
    report.wrong += [f"cut {report.cuts}, {policy}, seed {seed}: {each}" for each in wrong]


def main(subject: str, cuts: str, seed: str, sync: str) -> None:
    with tempfile.TemporaryDirectory(prefix="nplus-cuts-", dir=_memory()) as name:
        if subject == "aside":
            report = run_aside(int(cuts), int(seed), Path(name))
        else:
            report = run(subject, int(cuts), int(seed), sync, Path(name))
        print(json.dumps(asdict(report)))


def _memory() -> str | None:
    """Return a folder in memory, where there is one."""
    place = Path("/dev/shm")
    return str(place) if os.access(place, os.W_OK) else None


if __name__ == "__main__":
    main(*sys.argv[1:])
