"""The ledger from outside, for tests: work with it, then look at what lies in its file."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
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


@asynccontextmanager
async def gathering(store: Store) -> AsyncIterator[None]:
    """Keep the writer at one transaction: what is submitted inside gathers for the next ones."""
    started, go_on = threading.Event(), threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        started.set()
        go_on.wait(10.0)

    held = store._writer.submit(hold)
    await asyncio.to_thread(started.wait, 10.0)
    try:
        yield
        await asyncio.sleep(0)  # tasks made inside submit their jobs
    finally:
        go_on.set()
    await held


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
