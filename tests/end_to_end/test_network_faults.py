"""What happens to networks: nothing is lost, nothing comes twice, and a cut is named in time."""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from hil.parts.cable import PROGRAMS
from hil.parts.namespaces import alone, missing
from hil.parts.network import PIECE_BYTES, Network
from hil.parts.programs import Program
from hil.site import STATION
from tests.end_to_end.street import Street

NAMED_WITHIN_S = 10.0
SOAK_RECONNECTS = int(os.environ.get("SOAK_RECONNECTS", "10000"))
SOAK_NETWORK_ROUNDS = int(os.environ.get("SOAK_NETWORK_ROUNDS", "4"))
WARM_UP = 150  # connections, before anything is measured
TALKED_THROUGH = 100
RESET_EVERY_S = 0.02
DESCRIPTORS_MORE = 8  # a connection or two may be on its way when they are counted
MIB = 1024 * 1024

# The gateway's own program; only its patience between two connections is another.
HURRIED = """
import sync.zmq_lane
sync.zmq_lane.RECONNECT_MS = sync.zmq_lane.RECONNECT_MAX_MS = 20
sync.zmq_lane.PAUSE_S = 0.02
from gateway.cli import main
main()
"""


# ------------------------------------------------------------------ a cable between two hosts


def on_a_cable(rounds: int, seed: int) -> None:
    rig = [sys.executable, "-m", "tests.end_to_end.network_faults", str(rounds), str(seed)]
    done = subprocess.run(alone(rig, network=True), stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    print(report)
    assert report["findings"] == []
    assert report["accepted"] > 100 * rounds
    assert report["still_on"] == [], "every fault that was named has to end"
    assert len(report["named_at_gateway_s"]) == len(report["named_at_station_s"]) == 2 * rounds
    assert max(report["named_at_gateway_s"]) <= NAMED_WITHIN_S
    assert max(report["named_at_station_s"]) <= NAMED_WITHIN_S


needs_namespaces = pytest.mark.skipif(
    bool(missing(*PROGRAMS)), reason=f"a cable needs {', '.join(missing(*PROGRAMS))}"
)


@needs_namespaces
@pytest.mark.timeout(300)
def test_loss_limits_cuts_and_flapping_of_a_cable_lose_nothing_and_are_named() -> None:
    on_a_cable(rounds=1, seed=1)


@pytest.mark.soak
@needs_namespaces
@pytest.mark.timeout(3600)
def test_many_faults_of_a_cable_lose_nothing_and_are_named() -> None:
    on_a_cable(rounds=SOAK_NETWORK_ROUNDS, seed=100)


# ------------------------------------------------------------------ a proxy on the way


async def through_a_proxy(folder: Path) -> None:
    chance = random.Random(1)
    async with Street(folder, 2) as street, Network("127.0.0.1", street.port) as network:
        for house in street.houses:
            house.write(address=f"127.0.0.1:{network.port}")
        await street.start()
        async with asyncio.TaskGroup() as group:
            talking = group.create_task(street.talk())
            for piece_bytes in (1, 7, 1000):
                network.piece_bytes = piece_bytes
                await asyncio.sleep(1.0)
            network.piece_bytes = PIECE_BYTES
            network.delay_s = 0.25
            await asyncio.sleep(3.0)
            network.delay_s = 0.0
            for _ in range(6):
                network.become("reset")
                await asyncio.sleep(chance.uniform(0.0, 1.5))
            for state in ("refuse", "stall", "stall"):
                network.become(state)
                await asyncio.sleep(chance.uniform(1.0, 5.0))
                network.become("pass")
                await asyncio.sleep(chance.uniform(0.0, 1.0))
            talking.cancel()
        await street.rest()
        account = await street.settled()
        assert account.ok, account.findings[:20]
        assert account.accepted > 100
        assert network.connections > 10
        await street.stop()


@pytest.mark.timeout(300)
def test_pieces_delays_resets_and_stalls_lose_nothing_and_double_nothing() -> None:
    with tempfile.TemporaryDirectory(prefix="nplus-") as name:
        asyncio.run(through_a_proxy(Path(name)))


# ------------------------------------------------------------------ one connection after another


class Growth:
    """What two programs hold, against what they held at the beginning."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._processes = [psutil.Process(program.pid) for program in programs]
        self._begin = self._now()

    def _now(self) -> list[tuple[int, int]]:
        return [(each.num_fds(), each.memory_info().rss) for each in self._processes]

    def seen(self) -> list[tuple[int, int]]:
        """Return how many descriptors and bytes more each of them holds."""
        pairs = zip(self._now(), self._begin, strict=True)
        return [(now[0] - then[0], now[1] - then[1]) for now, then in pairs]


async def reconnected(folder: Path, times: int) -> tuple[int, list[tuple[int, int]]]:
    async with Street(folder, 1) as street, Network("127.0.0.1", street.port) as network:
        house = street.houses[0]
        house.write(address=f"127.0.0.1:{network.port}")
        config = str(house.config)
        log = street.places.log(house.name)
        house.program = Program(
            [sys.executable, "-c", HURRIED, "run", "--config", config], log=log
        )

        async def reset(until_connections: int) -> None:
            async with asyncio.timeout(times * 0.3 + 60):
                while network.connections < until_connections:
                    network.become("reset")
                    await asyncio.sleep(RESET_EVERY_S)
            await asyncio.sleep(2.0)

        async def talk_through(connections: int) -> None:
            async with asyncio.TaskGroup() as group:
                talking = group.create_task(street.talk())
                await reset(network.connections + connections)
                talking.cancel()

        await street.start()
        await talk_through(WARM_UP)
        await street.rest()
        # Silent panels while it is measured: each event fills the caches of the databases a little.
        before, growth = network.connections, Growth([house.program, street.station])
        await reset(before + times)
        seen, made = growth.seen(), network.connections - before
        await talk_through(TALKED_THROUGH)
        await street.rest()
        account = await street.settled()
        assert account.ok, account.findings[:20]
        assert await street.stop() == {house.name: 0, STATION: 0}
        return made, seen


def check_growth(times: int) -> None:
    with tempfile.TemporaryDirectory(prefix="nplus-") as name:
        made, seen = asyncio.run(reconnected(Path(name), times))
    print(f"{made} connections; descriptors and bytes more at gateway and station: {seen}")
    assert made >= times
    for descriptors, memory_bytes in seen:
        assert descriptors <= DESCRIPTORS_MORE
        assert memory_bytes <= MIB


@pytest.mark.timeout(300)
def test_three_hundred_connections_leave_nothing_behind() -> None:
    check_growth(300)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_connections_leave_nothing_behind() -> None:
    check_growth(SOAK_RECONNECTS)
