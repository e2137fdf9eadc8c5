"""A program that records and says what it was told is stored, until somebody kills it."""

import asyncio
import os
import sys
from pathlib import Path

from events.replication import Lane
from tests.buffer.stores import STATION, panic, routine, store_at

PRODUCERS = 8


async def main(folder: Path, first: int, bound_bytes: int, lag: int) -> None:
    numbers = iter(range(first, sys.maxsize))

    async def produce(producer: int) -> None:
        for number in numbers:
            make = panic if number % 10 == 0 else routine
            await store.record([make(number, point=f"p/{producer}", text="x" * (number % 300))])
            os.write(1, b"%d\n" % number)
            if number % 50 == 0:
                head = store.heads()[0]
                store.acknowledge(STATION, head.log_id, Lane.MAIN, max(0, head.head - lag))

    async with store_at(folder, bound_bytes=bound_bytes) as store, asyncio.TaskGroup() as group:
        for producer in range(PRODUCERS):
            group.create_task(produce(producer))


asyncio.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
