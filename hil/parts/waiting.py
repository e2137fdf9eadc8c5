"""Waiting for a condition, with a deadline: the bench never just sleeps and hopes."""

import asyncio
from collections.abc import Callable

from events.errors import NplusError

LOOK_EVERY_S = 0.005


class Overdue(NplusError):  # noqa: N818 - the state has a name of its own
    """Something that had to happen by now did not."""


async def until(condition: Callable[[], bool], *, within_s: float, what: str) -> None:
    """Return as soon as `condition` holds. Raises `Overdue`, naming `what` was waited for."""
    try:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - files and other processes set no event here
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError as error:
        raise Overdue(f"waited {within_s:g} s in vain: {what}") from error
