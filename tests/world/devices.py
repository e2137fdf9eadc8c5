"""Devices: they outlive every fault, and each keeps its own book of what was accepted."""

import asyncio
from typing import TYPE_CHECKING

from events.kinds import Kind, Qualifier, Subkind
from events.model import Observation
from tests.world.judge import Attempt

if TYPE_CHECKING:
    from tests.world.hosts import GatewayHost
    from tests.world.world import World

TRIES = 4
BULK_CHARACTERS = (1_000, 5_000)


class Device:
    """One device on one line: it waits for the answer before it goes on, and repeats without one.

    A repeat is a new attempt: whether it is the same event is for the line's own protocol to know.
    """

    def __init__(self, world: "World", gateway: "GatewayHost", number: int) -> None:
        self.world = world
        self.gateway = gateway
        self.name = f"line-{number}"
        self._state: dict[str, str] = {}  # point: qualifier of its newest event

    async def live(self, until: float) -> None:
        world = self.world
        while world.now() < until:
            await asyncio.sleep(world.chance.expovariate(1.0 + world.bulky + world.filling))
            for _ in range(world.chance.choice([1, 1, 3])):
                await self._report()

    async def _report(self) -> None:
        chance = self.world.chance
        seen = [self._something(number) for number in range(chance.choice([1, 1, 2, 3, 4]))]
        for _ in range(TRIES):
            given = [self._attempt(each) for each in seen]
            accepted = await self.gateway.record([observation for observation, _ in given])
            for _, attempt in given:
                attempt.accepted = accepted
            if self.world._say is not None:
                numbers = [attempt.id for _, attempt in given]
                self.world.say(
                    f"{self.gateway.name} {self.name}: attempts {numbers}"
                    f" {'accepted' if accepted else 'not accepted'}"
                )
            if accepted or self.world.healed:
                return
            await asyncio.sleep(chance.uniform(0.1, 0.8))

    async def press(self, gateway: "GatewayHost") -> None:
        """Report one alarm, once: what a button does when somebody needs it just now."""
        seen = Observation(
            point=f"{self.name}/button",
            kind=Kind.ALARM,
            subkind=Subkind.PANIC,
            source=self.name,
        )
        observation, attempt = self._attempt(seen)
        attempt.accepted = await gateway.record([observation])
        self.world.say(f"{gateway.name} {self.name}: attempt {attempt.id} {attempt.accepted=}")

    def _something(self, number: int) -> Observation:
        chance = self.world.chance
        kinds = [Kind.ALARM, Kind.ALARM, Kind.FAULT, Kind.MEASUREMENT]
        kind = chance.choice(kinds + 4 * [Kind.MEASUREMENT] * self.world.filling)
        point = f"{self.name}/{kind}-{number}"
        qualifier = Qualifier.NEW
        text = ""
        if kind is Kind.MEASUREMENT:
            if self.world.bulky:
                text = chance.randbytes(chance.randrange(*BULK_CHARACTERS) // 2).hex()
        elif self._state.get(point) == Qualifier.NEW:
            qualifier = Qualifier.RESTORE
        self._state[point] = qualifier
        return Observation(
            point=point,
            kind=kind,
            subkind=Subkind.PANIC if kind is Kind.ALARM else "",
            qualifier=qualifier,
            source=self.name,
            text=text,
        )

    def _attempt(self, seen: Observation) -> tuple[Observation, Attempt]:
        book = self.world.judge.book
        attempt = Attempt(
            id=len(book.attempts) + 1,
            gateway=self.gateway.name,
            device=self.name,
            condition=seen.point,
            qualifier=seen.qualifier,
            urgent=seen.kind == Kind.ALARM,
        )
        book.attempts[attempt.id] = attempt
        observation = Observation(
            point=seen.point,
            kind=seen.kind,
            subkind=seen.subkind,
            qualifier=seen.qualifier,
            source=seen.source,
            text=seen.text,
            details={"attempt": attempt.id},
        )
        return observation, attempt
