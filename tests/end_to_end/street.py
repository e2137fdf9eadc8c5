"""A street of gateways for the rigs: each has one receiver, whose panels talk as fast as they may.

Fast devices make short work of many blows: an event is accepted some milliseconds before each.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from events.errors import UnavailableError
from events.kinds import Qualifier
from hil.account import Account, Book, settle
from hil.books import Era, panel_book
from hil.installation import gateway_program, install, station_ledger, station_program
from hil.parts.journal import Entry, Journal
from hil.parts.network import free_port
from hil.parts.receiver import PanelReceiver
from hil.parts.waiting import until
from hil.site import (
    PANELS,
    RECEIVER,
    STATION,
    Places,
    receiver_text,
    station_text,
    uplink_text,
)
from protocols.contact_id.simulated import Patience

PATIENCE = Patience(repeat_s=0.4, repeats=3, pause_s=0.2, turnaround_s=0.004)
PENDING = 3  # messages that wait at a receiver: there is always one on its way
CONDITIONS = {panel.point: panel.condition for panel in PANELS}


class House:
    """One gateway and its receiver."""

    def __init__(
        self, name: str, places: Places, address: str, *, before: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.accepted_s = 0.0  # when its receiver last read an acknowledgement
        self.accepted = asyncio.Event()
        self.config = places.config(name)
        self._places = places
        self._address = address
        self.journal = Journal(name, places.journal(name))
        self.journal.listen(self._noted)
        self.receiver = PanelReceiver(places.port(name), self.journal, patience=PATIENCE)
        self.program = gateway_program(places, name, before=before)
        self._talk = self._messages()

    def write(self, *, address: str = "", more: str = "") -> None:
        """Write its configuration file."""
        where = address or self._address
        text = uplink_text(self._places, self.name, where, bench=False)
        self.config.write_text(text + receiver_text(self._places.port(self.name)) + more)

    def talk(self) -> None:
        """Let panels report, until enough waits on the line."""
        while self.receiver.pending < PENDING:
            next(self._talk)

    def _messages(self) -> Iterator[None]:
        """Report new and restore by turns; the repeat of a message is never its neighbour."""
        for qualifier in itertools.cycle((Qualifier.NEW, Qualifier.RESTORE)):
            for panel in PANELS:
                self.receiver.report(
                    panel.point,
                    account=panel.account,
                    code=panel.code,
                    zone=panel.zone,
                    qualifier=qualifier,
                )
                yield

    def _noted(self, entry: Entry) -> None:
        if entry.event == "acknowledged":
            self.accepted_s = entry.at_s
            self.accepted.set()

    def book(self, now_s: float) -> Book:
        wall_s = time.clock_gettime(time.CLOCK_REALTIME) - now_s
        era = Era(lives=tuple(self.program.lives), live=(), end_s=now_s, wall_s=wall_s)
        return panel_book(self.name, RECEIVER, self.journal.entries, CONDITIONS, era)


class Street:
    """A station and its gateways; `async with` ends them all."""

    def __init__(
        self,
        folder: Path,
        houses: int,
        *,
        listen: str = "127.0.0.1",
        wrap: tuple[list[str], list[str]] = ([], []),
    ) -> None:
        """Take how many gateways there are, and the address at which the station listens.

        wrap: what stands before the commands of the gateways and of the station.
        """
        self.port = free_port()
        self.places = Places(data=folder, sockets=folder)
        self.places.make()
        where = f"{listen}:{self.port}"
        self.houses = [
            House(f"house-{n + 1}", self.places, where, before=wrap[0]) for n in range(houses)
        ]
        self.station = station_program(self.places, before=wrap[1])
        self.ledger = station_ledger(self.places)
        self._listen = listen
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._install()
            for house in self.houses:
                self._stack.enter_context(house.journal)
                await self._stack.enter_async_context(house.receiver)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _install(self) -> None:
        text = station_text(self.places, self.port)
        self.places.config(STATION).write_text(text.replace("127.0.0.1:", f"{self._listen}:"))
        for house in self.houses:
            house.write()
        await install(self.places, (house.name for house in self.houses))

    async def start(self) -> None:
        """Start every program; returns when each gateway has answered its receiver."""
        for program in (self.station, *(house.program for house in self.houses)):
            await self._stack.enter_async_context(program)
        for house in self.houses:
            house.talk()
        async with asyncio.timeout(30):
            for house in self.houses:
                await house.accepted.wait()

    async def open_station(self) -> None:
        """Start the station alone."""
        await self._stack.enter_async_context(self.station)

    async def talk(self) -> None:
        """Let every panel talk, until cancelled."""
        while True:
            for house in self.houses:
                house.talk()
            await asyncio.sleep(0.005)

    async def rest(self, within_s: float = 60.0) -> None:
        """Wait until every message that was begun has been acknowledged."""
        await until(
            lambda: all(house.receiver.pending == 0 for house in self.houses),
            within_s=within_s,
            what="an acknowledgement for every message",
        )

    def books(self) -> list[Book]:
        now_s = time.monotonic()
        return [house.book(now_s) for house in self.houses]

    async def settled(self, within_s: float = 60.0, at_least: int = 0) -> Account:
        """Return the account as soon as it is right, or as it is at the end of the time.

        at_least: how many events the station must have before that.
        """
        end_s = time.monotonic() + within_s
        while True:
            try:
                rows = await self.ledger.whole()
            except UnavailableError:  # the station has not made its ledger yet
                rows = []
            account = settle(self.books(), rows)
            if (account.ok and len(rows) >= at_least) or time.monotonic() > end_s:
                return account
            await asyncio.sleep(0.5)

    async def stop(self) -> dict[str, int]:
        """Stop everything as an operator would; returns the exit statuses."""
        statuses = {house.name: await house.program.stop() for house in self.houses}
        return {**statuses, STATION: await self.station.stop()}


async def moment(house: House, chance: random.Random, fresh_s: float) -> bool:
    """Wait for an acceptance, and then a random moment; tell whether one is still fresh."""
    house.accepted.clear()
    await house.accepted.wait()
    await asyncio.sleep(chance.uniform(0.0, fresh_s))
    return time.monotonic() - house.accepted_s <= fresh_s
