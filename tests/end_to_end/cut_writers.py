"""Programs that write to a store or a ledger and say what they were told is durable.

`python -m tests.end_to_end.cut_writers gateway|station FOLDER full|normal BOUND_BYTES LAG`
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from events.errors import StoreError
from events.replication import Lane
from station.store import Store as Ledger
from tests.buffer.logs import MIB
from tests.buffer.stores import STATION, panic, pragma, routine, store_at
from tests.station.gateway_log import FixedClock, GatewayLog, record

PRODUCERS = 6
URGENT_EVERY = 3  # producers of alarms among the others
GATEWAYS = ("g1", "g2")
READ_BYTES = 32_768
CLOCK = FixedClock()


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


# ------------------------------------------------------------------ the gateway's store


def point_of(producer: int) -> tuple[str, str, str]:
    if producer % URGENT_EVERY == 0:
        return (f"p/{producer}", "alarm", "panic")
    return (f"p/{producer}", "status", "")


async def gateway(folder: Path, sync: str, bound_bytes: int, lag: int) -> None:
    """Say `told PRODUCER NUMBER`, `handed SEQ CHAIN` to a station, `acknowledged SEQ` by it."""

    longest = 900 if bound_bytes <= MIB else 300  # so that a small log turns over soon
    refused = asyncio.Event()  # then the station catches up

    async def produce(producer: int) -> None:
        kind = point_of(producer)
        make = panic if producer % URGENT_EVERY == 0 else routine
        newest = store.latest(*kind)
        number = int(newest.value) if newest is not None and newest.value is not None else 0
        while True:
            number += 1
            text = "x" * (number * 37 % longest)
            try:
                await store.record([make(number, point=f"p/{producer}", text=text)])
            except StoreError:  # full: the number was not stored, and is tried again
                number -= 1
                refused.set()
                await asyncio.sleep(0.01)
                continue
            say("told", producer, number)
            await asyncio.sleep(0.001)

    async def station() -> None:
        after = 0
        while True:
            head = store.heads()[0]
            after = max(after, head.first - 1)
            reading = await store.read(head.log_id, Lane.MAIN, after, limit_bytes=READ_BYTES)
            after = max(after, reading.through)
            if reading.entries:
                last = reading.entries[-1]
                say("handed", last.seq, last.chain.hex())
            behind = 0 if refused.is_set() else lag
            if after > behind:
                refused.clear()
                say("acknowledged", after - behind)
                store.acknowledge(STATION, head.log_id, Lane.MAIN, after - behind)
            await asyncio.sleep(0.02)

    async with store_at(folder, bound_bytes=bound_bytes) as store, asyncio.TaskGroup() as group:
        if sync != "FULL":
            await pragma(store, f"synchronous = {sync}")
        group.create_task(station())
        for producer in range(PRODUCERS):
            group.create_task(produce(producer))


# ------------------------------------------------------------------ the station's ledger


def extend(log: GatewayLog, count: int) -> None:
    """Bring a log to `count` events: always the same ones."""
    for seq in range(len(log.entries) + 1, count + 1):
        log.append(
            record(
                f"p/{seq % 5}",
                qualifier="restore" if seq % 2 else "new",
                monotonic_s=10 + seq / 1000,
                urgent=seq % 7 == 0,
                value="x" * (seq * 37 % 200),
            )
        )


async def station(folder: Path, sync: str, _bound: int, _lag: int) -> None:
    """Say `told GATEWAY SEQ` of the main lane and `early GATEWAY SEQ` of the urgent one."""

    async def commit(name: str) -> None:
        log, chance = GatewayLog(), random.Random(name)
        held = (await ledger.cursors(name, [log.log_id])).get(log.log_id)
        main = held.main if held else 0
        early = max(main, held.urgent if held else 0)
        while True:
            extend(log, max(main, early) + 20)
            if chance.random() < 0.3:
                seq = next(n for n in range(early + 1, early + 9) if n in log.urgent)
                await ledger.commit(name, log.early(seq), CLOCK.now())
                early = seq
                say("early", name, seq)
            else:
                through = main + chance.randint(1, 4)
                await ledger.commit(name, log.main(main + 1, through), CLOCK.now())
                main, early = through, max(early, through)
                say("told", name, main)
            await asyncio.sleep(0.004)

    async with Ledger(folder, clock=CLOCK) as ledger, asyncio.TaskGroup() as group:
        connection = ledger._writer._connection
        assert connection is not None
        connection.execute(
            f"PRAGMA synchronous = {sync}"
        )  # between transactions: nobody waits yet
        for name in GATEWAYS:
            group.create_task(commit(name))


if __name__ == "__main__":
    subject, folder, sync, bound_bytes, lag = sys.argv[1:]
    work = {"gateway": gateway, "station": station}[subject]
    asyncio.run(work(Path(folder), sync, int(bound_bytes), int(lag)))
