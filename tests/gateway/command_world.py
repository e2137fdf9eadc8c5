"""A command desk whose program can be killed at each of its steps."""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from events.commands import (
    Challenge,
    Command,
    Outcome,
    Told,
)
from events.errors import StoreFull, UsageError
from events.model import Instant, Observation
from gateway.command_desk import CommandDesk, Done
from gateway.command_journal import Journal, JournalThread

BOOT = "boot-1"


STEPS = ("before-intent", "after-intent", "in-effect", "before-outcome", "after-outcome")


class Killed(BaseException):
    """The process is gone."""


class World:
    """A gateway's disk, its clock, and what was done in the building."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = 1000.0
        self.boot = BOOT
        self.effects: list[str] = []
        self.logged: list[Observation] = []
        self.told: list[Told] = []
        self.kill_at = ""
        self.full = False
        self.log_full = False

    def clock(self) -> Instant:
        return Instant(monotonic=self.now_s)

    def challenge(self) -> Challenge:
        return Challenge(boot_id=self.boot, counter=int(self.now_s * 1000))

    def command(self, command_id: str, **given: Any) -> Command:
        fields: dict[str, Any] = {
            "id": command_id,
            "challenge": self.challenge(),
            "expires_s": 30.0,
            "target": "siren",
            "action": "set",
            "issued_by": "wang",
        }
        return Command(**{**fields, **given})

    async def act(self, station: str, command: Command) -> Done | None:
        if command.arguments.get("wrong"):
            raise UsageError("no such thing")
        if command.arguments.get("breaks"):
            raise KeyError("defect")
        if command.arguments.get("later"):
            self.effects.append(command.id)
            return None
        await asyncio.sleep(0)
        self.effects.append(command.id)
        self.step("in-effect")
        return Done(text=f"for {station}", value=7)

    def step(self, name: str) -> None:
        if self.kill_at == name:
            self.kill_at = ""
            raise Killed

    async def record(self, observations: Sequence[Observation]) -> None:
        if self.log_full:
            raise StoreFull("no room")
        self.logged += observations

    def audits(self, command_id: str) -> list[str]:
        return [
            o.subkind for o in self.logged if o.details["command"] == command_id and not o.flags
        ]

    def outcomes(self, command_id: str) -> list[Outcome]:
        return [
            each
            for each in self.told
            if isinstance(each, Outcome) and each.command_id == command_id and each.settled
        ]


class KilledJournal(Journal):
    """A real journal of a process that may die around any of its commits."""

    def __init__(self, world: World) -> None:
        super().__init__(world.folder)
        self._world = world

    def intend(self, station: str, command: Command, outcome: Outcome | None = None) -> bool:
        self._world.step("before-intent")
        if self._world.full:
            raise StoreFull("no room")
        added = super().intend(station, command, outcome)
        self._world.step("after-intent")
        return added

    def settle(self, outcome: Outcome) -> None:
        self._world.step("before-outcome")
        if self._world.full:
            raise StoreFull("no room")
        super().settle(outcome)
        self._world.step("after-outcome")


class Running:
    """One life of the gateway's program. It ends killed, or when the block ends."""

    def __init__(self, world: World, held: Sequence[str] = ()) -> None:
        self.world = world
        self.thread = JournalThread(KilledJournal(world))
        self.desk = CommandDesk(
            self.thread,
            {("", "set"): world.act, ("program", "restart"): world.act},
            clock=world.clock,
            boot_id=world.boot,
            commanding=frozenset({"east"}),
            held=held,
        )
        self.killed = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Running":
        self._task = asyncio.ensure_future(self._live())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self.thread.close()

    async def _live(self) -> None:
        try:
            await self.desk.run(self.world.record)
        except BaseExceptionGroup as group:
            if not group.subgroup(Killed):
                raise
            self.killed = True
        except Killed:
            self.killed = True

    def hear(self, asked: Any, station: str = "east") -> None:
        self.desk.heard(station, asked, self.world.told.append)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true() and not self.killed:  # noqa: ASYNC110 - a thread sets no event
                await asyncio.sleep(0.002)

    async def done(self, command_id: str) -> Outcome | None:
        before = len(self.world.outcomes(command_id))
        await self.until(lambda: len(self.world.outcomes(command_id)) > before)
        return None if self.killed else self.world.outcomes(command_id)[-1]


def play(story: Callable[[World], Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(story(World(Path(folder))))


def await_told(world: World) -> bool:
    told = {o.subkind for o in world.logged if o.details["command"] == "c"}
    return told >= {"command", "command-outcome"}
