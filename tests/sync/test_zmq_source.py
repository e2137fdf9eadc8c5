"""What the gateway's end delivers over real sockets, and what it says when it cannot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress

import pytest
import zmq

from buffer.clock import SystemClock
from events.replication import Lane
from sync import zmq_lane
from sync.source import Source
from tests.sync.fakes import ListLog, OneLog
from tests.sync.loopback import (
    Bench,
    StallingProxy,
    new_keys,
    open_descriptors,
    path_up,
    running,
)


def test_events_are_in_the_ledger_and_acknowledged_on_both_lanes() -> None:
    async def scenario() -> None:
        bench = Bench()
        for n in range(1000):
            bench.log.append(b"before %d" % n, urgent=n % 10 == 0)
        async with bench.station(), bench.gateway() as uplink:
            await bench.until(bench.holds)
            alarm = bench.log.append(b"alarm", urgent=True)
            await bench.until(bench.holds)
            await bench.until(
                lambda: (
                    [uplink.status()[0][key] for key in ("stored", "urgent_stored")]
                    == [alarm.seq, alarm.seq]
                )
            )
            await bench.until(lambda: path_up(uplink))
        key = bench.station_public
        assert bench.log.acknowledged[key, "disk", Lane.MAIN] == 1001
        assert bench.log.acknowledged[key, "disk", Lane.URGENT] == 1001
        assert bench.notices == []
        assert "building-1" in bench.seen

    asyncio.run(scenario())


def test_a_station_with_another_key_gets_nothing_and_is_named() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.append(b"1")
        async with bench.station(), bench.gateway(station_key=new_keys()[0]):
            await bench.until(lambda: "wrong-station-key" in bench.faults())
        assert bench.ledger.gateways == {}

    asyncio.run(scenario())


@asynccontextmanager
async def stranger(port: int, words: bytes, after_s: float = 0.0) -> AsyncIterator[None]:
    """Let a program that is no station answer at a port with these words, and break off."""

    async with asyncio.TaskGroup() as calls:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with closing(writer), suppress(ConnectionError):
                await reader.read(64)
                await asyncio.sleep(after_s)
                writer.write(words)
                await writer.drain()

        def called(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            tasks.append(calls.create_task(answer(reader, writer)))

        tasks: list[asyncio.Task[None]] = []
        server = await asyncio.start_server(called, "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()
            for task in tasks:
                task.cancel()


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 400 Bad Request\r\nServer: portal\r\nContent-Length: 0\r\n\r\n",
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48),
    ],
    ids=["http", "no-curve"],
)
def test_a_stranger_in_the_place_of_the_station_is_named_and_ends_nothing(words: bytes) -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station():
            pass  # found a free port
        bench.log.append(b"while the stranger answers", urgent=True)
        async with bench.gateway():
            async with stranger(int(bench.address.rpartition(":")[2]), words):
                await bench.until(lambda: "wrong-station-key" in bench.faults())
            async with bench.station():
                await bench.until(bench.holds)

    asyncio.run(scenario())


def test_who_breaks_off_late_is_silent_and_does_not_count_as_another_station() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station():
            pass  # found a free port
        port = int(bench.address.rpartition(":")[2])
        async with stranger(port, b"", after_s=zmq_lane.REFUSAL_S), bench.gateway():
            await bench.until(lambda: bench.faults() != [])
        assert bench.faults() == ["station-silent"]

    asyncio.run(scenario())


def test_a_socket_that_never_connects_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq_lane, "CONNECT_S", 0.1)
    monkeypatch.setattr(zmq_lane, "ATTEMPT_S", 0.2)

    made: list[zmq.Socket[bytes]] = []

    async def scenario() -> None:
        def dealer(_broken: int) -> zmq.Socket[bytes]:
            made.append(zmq.Context.instance().socket(zmq.DEALER))
            return made[-1]

        lane = zmq_lane.LaneRunner(
            source=Source(
                name="building-1", program="test", boot_id="boot", lane=Lane.MAIN, path="lan"
            ),
            log=ListLog(),
            clock=SystemClock(),
            address="127.0.0.1:1",
            socket=dealer,
            on_state=lambda _: None,
            on_mark=lambda _: None,
            on_time=lambda _: None,
            on_asked=lambda _asked, _tell: None,
            on_ceiling=lambda _: None,
        )
        async with running(lane.run()):
            await Bench().until(lambda: len(made) > 2)

    asyncio.run(scenario())
    assert all(socket.closed for socket in made)


def test_a_station_that_is_not_there_is_named() -> None:
    async def scenario() -> None:
        bench = Bench(address="127.0.0.1:1")
        async with bench.gateway():
            await bench.until(lambda: "unreachable" in bench.faults())
        assert [change.station_up for change in bench.changes] == [False]

    asyncio.run(scenario())


def test_a_black_hole_is_named_in_time_and_swallows_nothing_for_good() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station():
            proxy = StallingProxy(bench.address)
            async with proxy.serve(), bench.gateway(address=proxy.address) as uplink:
                bench.log.append(b"before")
                await bench.until(bench.holds)
                await bench.until(lambda: path_up(uplink))
                await asyncio.sleep(2.5)
                proxy.stall()
                for n in range(20):
                    bench.log.append(b"into the hole %d" % n, urgent=n % 3 == 0)
                await bench.until(lambda: len(bench.faults()) > 0)
                assert not bench.holds()
                proxy.heal()
                await bench.until(bench.holds, 15.0)
                await bench.until(lambda: bench.changes[-1].up)
        assert bench.notices == []
        assert bench.ledger.held("building-1").gaps == []

    asyncio.run(scenario())


def test_a_frozen_station_program_is_named_although_its_socket_still_answers() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub, bench.gateway() as uplink:
            await bench.until(lambda: path_up(uplink))
            hub._receive = lambda line, tasks: None  # type: ignore[method-assign] # its loop is stuck
            hub._tick = lambda tasks, now: None  # type: ignore[method-assign] # likewise
            await bench.until(lambda: "station-silent" in bench.faults())

    asyncio.run(scenario())


def test_a_restarted_station_goes_on_where_its_ledger_is() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station():
            pass  # found a free port
        async with bench.gateway():
            for n in range(5):
                async with bench.station():
                    bench.log.append(b"up %d" % n, urgent=n % 2 == 0)
                    await bench.until(bench.holds)
                bench.log.append(b"down %d" % n, urgent=n % 2 == 1)
            async with bench.station():
                await bench.until(bench.holds)
        assert bench.notices == []

    asyncio.run(scenario())


def test_a_volatile_log_that_appears_is_read_and_acknowledged_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.append(b"on disk")
        async with bench.station(), bench.gateway():
            await bench.until(bench.holds)
            volatile = OneLog("memory", volatile=True)
            bench.log.logs.append(volatile)
            volatile.append(b"alarm", urgent=True)
            bench.log.stir()
            mark = (bench.station_public, "memory", Lane.URGENT)
            await bench.until(lambda: bench.log.acknowledged.get(mark) == 1, 1.0)
            bench.log.logs.remove(volatile)
            bench.log.append(b"again on disk", urgent=True)
            await bench.until(bench.holds, 1.0)

    asyncio.run(scenario())


def test_many_reconnects_leave_no_sockets_behind() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub:
            before = 0
            for n in range(30):
                async with bench.gateway():
                    bench.log.append(b"%d" % n)
                    await bench.until(bench.holds)
                if n == 5:
                    before = open_descriptors()
            assert open_descriptors() <= before + 4
            assert len(hub._routes) <= 4

    asyncio.run(scenario())


def test_when_the_path_that_carries_dies_the_other_goes_on_in_time() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub:
            proxy = StallingProxy(bench.address)
            async with proxy.serve():
                bench.paths = {"lan": proxy.address}
                async with bench.gateway():
                    bench.log.append(b"1")
                    await bench.until(bench.holds)
                bench.paths = {"lan": proxy.address, "lte": bench.address}
                async with bench.gateway() as uplink:
                    await bench.until(lambda: path_up(uplink))
                    for n in range(3):
                        bench.log.append(b"both %d" % n, urgent=n == 1)
                    await bench.until(bench.holds)
                    assert len({each["lane"] for each in hub.status() if each["active"]}) == 2
                    proxy.stall()
                    for n in range(10):
                        bench.log.append(b"stalled %d" % n, urgent=n % 2 == 0)
                    await bench.until(bench.holds)
                    await bench.until(lambda: len(bench.faults()) > 0)
                    assert [change.station_up for change in bench.changes if not change.up] == [
                        True
                    ]
                    proxy.heal()
                    await bench.until(lambda: path_up(uplink), 15.0)
        assert [notice.reason for notice in bench.notices] == []

    asyncio.run(scenario())
