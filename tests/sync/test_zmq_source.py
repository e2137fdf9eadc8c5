"""What the gateway's end delivers over real sockets, and what it says when it cannot."""

import asyncio

from events.replication import Lane
from tests.sync.fakes import OneLog
from tests.sync.loopback import (
    Bench,
    StallingProxy,
    new_keys,
    open_descriptors,
    path_up,
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
