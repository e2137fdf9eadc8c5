"""Starts under a foreign lock, stops in the middle of a drain, and programs of an older release."""

import asyncio
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from buffer.log import FILE_NAME
from hil.installation import gateway_program
from hil.parts.network import Network
from hil.parts.programs import Program
from hil.site import STATION
from station.schema import FILE_NAME as LEDGER_NAME
from tests.buffer.logs import item, open_log
from tests.end_to_end.street import House, Street

ROOT = Path(__file__).parents[2]
STOPPED_WITHIN_S = 5.0
BACKLOG = 6_000
SLOW_BYTES_PER_S = 60_000.0
FIRST_RELEASE = "29586949ff2133df09fe424e7f3950271e27c1cc"

HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma locking_mode = exclusive")
connection.execute("begin exclusive")
connection.execute("create table if not exists held_by_another (x)")
print("held", flush=True)
time.sleep(600)
"""

Story = Callable[[Street], Coroutine[Any, Any, None]]


def play(story: Story, houses: int = 1) -> None:
    async def run(folder: Path) -> None:
        async with Street(folder, houses) as street:
            await story(street)
            await street.rest()
            account = await street.settled()
            print(f"{account.accepted} accepted, {account.recorded} recorded")
            assert account.ok, account.findings[:20]
            assert account.accepted > 10
            assert set((await street.stop()).values()) == {0}

    with tempfile.TemporaryDirectory(prefix="nplus-") as name:
        asyncio.run(run(Path(name)))


async def talk_for(street: Street, seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        talking = group.create_task(street.talk())
        await asyncio.sleep(seconds)
        talking.cancel()


# ------------------------------------------------------------------ somebody holds the file


@contextmanager
def holding(file: Path) -> Iterator[None]:
    """Hold a database as another program would."""
    command = [sys.executable, "-c", HOLDER, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            yield
        finally:
            holder.kill()


def held(file: Path, hold_s: float) -> Story:
    async def story(street: Street) -> None:
        await street.start()
        await talk_for(street, 1.0)
        program = street.station if file.name == LEDGER_NAME else street.houses[0].program
        assert await program.stop() == 0
        with holding(street.places.data / file):
            await program.start()
            await talk_for(street, hold_s)
            assert program.running, program.last_words()
        await talk_for(street, 5.0)
        assert program.running, program.last_words()

    return story


FILES = [Path("house-1") / FILE_NAME, Path(STATION) / LEDGER_NAME]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", FILES, ids=["gateway", "station"])
def test_a_lock_of_another_program_at_the_start_costs_nothing(file: Path) -> None:
    play(held(file, 5.0))


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", FILES, ids=["gateway", "station"])
def test_a_lock_for_a_minute_at_the_start_costs_nothing(file: Path) -> None:
    play(held(file, 60.0))


# ------------------------------------------------------------------ asked to stop


def fill(folder: Path, events: int) -> None:
    log, chance = open_log(folder), random.Random(1)
    for first in range(0, events, 500):
        numbers = range(first, first + 500)
        log.append([item(number, text=chance.randbytes(60).hex()) for number in numbers])
    log.close()


async def stopped_in_mid_drain(street: Street) -> None:
    house = street.houses[0]
    fill(street.places.data / house.name, BACKLOG)
    async with Network("127.0.0.1", street.port) as network:
        network.rate_bytes_per_s = SLOW_BYTES_PER_S
        house.write(address=f"127.0.0.1:{network.port}")
        await street.start()
        stops = 0
        for program in (house.program, street.station, house.program, street.station):
            await talk_for(street, 1.2)
            stops += len(await street.ledger.whole()) < BACKLOG
            begin_s = time.monotonic()
            assert await program.stop(STOPPED_WITHIN_S) == 0
            assert time.monotonic() - begin_s <= STOPPED_WITHIN_S
            await program.start()
        assert stops >= 2, "the backlog was gone too soon: these were no stops in mid-drain"
        network.rate_bytes_per_s = 0.0
        await street.rest()
        assert (await street.settled(at_least=BACKLOG)).ok


@pytest.mark.timeout(300)
def test_a_stop_in_mid_drain_takes_five_seconds_at_most_and_loses_nothing() -> None:
    play(stopped_in_mid_drain)


# ------------------------------------------------------------------ an older release and back


def old_release(folder: Path) -> Path:
    """Return a folder with the programs of the first release, from the history."""
    archive = subprocess.run(
        ["git", "archive", FIRST_RELEASE, "events", "protocols", "buffer", "sync", "gateway"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if archive.returncode != 0:
        pytest.skip(f"the history does not reach back to {FIRST_RELEASE}")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


async def upgraded_and_back(street: Street, old: Path) -> None:
    """Run old, new, old, new gateways over one growing backlog, then let the station have it."""
    house = street.houses[0]
    start = f"import sys; sys.path.insert(0, {str(old)!r}); from gateway.cli import main; main()"
    run = ["run", "--config", str(house.config)]
    log = street.places.log(house.name)
    programs = [
        Program([sys.executable, "-P", "-c", start, *run], log=log),
        gateway_program(street.places, house.name),
    ]
    for turn in range(4):
        house.program = programs[turn % 2]
        await _at_work(house)
        await talk_for(street, 1.5)
        if turn < 3:
            await _end(house, turn)
    await street.open_station()
    await street.rest()
    assert (await street.settled()).ok  # new gateway, new station
    await _end(house, 1)
    house.program = programs[0]
    await _at_work(house)
    await talk_for(street, 1.5)  # old gateway, new station: judged at the end


async def _at_work(house: House) -> None:
    house.accepted.clear()
    await house.program.start()
    house.talk()
    async with asyncio.timeout(30):
        await house.accepted.wait()


async def _end(house: House, turn: int) -> None:
    """Stop it as an upgrade would, or with no last words."""
    if turn % 2:
        assert await house.program.stop() == 0
    else:
        house.program.kill()
        await house.program.ended()


@pytest.mark.timeout(300)
def test_an_upgrade_and_a_downgrade_keep_the_backlog() -> None:
    with tempfile.TemporaryDirectory(prefix="nplus-") as name:
        old = old_release(Path(name))

        async def story(street: Street) -> None:
            await upgraded_and_back(street, old)

        play(story)
