"""Deliberately broken gateways, to prove that the bench can tell a broken one.

`NPLUS_MUTANT=ack-before-commit` in the environment makes `run` acknowledge devices before their
events are on disk. It is refused unless the configuration says `bench = true` in `[gateway]`, and
it is told in the log and in `status`; no building has both.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from events.errors import ConfigError, StoreError
from events.model import Observation
from protocols.drivers.base import Report

VARIABLE = "NPLUS_MUTANT"
DELAY_S = 1.5  # how long an acknowledged event stays in memory alone

Commit = Callable[[], Coroutine[Any, Any, None]]
Mutant = Callable[[Report], tuple[Report, Commit]]


def chosen(*, bench: bool) -> tuple[str, Mutant] | None:
    """Return the mutant that the environment asks for. Raises `ConfigError` outside a bench."""
    name = os.environ.get(VARIABLE, "")
    if not name:
        return None
    if not bench:
        raise ConfigError(
            f"{VARIABLE}={name} asks for a broken gateway, and this is not a test bench",
            hint=f"unset {VARIABLE}; on a bench, say bench = true in [gateway]",
        )
    if name not in MUTANTS:
        raise ConfigError(
            f"{VARIABLE}={name} names no mutant", hint=f"there are: {', '.join(MUTANTS)}"
        )
    return name, MUTANTS[name]


def ack_before_commit(record: Report) -> tuple[Report, Commit]:
    """Return a recorder that returns at once, and the task that records `DELAY_S` later."""
    waiting: deque[tuple[float, tuple[Observation, ...]]] = deque()

    async def record_later(observations: Sequence[Observation]) -> None:
        waiting.append((asyncio.get_running_loop().time() + DELAY_S, tuple(observations)))

    async def commit() -> None:
        loop = asyncio.get_running_loop()
        while True:
            while waiting and waiting[0][0] <= loop.time():
                with suppress(StoreError):
                    await record(waiting.popleft()[1])
            await asyncio.sleep(0.05)

    return record_later, commit


MUTANTS: dict[str, Mutant] = {"ack-before-commit": ack_before_commit}
