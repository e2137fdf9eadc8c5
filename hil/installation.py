"""The programs of the product in their places: installed and run as an installer would."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from events.errors import UnavailableError
from hil.parts.ledger import Ledger
from hil.parts.programs import Program, answer, find
from hil.site import STATION, Places


def gateway_program(
    places: Places,
    name: str,
    *,
    before: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Program:
    """Return a gateway. before: the words that stand before its command."""
    command = [*before, find("nplus-gateway"), "run", "--config", str(places.config(name))]
    return Program(command, log=places.log(name), environment=environment)


def station_program(places: Places, *, before: Sequence[str] = ()) -> Program:
    """Return the station. before: the words that stand before its command."""
    command = [*before, find("nplus-station"), "run", "--config", str(places.config(STATION))]
    return Program(command, log=places.log(STATION))


def station_ledger(places: Places) -> Ledger:
    config = str(places.config(STATION))
    return Ledger([find("nplus-station"), "events", "--json", "--config", config])


async def install(places: Places, gateways: Iterable[str]) -> None:
    """Make all keys and enrol the gateways. The station's configuration file is there already.

    Raises `UnavailableError` with what a command complained of.
    """
    names = list(gateways)
    keys = ("--out", str(places.key(STATION).parent), "--name")
    async with asyncio.TaskGroup() as group:
        group.create_task(_done("nplus-station", "keygen", *keys, STATION))
        for name in names:
            group.create_task(_done("nplus-gateway", "keygen", *keys, name))
    config = ("--config", str(places.config(STATION)))
    for name in names:
        await _done("nplus-station", "enroll", name, str(places.public_key(name)), *config)


async def _done(command: str, *arguments: str) -> None:
    status, _, complaint = await answer([find(command), *arguments])
    if status != 0:
        raise UnavailableError(f"{command} {arguments[0]} ended with {status}: {complaint}")
