"""The virtual community at work: simulated devices around the real programs.

Everything that the product does not own lives in this process: pins, modules, panels, the network.
Gateways and station are processes of their own with files of their own, used as an operator would.
"""

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from events.errors import UnavailableError
from events.kinds import Qualifier, Subkind
from hil.account import Account, Book, Row, settle
from hil.books import Era, contact_books, module_books, panel_book
from hil.installation import gateway_program, install, station_ledger, station_program
from hil.parts.journal import Entry, Journal
from hil.parts.modules import Modules, serve_rtu, serve_tcp
from hil.parts.network import Network, free_port
from hil.parts.pins import PinBoard
from hil.parts.programs import Program
from hil.parts.receiver import PanelReceiver
from hil.parts.waiting import until
from hil.site import (
    BUILDING_1,
    BUILDING_2,
    BUILDINGS,
    BUS,
    PANELS,
    PLANT,
    QUALIFY_S,
    RECEIVER,
    REGISTERS,
    STATION,
    WIRES,
    Places,
    gateway_text,
    station_text,
)

UP_WITHIN_S = 30.0
LIVE_UNTIL_S = 1.0  # a signal this shortly before a cut may have to wait for its heal


class Community:
    """Devices, networks and programs; all are gone when it is left."""

    def __init__(self, places: Places, *, mutant: str = "") -> None:
        """Take where to put everything, and the name of a deliberate defect of the gateways."""
        self.places = places
        self.station_port = free_port()
        self.networks = {name: Network("127.0.0.1", self.station_port) for name in BUILDINGS}
        self.reported = {panel.point: False for panel in PANELS}
        self.boards: dict[str, PinBoard] = {}
        self.modules: dict[str, Modules] = {}
        self.gateways: dict[str, Program] = {}
        self.live: dict[str, list[tuple[float, float]]] = {name: [] for name in BUILDINGS}
        self._stack = AsyncExitStack()
        self._kill_at: tuple[str, float] | None = None
        self._conditions = {panel.point: panel.condition for panel in PANELS}
        environment = {"NPLUS_MUTANT": mutant} if mutant else {}
        for name in BUILDINGS:
            self.gateways[name] = gateway_program(places, name, environment=environment)
        self.station = station_program(places)
        self.ledger = station_ledger(places)

    async def __aenter__(self) -> Self:
        self.places.make()
        try:
            await self._set_up_devices()
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

    async def _set_up_devices(self) -> None:
        enter = self._stack.enter_async_context
        for name in BUILDINGS:
            await enter(self.networks[name])
            contacts = [wire.contact for wire in WIRES if wire.gateway == name]
            board = PinBoard(self.places.pins(name), contacts, self._journal(f"{name}-contacts"))
            self.boards[name] = await enter(board)
        bus = Modules(_inputs(BUS), self._journal(BUS))
        plant = Modules(_inputs(PLANT), self._journal(PLANT))
        await enter(serve_rtu(bus, self.places.port(BUS)))
        self._plant_port = await enter(serve_tcp(plant))
        self.modules = {BUS: bus, PLANT: plant}
        receiver = PanelReceiver(self.places.port(RECEIVER), self._journal(RECEIVER))
        self.receiver = await enter(receiver)
        receiver.journal.listen(self._receiver_noted)

    def _journal(self, device: str) -> Journal:
        return self._stack.enter_context(Journal(device, self.places.journal(device)))

    # setting up, as an installer would

    async def install(self) -> None:
        """Write the configuration files, make keys, enrol the gateways."""
        text = station_text(self.places, self.station_port)
        self.places.config(STATION).write_text(text, encoding="utf-8")
        for name in BUILDINGS:
            port = self.networks[name].port
            text = gateway_text(self.places, name, port=port, plant_port=self._plant_port)
            self.places.config(name).write_text(text, encoding="utf-8")
        await install(self.places, BUILDINGS)

    async def start_programs(self) -> None:
        """Start station and gateways, and wait until all of them are at work."""
        for program in (self.station, *self.gateways.values()):
            await self._stack.enter_async_context(program)
        self.ledger.begin()
        for name in BUILDINGS:
            await self.until_watched(name, within_s=UP_WITHIN_S)
        await self._until(self._all_heard_of, UP_WITHIN_S, "every gateway on the station's list")
        for name in BUILDINGS:
            self.note_live(name)

    async def stop_programs(self) -> dict[str, int]:
        """Stop gateways and station as an operator would; returns their exit statuses."""
        statuses = {}
        for name, program in (*self.gateways.items(), (STATION, self.station)):
            try:
                statuses[name] = await program.stop()
            except TimeoutError:
                statuses[name] = -9
        return statuses

    def _all_heard_of(self) -> bool:
        return {row.gateway for row in self.ledger.rows if row.log_id} >= set(BUILDINGS)

    # what happens to devices

    def move(self, gateway: str, point: str, *, on: bool) -> None:
        """Move a contact."""
        self.boards[gateway].set(point, on=on)

    def set_register(self, point: str, *, on: bool) -> None:
        """Set an input of a polled module."""
        self.modules[_bus_of(point)].set(point, on=on)

    def register_on(self, point: str) -> bool:
        return self.modules[_bus_of(point)].on(point)

    def report(self, point: str, qualifier: str) -> None:
        """Let an alarm panel report to the receiver of its building."""
        panel = next(panel for panel in PANELS if panel.point == point)
        self.reported[point] = qualifier != Qualifier.RESTORE
        self.receiver.report(
            point, account=panel.account, code=panel.code, zone=panel.zone, qualifier=qualifier
        )

    # what happens to networks and gateways

    def cut(self, gateway: str) -> None:
        """Cut a building's network, silently."""
        self._note_not_live(gateway)
        self.networks[gateway].become("stall")

    def heal(self, gateway: str) -> None:
        self.networks[gateway].become("pass")

    def kill(self, gateway: str) -> None:
        """Take a gateway's power away."""
        self._note_not_live(gateway)
        self.gateways[gateway].kill()

    def kill_at(self, event: str, after_s: float = 0.0) -> None:
        """Take building 1's power away when its receiver next notes `event`, or a little later.

        At `acknowledged` that is the moment in which it has read 06.
        """
        self._kill_at = (event, after_s)

    async def start(self, gateway: str) -> None:
        program = self.gateways[gateway]
        await program.ended()
        await program.start()

    def _receiver_noted(self, entry: Entry) -> None:
        if self._kill_at is None or entry.event != self._kill_at[0]:
            return
        _, after_s = self._kill_at
        self._kill_at = None
        if after_s:
            asyncio.get_running_loop().call_later(after_s, self.kill, BUILDING_1)
        else:
            self.kill(BUILDING_1)

    def note_live(self, gateway: str) -> None:
        """From now on gateway and network are up: delays count as the product's."""
        self.live[gateway].append((time.monotonic(), math.inf))

    def _note_not_live(self, gateway: str) -> None:
        intervals = self.live[gateway]
        if intervals and intervals[-1][1] == math.inf:
            intervals[-1] = (intervals[-1][0], time.monotonic() - LIVE_UNTIL_S)

    # what can be waited for

    async def until_watched(self, gateway: str, *, within_s: float) -> None:
        """Wait until a gateway watches its contacts and has read each of its modules."""
        since_s = self.gateways[gateway].lives[-1][0]

        def polled() -> bool:
            return gateway != BUILDING_2 or all(
                line.answered_since(since_s) for line in self.modules.values()
            )

        what = f"{gateway} to watch its inputs"
        await self._until(lambda: self.boards[gateway].watched and polled(), within_s, what)

    async def until_told(self, *, within_s: float) -> None:
        """Wait until no panel has anything left to say."""
        what = "an acknowledgement for every message of the panels"
        await self._until(lambda: self.receiver.pending == 0, within_s, what)

    async def _until(self, condition: "_Condition", within_s: float, what: str) -> None:
        """Wait, but not for a program that has ended by itself."""

        def settled() -> bool:
            self._check_alive()
            return condition()

        await until(settled, within_s=within_s, what=what)

    def _check_alive(self) -> None:
        for name, program in (*self.gateways.items(), (STATION, self.station)):
            if program.lives and not program.running and program.lives[-1][1] == math.inf:
                raise UnavailableError(
                    f"{name} has ended by itself with status {program.returncode}",
                    hint=f"its last words, in {program.log}:\n{program.last_words()}",
                )

    # what can be seen

    def books(self) -> list[Book]:
        """Return the books of every device as its journal stands now."""
        now_s = time.monotonic()
        made: list[Book] = []
        for name in BUILDINGS:
            wires = {w.contact.point: w.condition for w in WIRES if w.gateway == name}
            entries = self.boards[name].journal.entries
            era = self._era(name, now_s)
            made += contact_books(name, entries, wires, era, qualify_s=QUALIFY_S)
        era = self._era(BUILDING_2, now_s)
        for bus, line in self.modules.items():
            points = {r.point: r.condition for r in REGISTERS if r.bus == bus}
            made += module_books(BUILDING_2, line.journal.entries, points, era)
        era = self._era(BUILDING_1, now_s)
        entries = self.receiver.journal.entries
        made.append(panel_book(BUILDING_1, RECEIVER, entries, self._conditions, era))
        return made

    def account(self, rows: list[Row] | None = None) -> Account:
        """Hold the journals against the station's list, as followed unless it is given."""
        return settle(self.books(), self.ledger.rows if rows is None else rows)

    def waiting(self, gateway: str) -> int:
        """Return how many signals of a gateway are accepted and not yet at the station."""
        tallies = self.account().tallies
        return sum(t.accepted - t.recorded for t in tallies if t.gateway == gateway)

    def quiet_s(self, gateway: str = "") -> float:
        """Return for how long nothing new has stood on the station's list."""
        for row in reversed(self.ledger.rows):
            if gateway in ("", row.gateway):
                return time.monotonic() - self.ledger.shown_s[row.n]
        return math.inf

    def words_on(self, gateway: str) -> list[Row]:
        """Return what the station has said about the loss of a gateway."""
        return [
            row
            for row in self.ledger.rows
            if row.log_id is None
            and row.gateway == gateway
            and row.subkind == Subkind.GATEWAY_LOST
        ]

    def station_says_lost(self, gateway: str) -> bool:
        words = self.words_on(gateway)
        return bool(words) and words[-1].qualifier != Qualifier.RESTORE

    def _era(self, gateway: str, now_s: float) -> Era:
        # The station's times are wall times of this same machine; only their difference is used.
        wall_s = time.clock_gettime(time.CLOCK_REALTIME) - now_s
        return Era(
            lives=tuple(self.gateways[gateway].lives),
            live=tuple(self.live[gateway]),
            end_s=now_s,
            wall_s=wall_s,
        )


_Condition = Callable[[], bool]


def _inputs(bus: str) -> dict[int, dict[int, str]]:
    """Return the points of a bus by unit and address."""
    units: dict[int, dict[int, str]] = {}
    for register in REGISTERS:
        if register.bus == bus:
            units.setdefault(register.unit, {})[register.address] = register.point
    return units


def _bus_of(point: str) -> str:
    return next(register.bus for register in REGISTERS if register.point == point)
