"""What must not pass in silence: restored stations, keys that change, events withheld, slow ledgers."""

import asyncio

from events.model import Instant
from events.replication import HOLD_S, Lane
from sync.ledger import Commit, CommitResult
from sync.reading import WITHHELD_S
from tests.sync.fakes import ListLedger
from tests.sync.loopback import Bench, new_keys, path_up
from tests.sync.sink_rig import Station
from tests.sync.test_source import Gateway

BODY = bytes(1000)


def test_a_station_restored_from_a_backup_gets_again_what_is_left_and_both_sides_say_so() -> None:
    async def scenario() -> None:
        bench = Bench()
        mark = (bench.station_public, "disk", Lane.MAIN)
        for number in range(20):
            bench.log.append(b"%d" % number, urgent=number % 4 == 0)
        async with bench.station():
            pass  # found a free port
        async with bench.gateway() as uplink:
            async with bench.station():
                await bench.until(bench.holds)
            backup = bench.ledger.copy()
            for number in range(20, 60):
                bench.log.append(b"%d" % number, urgent=number % 4 == 0)
            async with bench.station():
                await bench.until(lambda: bench.log.acknowledged.get(mark) == 60)
            assert bench.rewound == []
            bench.ledger.restore(backup)
            bench.log.logs[0].first = 31  # what it had acknowledged was trimmed meanwhile
            async with bench.station():
                await bench.until(lambda: len(bench.rewound) == 2)
                await bench.until(lambda: path_up(uplink))
        held = sorted(bench.ledger.held("building-1").numbers("disk"))
        assert held == [*range(1, 21), *range(31, 61)]
        assert [(each.held, each.acknowledged) for each in bench.rewound] == [(20, 60), (None, 60)]
        # What came before 21 is gone: nothing shows that it is the history held, so all is read,
        # and only what is really lacking is named.
        assert "events 21 to 30: " in bench.noticed("log-gap")[0].text

    asyncio.run(scenario())


def test_until_its_first_acknowledgement_a_restored_station_holds_back_what_it_asks_for() -> None:
    gateway = Gateway(events=60)
    gateway.welcome()
    gateway.fetch(after=20, stored=0)
    assert [(mark.lane, mark.stored) for mark in gateway.source.ceilings()] == [(Lane.MAIN, 20)]
    assert gateway.source.marks() == []
    gateway.fetch(follows=1, stored=20)
    assert gateway.source.ceilings() == []
    gateway.fetch(after=5, limit_bytes=0)  # an idle path says nothing of what is held
    assert gateway.source.ceilings() == []


def test_a_station_that_finds_its_place_in_another_history_holds_back_what_lies_before_it() -> (
    None
):
    """Both were restored: it reads on after 4 of its copy, finds another event 5, begins anew."""
    gateway = Gateway(events=7)
    gateway.welcome()
    gateway.fetch(after=4, stored=0)
    gateway.fetch(after=0, stored=0)
    assert [mark.stored for mark in gateway.source.ceilings()] == [4, 0]
    gateway.fetch(after=7, stored=7)
    assert [mark.stored for mark in gateway.source.marks()] == [7]
    gateway.fetch(after=7, stored=7)
    assert gateway.source.ceilings() == []
    gateway.fetch(after=5, stored=0)
    assert [mark.stored for mark in gateway.source.ceilings()] == [5]


def test_a_station_that_changes_its_key_is_reached_under_either() -> None:
    async def scenario() -> None:
        bench = Bench()
        old = (bench.station_public, bench.station_secret)
        new = new_keys()
        async with bench.station():
            pass  # found a free port
        async with bench.gateway(next_key=new[0]):
            for public, secret in (old, new, old):
                bench.station_secret = secret
                async with bench.station():
                    alarm = bench.log.append(public.encode(), urgent=True)
                    mark = (old[0], "disk", Lane.URGENT)
                    await bench.until(
                        lambda at=mark, seq=alarm.seq: bench.log.acknowledged.get(at) == seq,  # type: ignore[misc]
                        20.0,
                    )
        assert "wrong-station-key" not in bench.faults()
        assert bench.holds()
        assert {station for station, _, _ in bench.log.acknowledged} == {old[0]}

    asyncio.run(scenario())


def test_signs_of_life_that_announce_events_and_bring_none_are_noticed_at_once() -> None:
    for lane in Lane:
        station = Station(lane, head=0)
        fetch, *_ = station.open()
        (again,) = station.hear(station.batch(fetch))
        assert station.reasons() == []
        station.hear(station.batch(again, head=3, through=0))
        assert station.reasons() == ["events-withheld"]


def test_events_announced_on_another_path_and_not_delivered_are_noticed() -> None:
    station = Station(head=0)
    station.open()
    station.progress.logs["disk"].head = 4
    due = station.time + WITHHELD_S
    assert station.sink.deadline() == due
    station.time = due - 0.01
    station.sink.timeout(station.now)
    assert station.reasons() == []
    station.time = due
    station.sink.timeout(station.now)
    assert station.reasons() == ["events-withheld"]
    assert (station.sink.deadline() or 0.0) > due


def test_an_event_that_is_just_being_read_goes_before_the_sign_of_life() -> None:
    gateway = Gateway()
    gateway.welcome()
    gateway.fetch()
    gateway.time += HOLD_S - 0.001
    gateway.log.append(b"just now")
    gateway.source.changed(gateway.log.heads(), gateway.now)
    (request,) = gateway.source.wants()
    gateway.time += 0.01
    gateway.source.timeout(gateway.now)
    assert gateway.source.to_send() == []
    reading = gateway.log.read_now("disk", Lane.MAIN, 0, 1000, 0)
    gateway.source.read(request, reading, gateway.now)
    assert len(gateway.source.to_send()) == 1


class SlowLedger(ListLedger):
    """Every commit takes a while; it knows how much was waiting at most."""

    waiting = 0
    waiting_max = 0

    async def commit(self, gateway: str, commit: Commit, received: Instant) -> CommitResult:
        size = sum(len(entry.body or b"") for entry in commit.entries)
        self.waiting += size
        self.waiting_max = max(self.waiting_max, self.waiting)
        await asyncio.sleep(0.15 if commit.lane is Lane.MAIN else 0.01)
        self.waiting -= size
        return await super().commit(gateway, commit, received)


def test_a_slow_ledger_bounds_what_waits_and_alarms_go_before_the_backlog() -> None:
    async def scenario() -> None:
        ledger = SlowLedger()
        bench = Bench(ledger=ledger)
        for _ in range(4000):
            bench.log.append(BODY)
        async with bench.station() as hub, bench.gateway():
            await bench.until(lambda: ledger.commits > 3)
            for _ in range(5):
                alarm = bench.log.append(b"alarm", urgent=True)
                place = ("disk", alarm.seq, alarm.chain)
                await bench.until(lambda at=place: at in ledger.held("building-1").rows, 1.0)  # type: ignore[misc]
                assert not bench.holds()
            asked = [
                each.fetch.limit_bytes
                for connection in hub._routes.values()
                for reading in connection.sink._readings.values()
                for each in reading.opens.values()
            ]
            assert sum(asked) <= 2 * 1024 * 1024
        assert ledger.waiting_max <= 3 * 256 * 1024
        assert bench.notices == []

    asyncio.run(scenario())
