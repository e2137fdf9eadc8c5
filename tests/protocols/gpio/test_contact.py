"""The qualification of a contact: recorded runs, and every way to cheat it with time."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.gpio.contact import CONFIRM_US, Change, Contact, replay

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "contact" / "contact_edges.json").read_text()
)
MS = 1000


@dataclass(frozen=True)
class Wave:
    """What really happened on a contact at rest: its level changes, and when we look away."""

    edges: tuple[tuple[bool, int], ...]
    end_us: int

    def level(self, at_us: int) -> bool:
        return next((level for level, edge_us in reversed(self.edges) if edge_us <= at_us), False)


@st.composite
def waves(draw: st.DrawFn) -> Wave:
    """Alternating levels with stretches around, far below and far above the holding times."""
    stretches = draw(st.lists(st.integers(1, 700 * MS), max_size=30))
    at_us, level, edges = draw(st.integers(1, 10**12)), True, []
    for stretch in stretches:
        edges.append((level, at_us))
        at_us, level = at_us + stretch, not level
    return Wave(tuple(edges), at_us + draw(st.integers(0, 1000 * MS)))


holds = st.integers(1, 500 * MS)


def held_stretches(wave: Wave, qualify_us: int, restore_us: int) -> list[Change]:
    """Return the changes of a wave, found from its stretches and not from its edges."""
    changes: list[Change] = []
    reported = False
    ends = [at_us for _, at_us in wave.edges[1:]] + [wave.end_us]
    for (level, begin_us), end_us in zip(wave.edges, ends, strict=False):
        hold_us = qualify_us if level else restore_us
        if level is not reported and end_us - begin_us >= hold_us:
            changes.append(Change(active=level, edge_us=begin_us, qualified_us=begin_us + hold_us))
            reported = level
    return changes


def started(qualify_us: int, restore_us: int, wave: Wave) -> Contact:
    contact = Contact(qualify_us=qualify_us, restore_us=restore_us)
    contact.start(active=False, now_us=wave.edges[0][1] - 1 if wave.edges else 0)
    return contact


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
def test_recorded_runs_report_what_the_panels_manuals_say(vector: dict[str, Any]) -> None:
    changes = replay(
        [(bool(level), round(at_ms * MS)) for at_ms, level in vector["edges_ms"]],
        qualify_us=vector["qualify_ms"] * MS,
        restore_us=vector["restore_ms"] * MS,
        end_us=vector["end_ms"] * MS,
    )
    assert [
        {
            "edge_ms": change.edge_us / MS,
            "reported_ms": change.qualified_us / MS,
            "state": "active" if change.active else "normal",
        }
        for change in changes
    ] == vector["expect"]


@given(waves(), holds, holds)
def test_exactly_the_stretches_that_held_are_reported_in_order(
    wave: Wave, qualify_us: int, restore_us: int
) -> None:
    changes = replay(wave.edges, qualify_us=qualify_us, restore_us=restore_us, end_us=wave.end_us)
    assert changes == held_stretches(wave, qualify_us, restore_us)


@given(waves(), holds, holds, st.data())
def test_no_interleaving_of_timeouts_and_readings_changes_the_reports(
    wave: Wave, qualify_us: int, restore_us: int, data: st.DataObject
) -> None:
    begin_us = wave.edges[0][1] if wave.edges else 0
    looks = data.draw(st.lists(st.integers(begin_us, wave.end_us), max_size=40))
    contact = started(qualify_us, restore_us, wave)
    changes: list[Change] = []
    happenings = sorted(
        [(at_us, 0, level) for level, at_us in wave.edges]
        + [(at_us, 1, wave.level(at_us)) for at_us in looks]
        + [(wave.end_us, 2, wave.level(wave.end_us))]
    )
    for at_us, what, level in happenings:
        if what == 0:
            changes += contact.edge(active=level, at_us=at_us)
        else:
            contact.reading(active=level, now_us=at_us)
            changes += contact.timeout(at_us)
            assert contact.timeout(at_us) == []
    assert changes == held_stretches(wave, qualify_us, restore_us)
    assert contact.counters.lost_edges == 0


@given(waves(), holds, holds, st.data())
def test_a_level_read_before_its_edge_arrives_changes_nothing(
    wave: Wave, qualify_us: int, restore_us: int, data: st.DataObject
) -> None:
    contact = started(qualify_us, restore_us, wave)
    changes: list[Change] = []
    for index, (level, at_us) in enumerate(wave.edges):
        end_us = wave.edges[index + 1][1] if index + 1 < len(wave.edges) else wave.end_us
        late_us = data.draw(st.integers(0, min(CONFIRM_US - 1, end_us - at_us)))
        contact.reading(active=level, now_us=at_us + late_us)
        changes += contact.edge(active=level, at_us=at_us)
    changes += contact.timeout(wave.end_us)
    assert changes == held_stretches(wave, qualify_us, restore_us)
    assert contact.counters.lost_edges == 0


@given(waves(), holds, holds, st.data())
def test_with_edges_lost_the_final_level_still_reports(
    wave: Wave, qualify_us: int, restore_us: int, data: st.DataObject
) -> None:
    contact = started(qualify_us, restore_us, wave)
    heard = data.draw(st.lists(st.booleans(), min_size=len(wave.edges), max_size=len(wave.edges)))
    changes: list[Change] = []
    for (level, at_us), comes in zip(wave.edges, heard, strict=True):
        if comes:
            changes += contact.edge(active=level, at_us=at_us)
    final = wave.level(wave.end_us)
    believed = contact.active
    for step in range(20):
        now_us = wave.end_us + step * 100 * MS
        contact.reading(active=final, now_us=now_us)
        changes += contact.timeout(now_us)
    assert contact.reported is final
    assert (contact.counters.lost_edges > 0) == (believed is not final)
    assert all(one.active is not two.active for one, two in pairwise(changes))


@given(waves(), holds, holds, st.integers(1, 500), st.integers(0, 600 * MS))
def test_after_missed_edges_the_run_begins_again(
    wave: Wave, qualify_us: int, restore_us: int, lost: int, later_us: int
) -> None:
    contact = started(qualify_us, restore_us, wave)
    for level, at_us in wave.edges:
        contact.edge(active=level, at_us=at_us)
    reported = contact.reported
    after_us = wave.end_us + later_us
    assert contact.edge(active=not reported, at_us=after_us, lost=lost) == []
    hold_us = restore_us if reported else qualify_us
    assert contact.timeout(after_us + hold_us - 1) == []
    assert contact.timeout(after_us + hold_us) == [
        Change(active=not reported, edge_us=after_us, qualified_us=after_us + hold_us)
    ]
    assert (contact.counters.lost_edges, contact.counters.gaps) == (lost, 1)


def test_mains_hum_of_a_minute_reports_nothing() -> None:
    contact = Contact(qualify_us=20 * MS, restore_us=20 * MS)
    contact.start(active=False, now_us=0)
    changes: list[Change] = []
    for half_wave in range(1, 6000):
        changes += contact.timeout(half_wave * 10 * MS)
        changes += contact.edge(active=half_wave % 2 == 1, at_us=half_wave * 10 * MS)
    assert changes == []
    assert contact.counters.edges == 5999


@given(st.booleans(), st.booleans(), holds)
def test_a_level_found_at_start_is_reported_when_it_differs_and_held(
    reported: bool, found: bool, hold_us: int
) -> None:
    contact = Contact(qualify_us=hold_us, restore_us=hold_us, reported=reported)
    contact.start(active=found, now_us=7)
    assert contact.deadline() == (None if reported is found else (7 + hold_us) / 1e6)
    expected = (
        []
        if reported is found
        else [Change(active=found, edge_us=7, qualified_us=7 + hold_us, initial=True)]
    )
    assert contact.timeout(7 + hold_us) == expected


def test_an_edge_that_was_only_read_back_counts_as_lost_once_confirmed() -> None:
    contact = Contact(qualify_us=250 * MS, restore_us=250 * MS)
    contact.start(active=False, now_us=0)
    contact.reading(active=True, now_us=100 * MS)
    assert contact.counters.lost_edges == 0
    contact.reading(active=True, now_us=200 * MS)
    contact.reading(active=True, now_us=300 * MS)
    assert (contact.counters.lost_edges, contact.counters.gaps) == (1, 1)
    assert contact.timeout(350 * MS) == [
        Change(active=True, edge_us=100 * MS, qualified_us=350 * MS)
    ]


def test_a_pulse_whose_end_was_only_read_back_does_not_report() -> None:
    contact = Contact(qualify_us=250 * MS, restore_us=250 * MS)
    contact.start(active=False, now_us=0)
    contact.edge(active=True, at_us=1000 * MS)
    contact.reading(active=False, now_us=1250 * MS)
    assert contact.timeout(1250 * MS) == []
    contact.reading(active=False, now_us=1350 * MS)
    assert contact.timeout(1350 * MS) == []
    assert contact.counters.lost_edges == 1


def test_a_pulse_that_held_reports_although_its_end_was_read_before_it_was_heard() -> None:
    contact = Contact(qualify_us=250 * MS, restore_us=250 * MS)
    contact.start(active=False, now_us=0)
    contact.edge(active=True, at_us=1000 * MS)
    contact.reading(active=False, now_us=1261 * MS)  # the loop was late
    assert contact.edge(active=False, at_us=1260 * MS) == [
        Change(active=True, edge_us=1000 * MS, qualified_us=1250 * MS)
    ]
    assert contact.timeout(1510 * MS) == [
        Change(active=False, edge_us=1260 * MS, qualified_us=1510 * MS)
    ]
    assert contact.counters.lost_edges == 0
