"""What the tests of the store share: a store to run, ways to break it, and a station that pulls."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

from buffer import schema
from buffer.clock import SystemClock
from buffer.log import FILE_NAME, EventLog
from buffer.store import Store
from buffer.writer_thread import Steps
from events.kinds import Kind, Subkind
from events.model import Observation, Record
from events.replication import Lane, LogHead
from events.wire import decode
from tests.buffer.logs import MIB, check_chain, open_log, read

STATION = "s" * 40
OTHER = "o" * 40


def store_at(folder: Path, bound_bytes: int = 64 * MIB, required: str = STATION) -> Store:
    return Store(
        folder,
        clock=SystemClock(),
        urgent_points=frozenset({"lift/1"}),
        required_stations=frozenset({required} if required else ()),
        bound_bytes=bound_bytes,
    )


def routine(number: int, **fields: object) -> Observation:
    given: dict[str, object] = {"point": "meter/1", "kind": "status", "value": number, **fields}
    return Observation(**given)  # type: ignore[arg-type] # the caller names real fields


def panic(number: int, **fields: object) -> Observation:
    return routine(
        number, **{"point": "hall/panic", "kind": "alarm", "subkind": "panic", **fields}
    )


async def pragma(store: Store, text: str) -> object:
    """Run a pragma on the store's own connection."""

    def steps(log: EventLog) -> Steps[object]:
        yield
        return schema.pragma(log.connection, text)

    return await store._disk.writer.run(steps)


async def until(true: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 - what it waits for has no event of its own
            await asyncio.sleep(0.005)


def records(folder: Path) -> list[Record]:
    """Return what a closed store holds, checked."""
    log = open_log(folder)
    reading = read(log, Lane.MAIN)
    if log.head.first == 1:
        check_chain(log.head.log_id, reading)
    log.close()
    return [decode(entry.body or b"") for entry in reading.entries]


def state(store: Store) -> str:
    return str(store.status()["state"])


def volatile_head(store: Store) -> LogHead:
    (head,) = [head for head in store.heads() if head.volatile]
    return head


def about_the_store(found: list[Record]) -> list[Record]:
    key = (Kind.FAULT, Subkind.STORE)
    return [r for r in found if (r.observation.kind, r.observation.subkind) == key]


def of_devices(found: list[Record]) -> list[object]:
    """Return the values of all events but the store's own, in order."""
    return [r.observation.value for r in found if r.observation.source != "store"]


class Lock:
    """Holds the store as another program would, in a thread of its own, until released."""

    def __init__(self, folder: Path) -> None:
        self._opened, self._release = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, args=(folder,))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._opened.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self._release.set()
        self._thread.join()

    def _hold(self, folder: Path) -> None:
        log = open_log(folder)
        self._opened.set()
        self._release.wait()
        log.close()


def file(folder: Path) -> Path:
    return folder / FILE_NAME
