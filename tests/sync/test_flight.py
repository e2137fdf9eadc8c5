"""Many gateways that come back at once: what the station asks for stays bounded in all."""

from collections import deque

from events.replication import Fetch
from sync.flight import SHARE, Flight
from sync.pace import LIMIT_BYTES_MAX, LIMIT_BYTES_MIN, WINDOW_MAX
from tests.sync.sink_rig import Station

TOTAL = 512 * 1024
STATIONS = 40
EVENTS = 60
BODY = bytes(9000)


def behind(flight: Flight, events: int = EVENTS) -> Station:
    station = Station(head=0)
    for _ in range(events):
        station.one.append(BODY, urgent=False)
    station.flight = flight
    station.begin()
    return station


class Drain:
    """One gateway that answers what it is asked for, fetch by fetch."""

    def __init__(self, station: Station) -> None:
        self.station = station
        self.ends: dict[int, int] = {}
        self.fetches: deque[Fetch] = deque(station.open())
        self.asked = [fetch.limit_bytes for fetch in self.fetches]

    def step(self) -> None:
        fetch = self.fetches.popleft()
        after = self.ends[fetch.follows] if fetch.follows else fetch.after
        self.station.time += 0.001
        reading = self.station.one.read(fetch.lane, after, fetch.limit_bytes, 0)
        self.ends[fetch.id] = reading.through
        batch = self.station.batch(fetch, *reading.entries, through=reading.through)
        more = [each for each in self.station.hear(batch) if isinstance(each, Fetch)]
        self.fetches.extend(more)
        self.asked += [each.limit_bytes for each in more]


def test_a_gateway_alone_is_asked_for_all_it_can_give() -> None:
    drain = Drain(behind(Flight(), 3 * EVENTS))
    while len(drain.station.held()) < 3 * EVENTS:
        drain.step()
    assert max(drain.asked) == LIMIT_BYTES_MAX


def test_many_together_stay_within_the_bound_and_all_arrive() -> None:
    flight = Flight(TOTAL)
    drains = [Drain(behind(flight)) for _ in range(STATIONS)]
    most = 0
    while any(len(drain.station.held()) < EVENTS for drain in drains):
        for drain in drains:
            if len(drain.station.held()) < EVENTS:
                drain.step()
                most = max(most, flight.bytes)
    # An event larger than what was asked for comes all the same, one to an answer.
    assert TOTAL / 2 < most <= TOTAL + STATIONS * (WINDOW_MAX + 2) * max(LIMIT_BYTES_MIN, 9100)
    assert most < STATIONS * EVENTS * len(BODY) / 8  # of what they would send together
    for drain in drains:
        drain.station.sink.end()
    assert flight.bytes == 0


def test_a_share_is_never_less_than_what_a_slow_link_is_asked_for() -> None:
    flight = Flight(TOTAL)
    assert flight.limit(LIMIT_BYTES_MAX, behind=True) == TOTAL // SHARE
    flight.bytes = 2 * TOTAL
    assert flight.limit(LIMIT_BYTES_MAX, behind=True) == LIMIT_BYTES_MIN
    assert flight.limit(0, behind=True) == 0
