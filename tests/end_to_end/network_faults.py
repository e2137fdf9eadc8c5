"""The rig for network faults: a street whose gateways reach their station over one cable.

`python -m tests.end_to_end.network_faults ROUNDS SEED`, alone with its mounts and networks, prints
one JSON object: the account, and how long each silent cut took to be named on either side.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from events.calendar import parse_rfc3339
from events.kinds import Kind, Subkind
from hil.parts.cable import ADDRESSES, EAST, WEST, Cable
from hil.parts.programs import answer, find
from hil.site import STATION
from tests.end_to_end.street import Street

HOUSES = 2
CUT_S = 11.0
SETTLED_WITHIN_S = 20.0  # the last words of a path that is up again
FLAP_UP_S, FLAP_DOWN_S = 3.0, 5.0


@dataclass
class Report:
    accepted: int = 0
    findings: list[str] = field(default_factory=list)
    named_at_gateway_s: list[float] = field(default_factory=list)
    named_at_station_s: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    still_on: list[str] = field(default_factory=list)


class Faults:
    """What happens to the cable, one after the other."""

    def __init__(self, cable: Cable, seed: int, report: Report) -> None:
        self.cuts_s: list[float] = []  # POSIX seconds of each silent cut
        self._cable = cable
        self._random = random.Random(seed)
        self._report = report

    async def run(self, rounds: int) -> None:
        for _ in range(rounds):
            await self._loss(self._random.choice([0.01, 0.1, 0.3]), 4.0)
            await self._slow(self._random.choice([32_000, 64_000, 256_000]), 4.0)
            await self._black_hole()
            await self._flapping(2)

    async def _loss(self, share: float, for_s: float) -> None:
        self._begin(f"{share:.0%} lost")
        self._cable.lose(share)
        await asyncio.sleep(for_s)
        self._cable.heal()

    async def _slow(self, bits_per_s: int, for_s: float) -> None:
        self._begin(f"{bits_per_s} bit/s")
        self._cable.limit(bits_per_s)
        await asyncio.sleep(for_s)
        self._cable.heal()
        await asyncio.sleep(1.0)

    async def _black_hole(self) -> None:
        self._begin("black hole")
        self.cuts_s.append(time.clock_gettime(time.CLOCK_REALTIME))
        self._cable.swallow()
        await asyncio.sleep(CUT_S)
        self._cable.heal()
        await asyncio.sleep(1.0)

    async def _flapping(self, times: int) -> None:
        self._begin("flapping")
        for _ in range(times):
            await asyncio.sleep(FLAP_UP_S)
            self._cable.unplug()
            await asyncio.sleep(FLAP_DOWN_S)
            self._cable.plug()

    def _begin(self, what: str) -> None:
        self._report.faults.append(what)


async def run(folder: Path, rounds: int, seed: int) -> Report:
    report, cable = Report(), Cable()
    faults = Faults(cable, seed, report)
    wrap = (Cable.at(WEST), Cable.at(EAST))
    async with Street(folder, HOUSES, listen=ADDRESSES[EAST], wrap=wrap) as street:
        await street.start()
        async with asyncio.TaskGroup() as group:
            talking = group.create_task(street.talk())
            await asyncio.sleep(1.0)
            await faults.run(rounds)
            talking.cancel()
        await street.rest()
        account = await street.settled(within_s=30.0)
        report.accepted = account.accepted
        report.findings = [f"{each.fault}: {each.device} {each.text}" for each in account.findings]
        if not account.ok and not report.findings:
            report.findings = ["accepted and recorded differ"]
        await _judge_names(street, faults.cuts_s, report)
        await street.stop()
    return report


async def _judge_names(street: Street, cuts_s: Sequence[float], report: Report) -> None:
    """See on the station's list when each silent cut was named, and that all of it is over."""
    end_s = time.monotonic() + SETTLED_WITHIN_S
    rows = await _rows(street)
    while (left := _still_on(rows)) and time.monotonic() < end_s:
        await asyncio.sleep(0.5)
        rows = await _rows(street)
    report.still_on = left
    for cut_s in cuts_s:
        for house in street.houses:
            own = [row for row in rows if row["gateway"] == house.name]
            said = [row for row in own if row["log_id"] and row["subkind"] == Subkind.PATH_LOST]
            report.named_at_gateway_s.append(_first_after(said, "at", cut_s))
            lost = [r for r in own if not r["log_id"] and r["subkind"] == Subkind.GATEWAY_LOST]
            report.named_at_station_s.append(_first_after(lost, "received_at", cut_s))


def _first_after(rows: Sequence[dict[str, Any]], key: str, since_s: float) -> float:
    """Return how long after a moment the first new fault was dated; infinite for never."""
    times = [parse_rfc3339(row[key]) / 1e6 for row in rows if row["qualifier"] == "new"]
    return min((at_s - since_s for at_s in times if at_s >= since_s), default=999.0)


def _still_on(rows: Sequence[dict[str, Any]]) -> list[str]:
    newest = {
        (row["gateway"], row["point"], row["subkind"]): row["qualifier"]
        for row in rows
        if row["kind"] == Kind.FAULT
    }
    return [f"{'/'.join(map(str, key))}" for key, last in newest.items() if last != "restore"]


async def _rows(street: Street) -> list[dict[str, Any]]:
    config = str(street.places.config(STATION))
    command = [find("nplus-station"), "events", "--json", "--config", config]
    status, out, complaint = await answer(command)
    assert status == 0, complaint
    return [json.loads(line) for line in out.splitlines()]


def main(rounds: str, seed: str) -> None:
    with tempfile.TemporaryDirectory(prefix="nplus-") as name:
        print(json.dumps(asdict(asyncio.run(run(Path(name), int(rounds), int(seed))))))


if __name__ == "__main__":
    main(*sys.argv[1:])
