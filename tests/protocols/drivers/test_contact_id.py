"""The driver on real ports: the kernel's own pseudo-terminals, and socat's."""

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from events.errors import LinkLost, StoreFull
from events.model import Instant, Observation
from protocols.contact_id.config import Receiver
from protocols.contact_id.simulated import Entry, Patience, SimulatedReceiver
from protocols.drivers.base import Context, Report
from protocols.drivers.contact_id import ReceiverDriver
from protocols.drivers.serial_port import SerialStream, open_serial
from protocols.ports import SerialPort
from tests.protocols.contact_id.book import Book
from tests.protocols.drivers.test_serial_port import Pty

QUICK = Patience(repeat_s=0.3, repeats=2, pause_s=0.2, heartbeat_s=0.4, turnaround_s=0.01)


def _now() -> Instant:
    return Instant(monotonic=time.monotonic())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - engines and programs that set no event
            await asyncio.sleep(0.005)


class FarEnd:
    """A simulated receiver on the far side of a port."""

    def __init__(self, write: int, read: int) -> None:
        self.engine = SimulatedReceiver("mlr2", patience=QUICK)
        self._write = write
        self._read = read

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        self.engine.start(_now())
        os.set_blocking(self._read, False)
        loop.add_reader(self._read, self._receive)
        try:
            while True:
                self.engine.timeout(_now())
                self._send()
                await asyncio.sleep(0.005)
        finally:
            loop.remove_reader(self._read)

    def panic(self, zone: str) -> Entry:
        entry = self.engine.event(_now(), account="1234", event="120", zone_or_user=zone)
        self._send()
        return entry

    async def served(self) -> None:
        await _until(lambda: self.engine.idle)

    def _receive(self) -> None:
        self.engine.receive(os.read(self._read, 4096), _now())
        self._send()

    def _send(self) -> None:
        if data := self.engine.to_send():
            os.write(self._write, data)


def _driver(path: Path, book: Book, **port: Any) -> ReceiverDriver:
    config = Receiver(id="r1", format="mlr2", port=SerialPort(path=str(path), **port))
    return ReceiverDriver(config, Context(clock=_now, memory=book))


def test_messages_and_link_tests_over_a_port_asked_for_7e1(tmp_path: Path) -> None:
    pty, book = Pty(tmp_path / "port"), Book()
    driver = _driver(pty.link, book, baud=19200, data_bits=7, parity="even")

    async def main() -> None:
        far = FarEnd(pty.far, pty.far)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(driver.run(_report(book))), group.create_task(far.run())]
            await asyncio.sleep(0.02)
            for number in range(20):
                far.panic(f"{number:03d}")
            await far.served()
            await _until(lambda: far.engine.heartbeats_answered > 0)
            health = driver.health()
            assert health.up
            assert health.details["framing"] == "7E1"
            assert "8N1" in str(health.details["notes"])
            assert health.counters["acknowledged"] >= 21
            for task in tasks:
                task.cancel()
        assert [len(entry.sent) for entry in far.engine.journal] == [1] * 20
        assert [one.raw for one in book.stored] == [entry.raw for entry in far.engine.journal]
        assert not driver.health().up

    asyncio.run(main())
    pty.unplug()


def test_an_unplug_between_store_and_acknowledgement_loses_and_doubles_nothing(
    tmp_path: Path,
) -> None:
    pty, book = Pty(tmp_path / "port"), Book()
    driver = _driver(pty.link, book)

    async def cut(observations: Sequence[Observation]) -> None:
        book.write(observations)
        pty.unplug()

    async def main() -> None:
        far = FarEnd(pty.far, pty.far)
        far.engine.start(_now())
        async with asyncio.TaskGroup() as group:
            running = group.create_task(_lost(driver, cut))
            await asyncio.sleep(0.02)
            entry = far.panic("001")
            async with asyncio.timeout(5):
                assert await running
        with pytest.raises(LinkLost):
            await driver.run(cut)
        pty.plug()
        far = FarEnd(pty.far, pty.far)
        again = far.engine.message(_now(), entry.raw)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(driver.run(_report(book))),
                group.create_task(far.run()),
            ]
            await far.served()
            for task in tasks:
                task.cancel()
        assert again.accepted is not None
        assert [one.raw for one in book.stored] == [entry.raw]

    asyncio.run(main())
    pty.unplug()


def test_a_full_store_is_silence_on_the_line_until_it_has_room(tmp_path: Path) -> None:
    pty, book = Pty(tmp_path / "port"), Book()
    driver = _driver(pty.link, book)
    refusals = 0

    async def report(observations: Sequence[Observation]) -> None:
        nonlocal refusals
        refusals += 1
        if refusals <= 2:
            raise StoreFull("no room")
        book.write(observations)

    async def main() -> None:
        far = FarEnd(pty.far, pty.far)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(driver.run(report)), group.create_task(far.run())]
            await asyncio.sleep(0.02)
            far.panic("001")
            await far.served()
            for task in tasks:
                task.cancel()
        (entry,) = far.engine.journal
        assert len(entry.sent) == 3
        assert [one.raw for one in book.stored] == [entry.raw]

    asyncio.run(main())
    pty.unplug()


@pytest.mark.needs("socat")
def test_over_a_pair_of_socat(tmp_path: Path) -> None:
    near, far_path, book = tmp_path / "near", tmp_path / "far", Book()
    program = subprocess.Popen(
        ["socat", f"pty,raw,echo=0,link={near}", f"pty,raw,echo=0,link={far_path}"]
    )

    async def main() -> None:
        await _until(lambda: near.exists() and far_path.exists())
        other: SerialStream = await open_serial(SerialPort(path=str(far_path)))
        driver = _driver(near, book)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(_lost(driver, _report(book)))
            await asyncio.sleep(0.05)
            for piece in (b"\x00noise", b"5011 18", b"1234E12001005\x14"):
                await other.write(piece)
                await asyncio.sleep(0.01)
            async with asyncio.timeout(5):
                assert await other.read() == b"\x06"
                await other.write(b"1011           @    \x14")
                assert await other.read() == b"\x06"
                program.terminate()  # the cable is pulled
                assert await running
        other.close()
        assert [one.subkind for one in book.stored] == ["panic"]

    try:
        asyncio.run(main())
    finally:
        program.kill()
        program.wait()


def _report(book: Book) -> Report:
    async def report(observations: Sequence[Observation]) -> None:
        book.write(observations)

    return report


async def _lost(driver: ReceiverDriver, report: Report) -> bool:
    try:
        await driver.run(report)
    except LinkLost:
        return True
    return False
