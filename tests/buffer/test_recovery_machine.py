"""A store that breaks and heals at any step: disk and station hold each accepted event once."""

import asyncio
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import buffer.recovery
from buffer.degraded import STORE_POINT
from buffer.store import Store
from events.errors import StoreError
from events.model import Observation, Origin
from events.replication import Lane
from events.wire import decode
from tests.buffer.stores import (
    STATION,
    panic,
    pragma,
    records,
    routine,
    store_at,
)


class World:
    """A store that breaks and heals, its producers, and a station that reads the volatile log."""

    def __init__(self, store: Store, group: asyncio.TaskGroup) -> None:
        self.accepted: set[int] = set()
        self.station: dict[Origin, object] = {}
        self._store = store
        self._group = group

    async def do(self, number: int, step: str) -> None:
        match step:
            case "routine":
                self._group.create_task(self._record(number, routine(number)))
            case "panic":
                self._group.create_task(self._record(number, panic(number)))
            case "break":
                await pragma(self._store, "query_only = ON")
            case "heal":
                await self.heal()
            case "deliver":
                await self._deliver(1.0)
            case "deliver-some":
                await self._deliver(0.5)
            case other:
                raise AssertionError(other)
        for _ in range(3):
            await asyncio.sleep(0.001)

    async def heal(self) -> None:
        await pragma(self._store, "query_only = OFF")
        await self._store._recovery.attempt()

    async def _record(self, number: int, seen: Observation) -> None:
        with suppress(StoreError):
            await self._store.record([seen])
            self.accepted.add(number)

    async def _deliver(self, share: float) -> None:
        """Commit what the volatile log offers, or the older part of it, and acknowledge it."""
        for head in self._store.heads():
            if not head.volatile:
                continue
            reading = await self._store.read(head.log_id, Lane.URGENT, 0, limit_bytes=1 << 20)
            through = head.first - 1 + int((reading.through - head.first + 1) * share)
            for entry in reading.entries:
                if entry.seq <= through:
                    seen = decode(entry.body or b"").observation
                    self.station[Origin(head.log_id, entry.seq)] = seen.value
            self._store.acknowledge(STATION, head.log_id, Lane.URGENT, through)


STEPS = ["routine", "panic", "panic", "break", "heal", "deliver", "deliver-some"]


@settings(max_examples=25)
@given(st.lists(st.sampled_from(STEPS), max_size=40))
def test_nothing_accepted_is_lost_and_nothing_is_told_twice(steps: list[str]) -> None:
    """Whatever breaks when: disk and station together hold each accepted event exactly once."""

    async def play(folder: Path) -> World:
        async with store_at(folder) as store, asyncio.TaskGroup() as group:
            world = World(store, group)
            for number, step in enumerate(steps):
                await world.do(number, step)
            await world.heal()
        return world

    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffer.recovery, "RETRY_FIRST_S", 60)  # it heals when the test says so
        world = asyncio.run(play(Path(name)))
        found = [r for r in records(Path(name)) if r.observation.source != STORE_POINT]
    held = dict(world.station)
    for seq, record in enumerate(found):
        held.setdefault(record.origin or Origin("disk", seq), record.observation.value)
    values = list(held.values())
    assert len(values) == len(set(values))
    assert world.accepted <= set(values)
    assert set(values) <= {n for n, step in enumerate(steps) if step in {"routine", "panic"}}
