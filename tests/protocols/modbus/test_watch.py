"""What is recorded of a point: levels, thresholds, measurements, and levels at start."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.model import Observation
from protocols.modbus.map import Reading
from protocols.modbus.sections import Point
from protocols.modbus.watch import Evidence, Watch
from tests.protocols.modbus.world import Remembered, contact

EVIDENCE = Evidence(unit=3, fc=4, raw=b"\x03\x04\x02\x00\xfb", integrity=("crc",))


class Seen:
    def __init__(self, point: Point, stored: list[Observation] | None = None) -> None:
        self.watch = Watch(point, unit=3, source="bus", memory=Remembered(stored))

    def read(self, value: Any, at_s: float = 0.0) -> list[tuple[str, str, Any]]:
        """Feed a value; return kind, qualifier and value of what is recorded."""
        raw = "nan" if value is None else value
        return [
            (found.kind, found.qualifier, found.value)
            for found in self.watch.read(Reading(value=value, raw=raw), EVIDENCE, at_s)
            if found.subkind != "unwatched"
        ]


def temperature(**changes: Any) -> Point:
    return contact(
        "boiler", table="input", type="int16", unit="Cel", **{"subkind": "heat", **changes}
    )


def test_a_contact_gives_one_event_per_change() -> None:
    seen = Seen(contact())
    assert seen.read(False) == []
    assert seen.read(True) == [("alarm", "new", True)]
    assert seen.read(True) == []
    assert seen.read(False) == [("alarm", "restore", False)]


def test_a_normally_closed_contact_is_active_when_open() -> None:
    seen = Seen(contact(active=False))
    assert seen.read(True) == []
    assert seen.read(False) == [("alarm", "new", False)]


def test_a_number_without_threshold_holds_while_it_is_not_zero() -> None:
    seen = Seen(temperature())
    assert seen.read(0) == []
    assert seen.read(2) == [("alarm", "new", 2)]
    assert seen.read(5) == []
    assert seen.read(0) == [("alarm", "restore", 0)]


def test_the_first_reading_brings_the_unwatched_time_and_an_initial_change() -> None:
    watch = Watch(contact(), unit=3, source="bus", memory=Remembered())
    found = watch.read(Reading(value=True, raw=True), EVIDENCE, 0.0)
    assert [(each.kind, each.subkind, each.value) for each in found] == [
        ("information", "unwatched", True),
        ("alarm", "burglary", True),
    ]
    assert found[1].flags == ("initial",)
    assert watch.read(Reading(value=False, raw=False), EVIDENCE, 1.0)[0].flags == ()


@pytest.mark.parametrize("before", ["new", "restore"])
@pytest.mark.parametrize("now", [True, False])
def test_a_level_at_start_is_recorded_only_if_it_differs_from_the_stored_one(
    before: str, now: bool
) -> None:
    stored = Observation(point="door", kind="alarm", subkind="burglary", qualifier=before)
    found = Seen(contact(), [stored]).read(now)
    expected = "new" if now else "restore"
    assert found == ([] if before == expected else [("alarm", expected, now)])


def test_a_threshold_holds_until_the_value_is_back_by_more_than_the_hysteresis() -> None:
    seen = Seen(temperature(threshold=60, hysteresis=5))
    assert seen.read(59) == []
    assert seen.read(60) == [("alarm", "new", 60)]
    assert seen.read(56) == []
    assert seen.read(55) == []
    assert seen.read(54) == [("alarm", "restore", 54)]
    assert seen.read(59) == []


def test_a_threshold_may_lie_below() -> None:
    seen = Seen(temperature(threshold=4, side="below", hysteresis=1))
    assert seen.read(10) == []
    assert seen.read(4) == [("alarm", "new", 4)]
    assert seen.read(5) == []
    assert seen.read(6) == [("alarm", "restore", 6)]


def test_within_the_hysteresis_a_restart_keeps_the_stored_state() -> None:
    stored = Observation(point="boiler", kind="alarm", subkind="heat", qualifier="new")
    assert Seen(temperature(threshold=60, hysteresis=5), [stored]).read(57) == []
    assert Seen(temperature(threshold=60, hysteresis=5)).read(57) == []


@given(values=st.lists(st.integers(-50, 50), max_size=60), hysteresis=st.integers(0, 10))
def test_news_and_restores_alternate(values: list[int], hysteresis: int) -> None:
    seen = Seen(temperature(threshold=10, hysteresis=hysteresis))
    found = [each for value in values for each in seen.read(value)]
    assert [qualifier for _, qualifier, _ in found] == [
        ("new", "restore")[index % 2] for index in range(len(found))
    ]
    for _, qualifier, value in found:
        assert value >= 10 if qualifier == "new" else value < 10 - hysteresis


def measured(**changes: Any) -> Point:
    return temperature(kind="measurement", **changes)


def test_a_measurement_needs_a_change_and_is_not_stored_more_often_than_reported() -> None:
    seen = Seen(measured(deadband=5))
    assert seen.read(20, 0) == [("measurement", "new", 20)]
    assert seen.read(30, 59.9) == [], "too soon"
    assert seen.read(30, 60) == [("measurement", "new", 30)]
    assert seen.read(34, 500) == [], "too little"
    assert seen.read(35, 500) == [("measurement", "new", 35)]
    assert seen.read(35, 5000) == [], "no change at all"


def test_without_a_deadband_any_change_counts_and_none_does_not() -> None:
    seen = Seen(measured(report_s=0))
    assert seen.read(20, 0) != []
    assert seen.read(20, 1000) == []
    assert seen.read(21, 1000) != []


def test_rounding_does_not_swallow_a_change_of_exactly_the_deadband() -> None:
    seen = Seen(measured(deadband=0.5, report_s=0))
    assert seen.read(25.1, 0) != []
    assert seen.read(25.6, 1) != []


def test_a_measurement_that_crosses_its_threshold_is_stored_at_once() -> None:
    seen = Seen(measured(deadband=5, threshold=40, hysteresis=2))
    assert seen.read(39, 0) == [("measurement", "new", 39)]
    assert seen.read(40, 1) == [("measurement", "new", 40)]
    assert seen.read(39, 2) == []
    assert seen.read(37, 3) == [("measurement", "restore", 37)]


def test_a_measurement_at_start_is_held_against_the_stored_one() -> None:
    stored = Observation(point="boiler", kind="measurement", subkind="heat", value=20)
    assert Seen(measured(deadband=5), [stored]).read(22, 0) == []
    assert Seen(measured(deadband=5), [stored]).read(25, 0) == [("measurement", "new", 25)]


@given(
    readings=st.lists(st.tuples(st.integers(0, 100), st.floats(0.1, 30)), max_size=60),
    deadband=st.integers(0, 20),
)
def test_stored_measurements_are_apart_in_value_and_time(
    readings: list[tuple[int, float]], deadband: int
) -> None:
    seen = Seen(measured(deadband=deadband))
    now_s, stored = 0.0, []
    for value, step in readings:
        now_s += step
        stored += [(now_s, each[2]) for each in seen.read(value, now_s)]
    for (before_s, before), (after_s, after) in itertools.pairwise(stored):
        assert after_s - before_s >= 60
        assert abs(after - before) >= max(deadband, 1)


@pytest.mark.parametrize("point", [temperature(threshold=60), measured()])
def test_what_is_no_number_is_a_sensor_fault_and_never_a_normal_value(point: Point) -> None:
    seen = Seen(point)
    seen.read(70, 0)
    assert seen.read(None, 100) == [("fault", "new", None)]
    assert seen.read(None, 200) == []
    assert seen.read(70, 300) == [("fault", "restore", 70)], "the alarm held all the time"


def test_a_point_that_is_refused_is_a_fault_once_and_restored_once() -> None:
    watch = Watch(contact(), unit=3, source="bus", memory=Remembered())
    first = watch.unreadable(2, EVIDENCE)
    assert [(each.kind, each.subkind, each.qualifier) for each in first] == [
        ("fault", "communication", "new")
    ]
    assert first[0].native is not None
    assert first[0].native.code == "exception-2"
    assert watch.unreadable(2, EVIDENCE) == []
    found = watch.read(Reading(value=False, raw=False), EVIDENCE, 0.0)
    assert [(each.subkind, each.qualifier) for each in found] == [
        ("unwatched", "new"),
        ("communication", "restore"),
    ]


def test_an_observation_carries_where_it_came_from() -> None:
    point = temperature(address=7, threshold=60)
    watch = Watch(point, unit=3, source="bus", memory=Remembered())
    found = watch.read(Reading(value=61, raw=61), EVIDENCE, 0.0)[-1]
    assert found.source == "bus"
    assert found.address == {"unit": "3", "input-register": "7"}
    assert (found.value, found.unit, found.raw_value) == (61, "Cel", 61)
    assert found.raw == EVIDENCE.raw
    assert found.integrity == ("crc",)
    assert found.native is not None
    assert (found.native.scheme, found.native.code) == ("modbus", "4")
    assert found.native.fields == {"unit": 3, "fc": 4, "address": 7, "type": "int16"}
