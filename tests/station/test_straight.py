"""The ledger's short way for plain events stores what the long way stores, byte for byte."""

from contextlib import closing
from dataclasses import replace
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from events.kinds import Subkind
from events.model import ClockQuality, Origin, Record
from station.announcements import GATEWAY_POINT
from station.recording import Recording
from tests.station.gateway_log import GatewayLog, record
from tests.station.test_order_of_states import Station, acts, live

QUALIFIERS = ("new", "restore", "still", "")
BODIES_NOBODY_READS = (b"", b"\x92\x01", b"\x92\x09\x80", b"\xff" * 9)

records = st.builds(
    record,
    st.sampled_from(["door", "panic", GATEWAY_POINT]),
    kind=st.sampled_from(["alarm", "status"]),
    subkind=st.sampled_from(["", "panic", Subkind.CLOCK.value]),
    condition=st.sampled_from(["", "130"]),
    qualifier=st.sampled_from(QUALIFIERS),
    monotonic_s=st.floats(0, 1e6) | st.sampled_from([-3.0, 1.5e13]),
    boot_id=st.sampled_from(["boot-1"] * 6 + ["boot-2"]),
    clock=st.sampled_from(ClockQuality),
    edge_us=st.none() | st.integers(-1, 10**12),
    urgent=st.booleans(),
    origin=st.sampled_from([None] * 6 + [Origin("other", 1), Origin("log-1", 2)]),
    value=st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=3) | st.booleans(),
)
bodies = st.lists(
    st.one_of(*[records] * 7, st.sampled_from(BODIES_NOBODY_READS)), min_size=1, max_size=30
)
cuts = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from(["main"] * 6 + ["again", "early", "hello"])),
    max_size=12,
)


def told(items: list[Record | bytes], steps: list[tuple[int, str]]) -> Station:
    """Return a station that was told of a log in these steps, and then of what was left."""
    log, station, main = GatewayLog(), Station(), 0
    for item in items:
        log.append(item)
    for width, way in [*steps, (len(items), "main")]:
        last = min(len(items), main + width)
        match way:
            case "hello":
                boot_id = f"boot-{1 + width % 2}"
                station.hello(record(boot_id=boot_id, clock=ClockQuality.SYNCHRONISED).stamp)
            case "early" if waiting := [seq for seq in log.urgent if main < seq <= last]:
                station.commit(log.early(*sorted(waiting)))
            case "again" if main:
                station.commit(log.main(max(1, main - width), main))
            case _ if last > main:
                odd = tuple(range(main + 1, last + 1, 5)) if width % 3 == 0 else ()
                station.commit(replace(log.main(main + 1, last), suspect=odd))
                main = last
    station.register.flush(station.connection)
    return station


def rows(station: Station) -> list[str]:
    """Return every row of the file, but for the name that it got by chance."""
    with closing(station.connection):
        station.connection.execute("DELETE FROM meta WHERE key = 'ledger_id'")
        return list(station.connection.iterdump())


@settings(max_examples=100)
@given(bodies, cuts)
def test_the_short_way_stores_what_the_long_way_stores(
    items: list[Record | bytes], steps: list[tuple[int, str]]
) -> None:
    short = rows(told(items, steps))
    with patch.object(Recording, "_straight", lambda _: 0):
        assert short == rows(told(items, steps))


@settings(max_examples=60)
@given(acts, st.integers(0, 2**32))
def test_so_does_it_through_boots_failing_disks_and_lanes(acts: list[str], seed: int) -> None:
    short = rows(live(acts, seed))
    with patch.object(Recording, "_straight", lambda _: 0):
        assert short == rows(live(acts, seed))


def test_plain_events_go_the_short_way_to_the_first_that_is_not() -> None:
    log, station = GatewayLog(), Station()
    for number in range(5):
        log.append(record(value=number))
    log.append(b"nobody reads this")
    log.append(record(value=6))
    taken: list[int] = []
    straight = Recording._straight

    def watched(self: Recording) -> int:
        taken.append(straight(self))
        return taken[-1]

    with patch.object(Recording, "_straight", watched):
        station.commit(log.main(1, 4))
        station.commit(log.main(5, 7))
        station.commit(log.main(5, 7))  # held: each is looked up
    assert taken == [4, 1]
    station.register.flush(station.connection)
    assert station.state("door") == ("new", 6)
    station.connection.close()
