"""Durable appends through the store that a gateway holds: one task after another, and many at once."""

import asyncio
import tempfile
import time
from pathlib import Path

from buffer.clock import SystemClock
from buffer.store import Store
from events.kinds import Kind
from events.model import Observation


async def measure(*, single: int, many: int, tasks: int) -> dict[str, list[float]]:
    """Return seconds of each append that one task awaits, and events a second of `tasks` tasks."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        async with Store(Path(name), clock=SystemClock()) as store:
            times = []
            for number in range(single):
                began = time.monotonic()
                await store.record([_seen(number)])
                times.append(time.monotonic() - began)
            each = many // tasks

            async def work(task: int) -> None:
                for number in range(each):
                    await store.record([_seen(task * each + number)])

            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                for task in range(tasks):
                    group.create_task(work(task))
            return {"seconds": times, "rate": [each * tasks / (time.monotonic() - began)]}


def _seen(number: int) -> Observation:
    return Observation(point=f"f/{number % 64}", kind=Kind.STATUS, value=number % 977)
