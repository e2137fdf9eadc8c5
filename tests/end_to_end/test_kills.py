"""SIGKILL at random instants on the real programs, judged by the devices' own journals.

A kill counts only when an event was accepted in the 50 ms before it.
"""

import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import pytest

from events.errors import NplusError
from hil.account import Account
from hil.site import STATION
from station.listing import Listing
from tests.end_to_end.street import House, Street, moment

FRESH_S = 0.05
SOAK_KILLS = int(os.environ.get("SOAK_KILLS", "1000"))


class Kills:
    """Kills programs of a street, and counts what counted."""

    def __init__(self, street: Street, seed: int, wanted: int) -> None:
        self.counted: Counter[str] = Counter()
        self._street = street
        self._random = random.Random(seed)
        self._wanted = wanted
        self._n = 0  # newest number of the station, as far as it was looked for

    def enough(self) -> bool:
        return self.counted.total() >= self._wanted

    async def gateway(self, house: House) -> None:
        while not self.enough():
            fresh = await moment(house, self._random, FRESH_S)
            house.program.kill()
            self.counted["gateway"] += fresh
            await house.program.ended()
            await house.program.start()

    async def station(self) -> None:
        station = self._street.station
        while not self.enough():
            await self._recording()
            house = self._random.choice(self._street.houses)
            fresh = await moment(house, self._random, FRESH_S)
            station.kill()
            self.counted["station"] += fresh
            await station.ended()
            await station.start()

    async def _recording(self) -> None:
        """Wait until the station has recorded something since it was looked at last."""
        while not self.enough():
            newest = await asyncio.to_thread(self._newest)
            if newest > self._n:
                self._n = newest
                return
            await asyncio.sleep(0.05)

    def _newest(self) -> int:
        with suppress(NplusError), closing(Listing(self._street.places.data / STATION)) as listing:
            return listing.last()
        return 0


async def killed(folder: Path, houses: int, kills: int, seed: int) -> tuple[Account, Kills]:
    async with Street(folder, houses) as street:
        await street.start()
        blows = Kills(street, seed, kills)
        async with asyncio.TaskGroup() as group:
            talking = group.create_task(street.talk())
            async with asyncio.TaskGroup() as killing:
                for house in street.houses:
                    killing.create_task(blows.gateway(house))
                killing.create_task(blows.station())
            talking.cancel()
        await street.rest()
        account = await street.settled()
        assert all(status == 0 for status in (await street.stop()).values())
        return account, blows


def check(houses: int, kills: int, seed: int) -> None:
    begin_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="nplus-") as name:
        account, blows = asyncio.run(killed(Path(name), houses, kills, seed))
    took_s = time.monotonic() - begin_s
    print(f"{dict(blows.counted)} kills, {account.accepted} accepted, {took_s:.0f} s")
    assert account.ok, account.findings[:20]
    assert account.lost == account.twice == 0
    assert account.accepted > kills
    assert blows.counted.total() >= kills
    assert blows.counted["station"] >= kills // 10
    assert blows.counted["gateway"] >= kills // 2


@pytest.mark.timeout(300)
def test_no_kill_at_a_random_instant_loses_or_doubles_an_event() -> None:
    check(houses=3, kills=100, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_kill_of_many_loses_or_doubles_an_event() -> None:
    check(houses=3, kills=SOAK_KILLS, seed=100)
