"""The real programs, killed and cut off at random moments, judged by the devices' own journals."""

import asyncio
import os
import random
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from events.kinds import Qualifier
from hil.account import Account
from hil.community import Community
from hil.parts.waiting import Overdue, until
from hil.site import BUILDINGS, PANELS, REGISTERS, WIRES, Places

QUIET_S = 6.0
SETTLE_WITHIN_S = 60.0


class Chaos:
    """Moves devices all the time and harms programs and networks, both by one seed."""

    def __init__(self, town: Community, seed: int) -> None:
        self._town = town
        self._random = random.Random(seed)
        self.harm: Counter[str] = Counter()

    async def run(self, blows: int) -> None:
        async with asyncio.TaskGroup() as group:
            devices = [group.create_task(self._contacts()), group.create_task(self._panels())]
            for _ in range(blows):
                await asyncio.sleep(self._random.uniform(0.3, 1.5))
                await self._strike()
            for task in devices:
                task.cancel()

    async def rest(self) -> None:
        """Mend everything, bring every device to rest, and let the last words arrive."""
        town = self._town
        for name in BUILDINGS:
            town.heal(name)
            await town.until_watched(name, within_s=30)
        for wire in WIRES:
            town.move(wire.gateway, wire.contact.point, on=False)
        for register in REGISTERS:
            town.set_register(register.point, on=False)
        for point, reported in town.reported.items():
            if reported:
                town.report(point, Qualifier.RESTORE)
        await town.until_told(within_s=60)

    async def _strike(self) -> None:
        town, name = self._town, self._random.choice(list(BUILDINGS))
        blow = self._random.choice(["gateway", "gateway", "station", "cut", "reset"])
        self.harm[blow] += 1
        if blow == "gateway":
            town.kill(name)
            await asyncio.sleep(self._random.uniform(0.0, 0.5))
            await town.start(name)
        elif blow == "station":
            town.station.kill()
            await town.station.ended()
            await asyncio.sleep(self._random.uniform(0.0, 1.0))
            await town.station.start()
        else:
            town.networks[name].become("stall" if blow == "cut" else "reset")
            await asyncio.sleep(self._random.uniform(0.5, 2.0))
            town.heal(name)

    async def _contacts(self) -> None:
        on: set[str] = set()
        while True:
            await asyncio.sleep(self._random.uniform(0.05, 0.3))
            if self._random.random() < 0.5:
                wire = self._random.choice(WIRES)
                key = f"{wire.gateway}/{wire.contact.point}"
                on ^= {key}
                self._town.move(wire.gateway, wire.contact.point, on=key in on)
            else:
                register = self._random.choice(REGISTERS)
                now_on = self._town.register_on(register.point)
                self._town.set_register(register.point, on=not now_on)

    async def _panels(self) -> None:
        while True:
            await asyncio.sleep(self._random.uniform(0.02, 0.2))
            if self._town.receiver.pending < 5:
                point = self._random.choice(PANELS).point
                over = self._town.reported[point]
                self._town.report(point, Qualifier.RESTORE if over else Qualifier.NEW)


async def judged(seed: int, blows: int) -> tuple[Account, Counter[str]]:
    with tempfile.TemporaryDirectory(prefix="nplus-") as name:
        places = Places(data=Path(name), sockets=Path(name))
        async with Community(places) as town, asyncio.TaskGroup() as group:
            await town.install()
            following = group.create_task(town.ledger.follow())
            await town.start_programs()
            chaos = Chaos(town, seed)
            await chaos.run(blows)
            await chaos.rest()
            with suppress(Overdue):  # then the account says what is missing
                await until(
                    lambda: town.account().ok or town.quiet_s() > QUIET_S,
                    within_s=SETTLE_WITHIN_S,
                    what="the last signals at the station",
                )
            await asyncio.sleep(1.5)  # what would arrive a second time has arrived by then
            account = town.account(await town.ledger.whole())
            following.cancel()
            await town.stop_programs()
            return account, chaos.harm


def check(seed: int, blows: int) -> None:
    account, harm = asyncio.run(judged(seed, blows))
    print(f"seed {seed}: {dict(harm)}; {account.accepted} accepted, {account.recorded} recorded")
    assert account.accepted > blows
    assert account.ok, f"seed {seed}: {account}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_kills_and_cuts_lose_nothing_and_double_nothing(seed: int) -> None:
    check(seed, blows=15)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 100 + int(os.environ.get("SOAK_SEEDS", "2"))))
def test_many_random_kills_and_cuts_lose_nothing_and_double_nothing(seed: int) -> None:
    check(seed, blows=100)
