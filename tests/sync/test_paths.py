"""Two paths to one station: which carries, who must prove what and when, and how soon one takes over."""

import asyncio

from events.replication import HOLD_S, Fetch, Lane
from sync.sink import SinkState
from sync.source import ANSWER_S, PROBE_S, SILENCE_S, SourceState
from sync.zmq_connections import BACK_AFTER_S, CLAIM_S, PING_AFTER_S
from tests.sync.fakes import ListLog, OneLog
from tests.sync.loopback import Bench, StallingProxy, path_up
from tests.sync.sink_rig import QUIET, Station
from tests.sync.test_source import Gateway
from tests.sync.world import Link, World

FAILOVER_S = 10.0
METERED_PERIOD_S = 90.0


class CountingWorld(World):
    """Counts the messages that each path carries."""

    def carry(self, link: Link, data: bytes, way: str) -> None:
        self.met[f"carried {link.path}"] += 1
        super().carry(link, data, way)


def two_paths() -> CountingWorld:
    world = CountingWorld(
        1, trouble=QUIET, paths=("lan", "lte"), periods={"lte": METERED_PERIOD_S}
    )
    world.connect_all()
    world.run(10.0)
    return world


def carrier(world: World, lane: Lane) -> str:
    (path,) = {
        each.greeted.path
        for each in world.gateway.connections.values()
        if each.greeted and each.serves(lane) and each.sink.active
    }
    return path


def test_the_first_in_the_configuration_carries_and_the_other_is_asked_at_its_period() -> None:
    world = two_paths()
    assert [carrier(world, lane) for lane in Lane] == ["lan", "lan"]
    before = world.met["carried lte"]
    world.run(10 * METERED_PERIOD_S)
    exchanges = (world.met["carried lte"] - before) / 2 / len(Lane)
    assert 9 <= exchanges <= 11
    assert world.links[Lane.MAIN, "lte"].source.state is SourceState.UP


def test_the_other_path_carries_within_ten_seconds_although_it_idles_at_ninety() -> None:
    for phase in range(0, 90, 7):
        world = two_paths()
        world.run(float(phase))
        world.append(urgent=True)
        world.run(1.0)
        world.dead.add("lan")
        lost_at = world.now_s
        world.append(urgent=True)
        assert world.run(60.0, until=world.complete)
        assert world.now_s - lost_at <= FAILOVER_S
        world.run(lost_at + FAILOVER_S - world.now_s)
        assert [carrier(world, lane) for lane in Lane] == ["lte", "lte"]


def test_the_better_path_carries_again_when_it_is_back_for_a_while() -> None:
    world = two_paths()
    world.dead.add("lan")
    world.run(30.0)
    assert carrier(world, Lane.MAIN) == "lte"
    world.dead.discard("lan")
    world.run(BACK_AFTER_S + 15.0)
    assert [carrier(world, lane) for lane in Lane] == ["lan", "lan"]
    assert world.links[Lane.MAIN, "lte"].source.state is SourceState.UP
    world.append(urgent=True)
    assert world.run(5.0, until=world.complete)


def test_an_idle_path_that_is_dead_is_named_one_answer_after_its_period() -> None:
    gateway = Gateway()
    gateway.welcome()
    gateway.fetch(limit_bytes=0, hold_s=METERED_PERIOD_S - 1)
    asked = gateway.time
    gateway.time = asked + METERED_PERIOD_S - 1 - 0.01
    assert gateway.said() == []
    gateway.time += 0.02
    assert len(gateway.said()) == 1
    states = []
    for passed_s in (ANSWER_S - 0.01, ANSWER_S + 0.02):
        gateway.time = asked + METERED_PERIOD_S - 1 + passed_s
        gateway.said()
        states.append(gateway.source.state)
    assert states == [SourceState.UP, SourceState.SILENT]


def test_when_another_path_is_lost_an_idle_one_is_proved_at_once() -> None:
    gateway = Gateway()
    gateway.welcome()
    gateway.fetch(limit_bytes=0, hold_s=METERED_PERIOD_S - 1)
    gateway.time += 10.0
    gateway.source.others_lost(("lan",), gateway.now)
    (hello,) = gateway.said()
    assert hello.lost == ("lan",)
    assert gateway.source.deadline() == gateway.time + PROBE_S
    gateway.time += PROBE_S
    gateway.said()
    assert gateway.source.state is SourceState.SILENT


def test_the_carrier_is_given_up_exactly_when_its_time_is_over() -> None:
    gateway = Gateway()
    gateway.welcome()
    gateway.fetch()
    heard = gateway.time
    states = []
    for passed_s in (HOLD_S, SILENCE_S - 0.01, SILENCE_S):
        gateway.time = heard + passed_s
        gateway.said()
        states.append(gateway.source.state)
    assert states == [SourceState.UP, SourceState.UP, SourceState.SILENT]


def test_a_fetch_that_follows_none_takes_the_place_of_those_before_it() -> None:
    gateway = Gateway()
    gateway.welcome()
    gateway.fetch(limit_bytes=0, hold_s=METERED_PERIOD_S - 1)
    gateway.fetch()
    gateway.time += HOLD_S
    assert [batch.id for batch in gateway.said()] == [2]
    assert gateway.source.deadline() == gateway.time + ANSWER_S


def test_a_question_is_answered_at_once_and_disturbs_nothing_that_is_open() -> None:
    gateway = Gateway(events=2)
    gateway.welcome()
    gateway.fetch(after=2)
    assert [batch.id for batch in gateway.fetch(after=1, limit_bytes=0, hold_s=0.0)] == [2]
    assert [batch.id for batch in gateway.append()] == [1]


def test_an_idle_path_that_wakes_is_not_taken_for_silent() -> None:
    station = Station(head=0)
    station.sink.activate(station.now, active=False)
    station.hear(station.hello(period_s=METERED_PERIOD_S))
    station.time += METERED_PERIOD_S - 5.0
    station.sink.timeout(station.now)
    assert station.sink.state is SinkState.OPEN
    station.sink.activate(station.now, active=True)
    (fetch,) = [each for each in station.said() if isinstance(each, Fetch)]
    assert (fetch.limit_bytes > 0, fetch.hold_s) == (True, HOLD_S)
    station.sink.timeout(station.now)
    assert station.sink.state is SinkState.OPEN


def test_a_black_hole_on_the_carrier_is_passed_by_within_ten_seconds() -> None:
    async def scenario() -> None:
        bench = Bench(periods={"lte": METERED_PERIOD_S})
        async with bench.station() as hub:
            proxy = StallingProxy(bench.address)
            async with proxy.serve():
                bench.paths = {"lan": proxy.address, "lte": bench.address}
                async with bench.gateway() as uplink:
                    await bench.until(lambda: path_up(uplink))
                    bench.log.append(b"1", urgent=True)
                    await bench.until(bench.holds)
                    proxy.stall()
                    bench.log.append(b"2", urgent=True)
                    await bench.until(bench.holds, FAILOVER_S)
                    await bench.until(lambda: len(bench.faults()) > 0)
                    assert [(change.path, change.station_up) for change in bench.changes[-1:]] == [
                        ("lan", True)
                    ]
                    proxy.heal()
                    await bench.until(
                        lambda: (
                            {each["path"] for each in hub.status() if each["active"]} == {"lan"}
                        ),
                        20.0,
                    )
                    bench.log.append(b"3", urgent=True)
                    await bench.until(bench.holds, 1.0)
        assert bench.notices == []

    asyncio.run(scenario())


def test_of_two_machines_with_one_key_the_first_goes_on_and_the_second_is_refused() -> None:
    async def scenario() -> None:
        bench = Bench()
        clone = ListLog(OneLog("clone"))
        clone.append(b"of the clone", urgent=True)
        async with bench.station() as hub, bench.gateway():
            bench.log.append(b"1")
            await bench.until(bench.holds)
            held_by = {each["path"] for each in hub.status()}
            async with bench.gateway(log=clone):  # the same boot id: only the start differs
                for number in range(40):
                    bench.log.append(b"while there are two %d" % number, urgent=number % 2 == 0)
                    await bench.until(bench.holds, 1.0)
                    await asyncio.sleep(0.2)
                assert "key-shared" in bench.faults()
                assert bench.noticed("key-shared")[0].gateway == "building-1"
                assert bench.ledger.held("building-1").numbers("clone") == []
            assert {each["path"] for each in hub.status()} == held_by
        assert {notice.reason for notice in bench.notices} == {"key-shared"}

    asyncio.run(scenario())


def test_a_gateway_that_starts_again_speaks_at_once_and_shares_no_key() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station():
            for number in range(4):
                async with bench.gateway(boot_id=f"boot-{number // 2}"):
                    bench.log.append(b"%d" % number, urgent=True)
                    await bench.until(bench.holds, CLAIM_S + PING_AFTER_S)
        assert bench.notices == []

    asyncio.run(scenario())


def test_a_gateway_that_comes_back_while_its_old_connection_hangs_is_heard_in_time() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station():
            proxy = StallingProxy(bench.address)
            async with proxy.serve():
                async with bench.gateway(address=proxy.address):
                    bench.log.append(b"1", urgent=True)
                    await bench.until(bench.holds)
                    proxy.stall()  # its connections stay open at the station
                async with bench.gateway(boot_id="after"):
                    bench.log.append(b"2", urgent=True)
                    await bench.until(bench.holds, 5.0)
        assert bench.notices == []

    asyncio.run(scenario())


def test_each_station_reads_with_its_own_cursor_and_one_that_is_away_holds_up_none() -> None:
    async def scenario() -> None:
        bench, other = Bench(), Bench()
        other.allowed = {bench.gateway_public: "building-1"}
        async with bench.station():
            async with other.station():
                pass  # found a free port, and is away
            async with bench.gateway(others=[other.as_station("station-2")]):
                for number in range(300):
                    bench.log.append(b"%d" % number, urgent=number % 5 == 0)
                await bench.until(bench.holds)
                mark = (bench.station_public, "disk", Lane.MAIN)
                await bench.until(lambda: bench.log.acknowledged.get(mark) == 300)
                assert (other.station_public, "disk", Lane.MAIN) not in bench.log.acknowledged
                async with other.station():
                    await other.until(lambda: other.holds(bench.log.logs[0]), 15.0)
                    bench.log.append(b"both", urgent=True)
                    await bench.until(bench.holds, 1.0)
                    await other.until(lambda: other.holds(bench.log.logs[0]), 1.0)
        assert bench.notices == other.notices == []

    asyncio.run(scenario())
