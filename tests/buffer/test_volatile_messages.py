"""A message that is in memory only: acknowledged once a station or the disk has it, not before."""

import asyncio
from pathlib import Path

import pytest

from buffer.store import Store
from events.errors import StoreLocked
from events.kinds import Subkind
from events.model import Instant, Observation
from events.replication import Lane
from protocols.contact_id.config import Receiver
from protocols.contact_id.receiver import ReceiverLink
from protocols.ports import SerialPort
from tests.buffer.logs import open_log
from tests.buffer.stores import (
    STATION,
    Lock,
    state,
    store_at,
    until,
    volatile_head,
)

pytestmark = pytest.mark.usefixtures("quick_recovery")


PANIC = b"5011 181234E12001005\x14"
BURGLARY = b"5011 181234E13001005\x14"
ACKNOWLEDGED = b"\x06"


class Line:
    """A receiver's line with a link of its own, as a driver that is built again has it."""

    def __init__(self, store: Store, at: float) -> None:
        self.now = Instant(monotonic=at)
        port = SerialPort(path="/dev/null")
        self.link = ReceiverLink(Receiver(id="panels", port=port, format="mlr2"), store)
        self.link.start(self.now)

    def hear(self, message: bytes) -> list[Observation]:
        self.link.receive(message, self.now)
        return self.link.observations()

    def answer(self) -> bytes:
        self.link.stored(1, self.now)
        return self.link.to_send()


@pytest.mark.parametrize("by", ["station", "disk"])
def test_a_message_in_memory_only_is_not_taken_for_stored_by_another_link(
    tmp_path: Path, by: str
) -> None:
    open_log(tmp_path).close()

    async def scenario(lock: Lock) -> None:
        async with store_at(tmp_path) as store, asyncio.TaskGroup() as group:
            first = Line(store, 100.0)
            recording = group.create_task(store.record(first.hear(PANIC)))
            await until(lambda: volatile_head(store).head == 2)
            assert store.last_raw("panels") is None

            second = Line(store, 102.0)
            (again,) = second.hear(PANIC)  # the receiver had no answer
            assert second.link.to_send() == b""
            repeated = group.create_task(store.record([again]))
            await until(lambda: volatile_head(store).head == 3)
            assert not recording.done()

            if by == "station":
                store.acknowledge(STATION, volatile_head(store).log_id, Lane.URGENT, 3)
            else:
                lock.release()
                await until(lambda: state(store) == "ok")
            await recording
            await repeated
            assert second.answer() == ACKNOWLEDGED
            assert store.last_raw("panels") == PANIC

            third = Line(store, 104.0)  # now it is a repeat, and known as one
            assert third.hear(PANIC) == []
            assert third.link.to_send() == ACKNOWLEDGED

    with Lock(tmp_path) as lock:
        asyncio.run(scenario(lock))


def test_while_a_message_is_in_memory_only_the_one_before_it_has_no_repeat(
    tmp_path: Path,
) -> None:
    async def before() -> None:
        async with store_at(tmp_path) as store:
            await store.record(Line(store, 10.0).hear(PANIC))

    asyncio.run(before())

    async def scenario() -> None:
        async with store_at(tmp_path) as store, asyncio.TaskGroup() as group:
            store._recovery.fail(StoreLocked("another program", hint=""))
            recording = group.create_task(store.record(Line(store, 100.0).hear(BURGLARY)))
            await until(lambda: volatile_head(store).head == 2)
            again = Line(store, 102.0)
            (seen,) = again.hear(PANIC)  # another panic: with the burglary between, no repeat
            assert seen.subkind == Subkind.PANIC
            assert again.link.to_send() == b""
            await recording

    asyncio.run(scenario())
