"""Times of events whose clock was set only later, or wrong, or stepped while they were stored."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.model import ClockQuality, Stamp
from station import clock_ties, schema
from station.clock_ties import TIES_MAX, BootClock, Tie
from station.interpretation import Basis
from station.listing import Listing
from station.store import Store
from tests.station.gateway_log import BOOT, FixedClock, GatewayLog, record

UNSET, FREE, SYNCHRONISED = ClockQuality.UNSET, ClockQuality.FREE, ClockQuality.SYNCHRONISED
TRUE_US = 1_790_000_000_000_000  # wall time less monotonic time of the gateway's boot
DAY_US = 86_400_000_000
SECOND_US = 1_000_000


def stamp(at_us: int, clock: ClockQuality, wrong_us: int = 0) -> Stamp:
    wall_us = None if clock is UNSET else TRUE_US + wrong_us + at_us
    return Stamp(monotonic_us=at_us, boot_id=BOOT, wall_us=wall_us, clock=clock)


def tie(said: Stamp, travel_us: int | None = 20_000) -> Tie:
    """Return a hello that took `travel_us`, or an event where that is None."""
    station_us = None if travel_us is None else TRUE_US + said.monotonic_us + travel_us
    return Tie(
        monotonic_us=said.monotonic_us,
        wall_us=said.wall_us,
        clock=said.clock,
        station_us=station_us,
    )


EVENT_US = 10 * SECOND_US
HELLO = tie(stamp(70 * SECOND_US, UNSET))


@pytest.mark.parametrize(
    ("event", "ties", "basis", "wrong_us"),
    [
        (stamp(EVENT_US, UNSET), [], Basis.RECEIVED, None),
        (stamp(EVENT_US, UNSET), [HELLO], Basis.STATION, 20_000),
        (stamp(EVENT_US, UNSET), [tie(stamp(90, FREE), None)], Basis.CORRECTED, 0),
        (stamp(EVENT_US, UNSET), [HELLO, tie(stamp(90, FREE))], Basis.CORRECTED, 0),
        (stamp(EVENT_US, UNSET), [HELLO, tie(stamp(90, FREE, DAY_US))], Basis.STATION, 20_000),
        (stamp(EVENT_US, UNSET), [HELLO, tie(stamp(90, SYNCHRONISED))], Basis.CORRECTED, 0),
        (stamp(EVENT_US, FREE, -DAY_US), [], Basis.GATEWAY, -DAY_US),
        (stamp(EVENT_US, FREE, -DAY_US), [HELLO, tie(stamp(90, FREE))], Basis.CORRECTED, 0),
        (stamp(EVENT_US, FREE, -DAY_US), [tie(stamp(90, FREE), None)], Basis.CORRECTED, 0),
        (stamp(EVENT_US, FREE), [HELLO, tie(stamp(90, FREE, DAY_US))], Basis.GATEWAY, 0),
        (stamp(EVENT_US, FREE, 3), [tie(stamp(90, SYNCHRONISED))], Basis.GATEWAY, 3),
        (stamp(EVENT_US, FREE, 2 * SECOND_US), [tie(stamp(90, SYNCHRONISED))], Basis.CORRECTED, 0),
        (stamp(EVENT_US, SYNCHRONISED), [tie(stamp(90, FREE, DAY_US))], Basis.GATEWAY, 0),
        (stamp(EVENT_US, SYNCHRONISED, DAY_US), [tie(stamp(90, SYNCHRONISED))], Basis.CORRECTED, 0),
    ],
)  # fmt: skip
def test_the_best_clock_of_the_boot_tells_the_time(
    event: Stamp, ties: list[Tie], basis: Basis, wrong_us: int | None
) -> None:
    received_us = TRUE_US + 99 * SECOND_US
    at_us = received_us if wrong_us is None else TRUE_US + EVENT_US + wrong_us
    assert BootClock(ties).time_of(event, None, received_us) == (at_us, basis)
    if wrong_us is not None:
        edge = BootClock(ties).time_of(event, EVENT_US - SECOND_US, received_us)
        assert edge == (at_us - SECOND_US, basis)


def test_a_station_s_word_dates_what_was_recorded_under_it() -> None:
    said = Stamp(monotonic_us=EVENT_US, boot_id=BOOT, wall_us=TRUE_US + EVENT_US + 7, clock=UNSET)
    assert BootClock([HELLO]).time_of(said, None, None) == (TRUE_US + EVENT_US + 7, Basis.STATION)
    ties = [HELLO, tie(stamp(90 * SECOND_US, SYNCHRONISED))]
    assert BootClock(ties).time_of(said, None, None) == (TRUE_US + EVENT_US, Basis.CORRECTED)


clocks = st.sampled_from(
    [(UNSET, 0), (FREE, -DAY_US), (FREE, DAY_US), (FREE, 0), (SYNCHRONISED, 0)]
)
moments = st.integers(1, 10_000 * SECOND_US)


@given(
    phases=st.lists(st.tuples(moments, clocks), min_size=1, max_size=6),
    hellos=st.lists(st.tuples(moments, st.integers(1000, 400_000)), min_size=1, max_size=8),
    events=st.lists(moments, min_size=1, max_size=10),
)
def test_once_the_right_time_was_known_every_event_of_the_boot_has_it(
    phases: list[tuple[int, tuple[ClockQuality, int]]],
    hellos: list[tuple[int, int]],
    events: list[int],
) -> None:
    """Whatever the clock was set to in between, and in whatever order the ties came."""
    phases = [(0, (UNSET, 0)), *sorted(phases, key=lambda phase: phase[0])]

    def clock_at(moment: int) -> tuple[ClockQuality, int]:
        return next(clock for began, clock in reversed(phases) if began <= moment)

    ties = [tie(stamp(at, *clock_at(at)), travel) for at, travel in sorted(hellos)]
    ties += [tie(stamp(began, *clock), None) for began, clock in phases]  # their events come later
    known = [clock for _, clock in phases if clock[0] is not UNSET and clock[1] == 0]
    boot = BootClock(ties)
    for at in events:
        clock, wrong_us = clock_at(at)
        time_us, basis = boot.time_of(stamp(at, clock, wrong_us), None, None)
        assert time_us is not None
        if known or clock is UNSET:
            assert abs(time_us - TRUE_US - at) <= SECOND_US, basis


def with_tables() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema._bring_up(connection, None)
    connection.execute("INSERT INTO gateway (id, name) VALUES (1, 'g1')")
    return connection


def rows(connection: sqlite3.Connection) -> list[tuple[int, int | None]]:
    return connection.execute("SELECT monotonic_us, station_us FROM clock_tie").fetchall()


def test_ties_that_say_nothing_new_are_not_kept() -> None:
    with closing(with_tables()) as connection:
        for second in range(1, 50):
            said = stamp(second * SECOND_US, FREE)
            clock_ties.note(connection, 1, said, TRUE_US + said.monotonic_us + 90_000)
        assert len(rows(connection)) == 1
        clock_ties.note(connection, 1, stamp(60, FREE), TRUE_US + 60 + 3)  # travelled less
        clock_ties.note(connection, 1, stamp(61, SYNCHRONISED), TRUE_US + 61 + 90_000)
        clock_ties.note(connection, 1, stamp(62, SYNCHRONISED, SECOND_US), None)
        clock_ties.note(connection, 1, stamp(63, SYNCHRONISED, SECOND_US), None)
        assert [at for at, _ in rows(connection)] == [SECOND_US, 60, 61, 62]


def test_a_clock_that_jumps_without_end_fills_nothing() -> None:
    with closing(with_tables()) as connection:
        for number in range(TIES_MAX * 3):
            clock_ties.note(connection, 1, stamp(number + 1, FREE, number * DAY_US), None)
        assert len(rows(connection)) == TIES_MAX
        boot = clock_ties.boot_clock(connection, "g1", BOOT)
        assert boot.best_us == TRUE_US + (TIES_MAX * 3 - 1) * DAY_US  # the newest word


def test_what_is_listed_is_corrected_also_when_it_was_stored_before(tmp_path: Path) -> None:
    log, clock = GatewayLog(), FixedClock()
    log.append(record(monotonic_s=10.0, clock=UNSET))
    log.append(record(monotonic_s=20.0, clock=FREE))
    set_at = Stamp(
        monotonic_us=40 * SECOND_US, boot_id=BOOT, wall_us=TRUE_US + 40 * SECOND_US,
        clock=SYNCHRONISED,
    )  # fmt: skip

    async def stored(*hellos: Stamp) -> None:
        async with Store(tmp_path, clock=clock) as store:
            await store.commit("g1", log.main(1, 2), clock.now())
            for hello in hellos:
                store.hello("g1", hello, clock.now())

    def listed() -> list[tuple[str, str]]:
        with closing(Listing(tmp_path)) as listing:
            return [(event["at"], event["at_basis"]) for event in listing.newest(None, 5)]

    asyncio.run(stored())
    assert listed()[0][1] == "received"
    asyncio.run(stored(set_at))
    assert listed() == [
        ("2026-09-21T14:13:30.000Z", "corrected"),
        ("2026-09-21T14:13:40.000Z", "gateway"),  # it was right already
    ]


def test_an_event_that_says_how_the_clock_was_set_corrects_a_boot_that_never_said_hello(
    tmp_path: Path,
) -> None:
    """A boot without any connection: what it recorded came with a later one."""
    log, clock = GatewayLog(), FixedClock()
    log.append(record(monotonic_s=10.0, clock=UNSET, boot_id="old"))
    log.append(
        record(monotonic_s=20.0, clock=FREE, boot_id="old", subkind="clock", point="gateway")
    )
    log.append(record(monotonic_s=5.0, boot_id=BOOT))

    async def stored() -> None:
        async with Store(tmp_path, clock=clock) as store:
            store.hello("g1", stamp(9 * SECOND_US, SYNCHRONISED), clock.now())
            await store.commit("g1", log.main(1, 1), clock.now())
            await store.commit("g1", log.main(2, 3), clock.now())

    asyncio.run(stored())
    with closing(Listing(tmp_path)) as listing:
        first = next(listing.newest(None, 5))
    assert (first["at"], first["at_basis"]) == ("2026-09-21T14:13:30.000Z", "corrected")
    assert first["stamped_at"] is None  # the evidence stays as it was
    with closing(schema.open_reader(tmp_path)[0]) as connection:
        ranks = connection.execute("SELECT boot_id FROM boot").fetchall()
    assert ranks == [(BOOT,)]  # the order of boots is that of their hellos alone
