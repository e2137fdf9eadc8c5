"""The story that the demonstration plays, in scenes.

Each scene waits for what has to happen, with a deadline, and pauses only for the eye. Between the
scripted signals a seeded hand moves other devices, so that no two runs are alike and any run can
be repeated.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hil.account import Condition
from hil.community import Community
from hil.parts.waiting import until
from hil.site import BUILDING_1, BUILDING_2, LOST_AFTER_S, PANELS, REGISTERS, WIRES

NOTICE_WITHIN_S = 15.0  # far longer than the product takes, so that a loaded machine is no fault
CATCH_UP_WITHIN_S = 30.0
QUIET_S = 5.0  # longer than a heartbeat: what has not come by then does not come
HOLD_S = 1.5  # how long the hand leaves a device alone: longer than any qualification
PAUSE_S_MIN = 1.4  # however fast the story is told: a level has to hold to count
COMMIT_S = 0.012  # about what a message takes from its last byte to the acknowledgement
WORDS_KEPT = 100


@dataclass(slots=True)
class Stage:
    """What the audience is told."""

    began_s: float = field(default_factory=time.monotonic)
    title: str = ""
    title_zh: str = ""
    words: deque[str] = field(default_factory=lambda: deque(maxlen=WORDS_KEPT))


class Teller(Protocol):
    """Whoever shows the story: a live view, or lines on a log."""

    def scene(self, title: str, title_zh: str) -> None: ...

    def say(self, words: str) -> None: ...


class Story:
    """One run of the demonstration's story in a community that is up."""

    def __init__(
        self, community: Community, teller: Teller, *, seed: int, speed: float = 1.0
    ) -> None:
        self._town = community
        self.teller = teller
        self._random = random.Random(seed)
        self._speed = speed
        self._hand_free = asyncio.Event()
        self.false_words: list[str] = []  # what the station said that was not so

    async def play(self) -> None:
        """Play every scene. Raises `Overdue` where the product does not come up to a scene."""
        async with asyncio.TaskGroup() as group:
            hand = group.create_task(self._hand())
            await self._quiet()
            self._hand_free.set()
            await self._panic()
            await self._cut()
            await self._kill_in_the_dark()
            await self._kill_in_the_light()
            self._hand_free.clear()
            await self._heal()
            hand.cancel()
        await self._all_clear()

    async def _quiet(self) -> None:
        self.teller.scene("All is quiet", "一切正常")
        self.teller.say("Two buildings, each with its gateway; the station holds the list.")
        await self._pause(4.0)

    async def _panic(self) -> None:
        self.teller.scene("Somebody presses a panic button", "按下紧急按钮")
        await self._press_and_tell(BUILDING_1, "lobby/panic", "the lobby of building 1")
        self._town.report("flat-401/fire", "new")
        self._town.set_register("cellar/water", on=True)
        self.teller.say("A fire panel reports by its receiver; water stands in a cellar.")
        await self._pause(3.0)
        self.teller.say("A loose wire on the roof door chatters: that must not be an alarm.")
        await self._chatter("roof/door")
        await self._pause(3.0)
        self._town.move(BUILDING_1, "lobby/panic", on=False)
        await self._pause(1.5)

    async def _cut(self) -> None:
        self.teller.scene("The network of building 1 is cut", "1号楼网络中断")
        self._town.cut(BUILDING_1)
        self.teller.say("Silently, as a dug-up cable. Alarms go on: they are kept on disk.")
        self._town.move(BUILDING_1, "flat-302/panic", on=True)
        for point in ("flat-402/medical", "flat-404/panic"):
            await self._pause(1.5)
            self._town.report(point, "new")
        self.teller.say("Building 2 has its own way to the station.")
        await self._press_and_tell(BUILDING_2, "lobby/panic", "the lobby of building 2")
        await self._until_said_lost(BUILDING_1)

    async def _kill_in_the_dark(self) -> None:
        self.teller.scene("Its gateway loses power, twice", "1号楼网关两次断电")
        self.teller.say("In the moment in which it has acknowledged a message of a panel.")
        self._town.kill_at("acknowledged")
        self._town.report("flat-401/fire", "restore")
        await self._back_from_the_dark(door=True)
        self.teller.say("And while a message is on its way to the disk.")
        self._town.kill_at("sent", self._random.uniform(0, COMMIT_S))
        self._town.report("flat-401/burglary", "new")
        await self._back_from_the_dark(door=False)
        if self._town.station_says_lost(BUILDING_1):
            self.teller.say("The station still says: building 1 does not answer.")

    async def _back_from_the_dark(self, *, door: bool) -> None:
        """Wait for a power cut, let things happen meanwhile, and give the power back."""
        await until(
            lambda: not self._town.gateways[BUILDING_1].running,
            within_s=NOTICE_WITHIN_S,
            what="the moment for a power cut in building 1",
        )
        self._town.move(BUILDING_1, "roof/door", on=door)
        self._town.report("flat-404/panic", "restore" if door else "new")
        await self._pause(2.0)
        await self._town.start(BUILDING_1)
        self.teller.say("Started again. What changed meanwhile is found by comparison.")
        await self._town.until_watched(BUILDING_1, within_s=NOTICE_WITHIN_S)
        await self._pause(2.0)

    async def _kill_in_the_light(self) -> None:
        self.teller.scene("The gateway of building 2 loses power too", "2号楼网关断电")
        self._town.kill(BUILDING_2)
        self._town.set_register("floor-1/smoke", on=True)
        self._town.move(BUILDING_2, "lobby/panic", on=False)
        self.teller.say("Smoke on floor 1, while nobody is listening there.")
        await self._pause(2.0)
        await self._town.start(BUILDING_2)
        await self._town.until_watched(BUILDING_2, within_s=NOTICE_WITHIN_S)
        condition = next(r.condition for r in REGISTERS if r.point == "floor-1/smoke")
        await self._until_shown(BUILDING_2, condition, "new")
        self.teller.say("Found at the start, and at the station.")
        await self._pause(2.0)
        await self._caught_up(BUILDING_2)
        self._town.note_live(BUILDING_2)

    async def _heal(self) -> None:
        self.teller.scene("The network of building 1 heals", "1号楼网络恢复")
        self._check_silence(BUILDING_1)
        waiting = self._town.waiting(BUILDING_1)
        self._town.heal(BUILDING_1)
        self.teller.say(f"{waiting} signals have waited on its disk; the station fetches them.")
        await self._until_said_found(BUILDING_1)
        await self._caught_up(BUILDING_1)
        self._town.note_live(BUILDING_1)
        await self._pause(3.0)

    async def _all_clear(self) -> None:
        self.teller.scene("All clear", "全部复位")
        self.teller.say("Every device goes back to rest; the last word of each must say so.")
        for wire in WIRES:
            self._town.move(wire.gateway, wire.contact.point, on=False)
        for register in REGISTERS:
            self._town.set_register(register.point, on=False)
        for panel in PANELS:
            if self._town.reported[panel.point]:
                self._town.report(panel.point, "restore")
        await self._town.until_told(within_s=CATCH_UP_WITHIN_S)
        await asyncio.sleep(HOLD_S)  # a level has to hold before it counts: nothing else tells

    async def _press_and_tell(self, gateway: str, point: str, where: str) -> None:
        pressed_s = time.monotonic()
        self._town.move(gateway, point, on=True)
        wire = next(w for w in WIRES if (w.gateway, w.contact.point) == (gateway, point))
        await self._until_shown(gateway, wire.condition, "new")
        took_ms = (time.monotonic() - pressed_s) * 1000
        self.teller.say(
            f"Help is needed in {where}: on the station's list after {took_ms:.0f} ms"
            " (250 of them to be sure that it is no bounce)."
        )

    async def _chatter(self, point: str) -> None:
        for _ in range(6):
            self._town.move(BUILDING_1, point, on=True)
            await asyncio.sleep(0.03)
            self._town.move(BUILDING_1, point, on=False)
            await asyncio.sleep(0.03)

    async def _hand(self) -> None:
        """Move what no scene moves, now and then, each device at most once in `HOLD_S`."""
        free = [self._panel_move(p) for p in ("flat-403/burglary", "flat-405/fire")]
        free += [self._panel_move(p) for p in ("flat-406/burglary", "flat-407/medical")]
        free += [self._register_move(p) for p in ("floor-2/smoke", "riser/flow")]
        free += [self._register_move("floor-1/call-point"), self._gas_move]
        touched_s = dict.fromkeys(range(len(free)), 0.0)
        while True:
            await self._hand_free.wait()
            await asyncio.sleep(self._random.uniform(0.3, 0.9))
            now_s = time.monotonic()
            ready = [index for index, at_s in touched_s.items() if now_s - at_s > HOLD_S]
            if ready and self._hand_free.is_set():
                index = self._random.choice(ready)
                touched_s[index] = now_s
                free[index]()

    def _panel_move(self, point: str) -> Callable[[], None]:
        def move() -> None:
            self._town.report(point, "restore" if self._town.reported[point] else "new")

        return move

    def _register_move(self, point: str) -> Callable[[], None]:
        def move() -> None:
            self._town.set_register(point, on=not self._town.register_on(point))

        return move

    def _gas_move(self) -> None:
        on = self._town.boards[BUILDING_2].on("garage/gas")
        self._town.move(BUILDING_2, "garage/gas", on=not on)

    async def _pause(self, seconds: float) -> None:
        """Give the audience time to read, and every level time to hold."""
        await asyncio.sleep(max(PAUSE_S_MIN, seconds / self._speed))

    async def _until_shown(self, gateway: str, condition: Condition, qualifier: str) -> None:
        """Wait until the newest word of a condition on the station's list is `qualifier`."""

        def shown() -> bool:
            own = [r for r in self._town.ledger.rows if r.gateway == gateway]
            last = next((r for r in reversed(own) if r.condition == condition), None)
            return last is not None and last.qualifier == qualifier

        what = f"{'/'.join(condition[1:])} {qualifier} at {condition[0]} on the station's list"
        await until(shown, within_s=NOTICE_WITHIN_S, what=what)

    def _check_silence(self, gateway: str) -> None:
        """See that the station never took back its word while the network was cut."""
        words = self._town.words_on(gateway)
        if [word.qualifier for word in words] != ["new"]:
            told = ", ".join(f"{word.qualifier} (n {word.n})" for word in words)
            self.false_words.append(
                f"{gateway} could not be heard, and the station said of its loss: {told}"
            )

    async def _caught_up(self, gateway: str) -> None:
        """Wait until all that a gateway accepted is at the station, or nothing comes any more."""
        began_s = time.monotonic()

        def done() -> bool:
            silent = min(self._town.quiet_s(gateway), time.monotonic() - began_s) > QUIET_S
            return silent or self._town.waiting(gateway) == 0

        await until(
            done, within_s=CATCH_UP_WITHIN_S, what=f"the end of what {gateway} has to hand over"
        )
        if missing := self._town.waiting(gateway):
            self.teller.say(f"{missing} accepted signals have not come.")

    async def _until_said_lost(self, gateway: str) -> None:
        self.teller.say("After a while without an answer the station must say so.")
        within_s = LOST_AFTER_S + NOTICE_WITHIN_S
        await until(
            lambda: self._town.station_says_lost(gateway),
            within_s=within_s,
            what=f"the station's word that {gateway} is lost",
        )
        self.teller.say("The station says: no answer from building 1. Nobody calls that normal.")

    async def _until_said_found(self, gateway: str) -> None:
        await until(
            lambda: not self._town.station_says_lost(gateway),
            within_s=NOTICE_WITHIN_S,
            what=f"the station's word that {gateway} is back",
        )
