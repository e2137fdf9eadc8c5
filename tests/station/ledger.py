"""The ledger from outside, for tests: work with it, then look at what lies in its file."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from station import schema
from station.listing import Listing
from station.store import Store
from tests.station.gateway_log import FixedClock

CLOCK = FixedClock()


NOW = CLOCK.now()


def with_store(folder: Path, work: Callable[[Store], Awaitable[Any]]) -> Any:
    async def body() -> Any:
        async with Store(folder, clock=CLOCK) as store:
            return await work(store)

    return asyncio.run(body())


def listed(folder: Path) -> list[dict[str, Any]]:
    with closing(Listing(folder)) as listing:
        return list(listing.after(0, None, None))


def states(folder: Path) -> dict[tuple[str, str, str], tuple[str, int]]:
    with closing(schema.open_reader(folder)[0]) as connection:
        return {
            (point, kind, subkind): (qualifier, n)
            for point, kind, subkind, qualifier, n in connection.execute(
                "SELECT point, kind, subkind, qualifier, n FROM point_state"
                " JOIN condition ON condition.id = condition ORDER BY n"
            )
        }
