import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.calendar import month_bounds, month_of
from events.errors import UsageError
from station import schema
from station.attendance import read, table
from station.availability import Availability, Presence, availability
from station.store import Store
from tests.station.gateway_log import FixedClock
from tests.station.site import Site

PERIOD = (0, 1_000_000)


def there(began_us: int, ended_us: int, *, lost: bool) -> Presence:
    return Presence(began_us=began_us, ended_us=ended_us, lost=lost)


def found(runs: list[tuple[int, int]], presences: list[Presence]) -> Availability:
    result = availability(runs, presences, PERIOD)
    assert result is not None
    return result


def test_a_loss_counts_from_the_last_word_to_the_first() -> None:
    part = found([(0, 1000)], [there(0, 400, lost=True), there(500, 1000, lost=False)])
    assert (part.up_us, part.lost_us, part.losses, part.longest_us) == (900, 100, 1, 100)
    assert part.ratio == 0.9
    assert part.unknown_us == PERIOD[1] - 1000


def test_the_station_s_own_downtime_is_nobody_s_loss() -> None:
    runs = [(0, 400), (600, 1000)]
    stopped = found(runs, [there(0, 400, lost=False), there(605, 1000, lost=False)])
    assert (stopped.up_us, stopped.lost_us) == (795, 0)
    lost_before = found(runs, [there(0, 300, lost=True), there(700, 1000, lost=False)])
    assert (lost_before.up_us, lost_before.lost_us) == (600, 200)  # 300-400 and 600-700
    lost_meanwhile = found(
        runs, [there(0, 400, lost=False), there(600, 600, lost=True), there(900, 1000, lost=False)]
    )
    assert (lost_meanwhile.up_us, lost_meanwhile.lost_us) == (500, 300)


def test_who_was_never_heard_has_no_availability() -> None:
    assert availability([(0, 1000)], [], PERIOD) is None
    later = [there(2_000_000, 3_000_000, lost=False)]
    assert availability([(0, 3_000_000)], later, PERIOD) is None


def test_what_is_not_known_is_no_number() -> None:
    part = found([], [there(0, 0, lost=False)])
    assert (part.ratio, part.unknown_us) == (None, PERIOD[1])


intervals = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 300)), max_size=12)


@given(intervals, st.lists(st.tuples(st.integers(-50, 400), st.integers(0, 300), st.booleans())))
def test_no_moment_counts_twice(
    runs: list[tuple[int, int]], steps: list[tuple[int, int, bool]]
) -> None:
    """Also where clocks were set back between two intervals."""
    presences, at_us = [], 0
    for gap, length, lost in steps:
        at_us = max(0, at_us + gap)
        presences.append(there(at_us, at_us + length, lost=lost))
        at_us += length
    period = (100, 1500)
    part = availability([(began, began + length) for began, length in runs], presences, period)
    if part is not None:
        assert min(part.up_us, part.lost_us, part.unknown_us) >= 0
        assert part.up_us + part.lost_us + part.unknown_us <= period[1] - period[0]
        assert part.longest_us <= part.lost_us


def test_intervals_survive_restarts_and_kills(tmp_path: Path) -> None:
    clock = FixedClock()

    async def run(work: Callable[[Store], object]) -> None:
        async with Store(tmp_path, clock=clock) as store:
            await store.remember("g1")
            await work(store)  # type: ignore[misc]

    async def first(store: Store) -> None:
        await store.attend(1000, {"g1": 1000}, [])
        await store.attend(2000, {"g1": 1990}, [])
        await store.attend(3000, {}, ["g1"])
        await store.attend(4000, {"g1": 3500}, [])

    async def second(store: Store) -> None:
        await store.attend(10_000, {}, [])
        await store.attend(11_000, {}, ["g1"])  # never heard in this run
        await store.attend(12_000, {"g1": 11_500}, [])
        store.pause_attendance()  # stood still
        await store.attend(20_000, {"g1": 19_000}, [])
        await store.attend(21_000, {"g1": 21_000}, [])

    asyncio.run(run(first))
    asyncio.run(run(second))
    with closing(schema.open_reader(tmp_path)[0]) as connection:
        rows = connection.execute("SELECT began_us, ended_us, lost FROM presence").fetchall()
        runs = connection.execute("SELECT began_us, ended_us FROM station_run").fetchall()
        part = read(connection, (0, 21_000))["g1"]
    assert runs == [(1000, 4000), (10_000, 12_000), (20_000, 21_000)]
    assert rows == [
        (1000, 1990, 1), (3500, 3500, 0), (10_000, 10_000, 1), (11_500, 11_500, 0),
        (19_000, 21_000, 0),
    ]  # fmt: skip
    assert part is not None
    assert (part.up_us, part.lost_us, part.losses) == (990 + 1000, 1510 + 1500, 2)


@pytest.mark.parametrize(("month", "days"), [("2026-02", 28), ("2028-02", 29), ("2026-12", 31)])
def test_a_month_is_as_long_as_it_is(month: str, days: int) -> None:
    began_us, ended_us = month_bounds(month)
    assert ended_us - began_us == days * 86_400_000_000
    assert (month_of(began_us), month_of(ended_us - 1)) == (month, month)


def test_what_is_no_month_is_said(tmp_path: Path) -> None:
    for text in ("2026-13", "november", "2026", "2026-11-01"):
        with pytest.raises(UsageError):
            table(tmp_path, text)


def test_the_command_reads_the_file_of_a_station_that_is_down(tmp_path: Path) -> None:
    site = Site(tmp_path)
    began_us, _ = month_bounds("2026-03")

    async def fill() -> None:
        async with Store(tmp_path / "data", clock=FixedClock()) as store:
            await store.remember("never")
            await store.remember("house")
            await store.attend(began_us, {"house": began_us}, [])
            await store.attend(began_us + 90_000_000, {"house": began_us + 90_000_000}, [])
            await store.attend(began_us + 99_000_000, {}, ["house"])
            await store.attend(began_us + 100_000_000, {"house": began_us + 100_000_000}, [])

    asyncio.run(fill())
    done = site.command("availability", "--month", "2026-03", "--json")
    assert done.returncode == 0, done.stderr
    house, never = json.loads(done.stdout)
    assert (house["name"], house["availability"], house["lost_s"]) == ("house", 0.9, 10.0)
    assert (never["availability"], never["up_s"]) == (None, 0.0)
    shown = site.command("availability", "--month", "2026-03").stdout
    assert "90.000 %" in shown
    assert "not known" in shown
