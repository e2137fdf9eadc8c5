from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events.model import Instant, Observation
from protocols.gpio.config import GpioPoint
from protocols.gpio.point import ContactPoint
from tests.protocols.gpio.memory import Remembered

MS = 1000


def config(**fields: Any) -> GpioPoint:
    base = {
        "id": "lobby/panic",
        "line": "ZONE-1",
        "contact": "no",
        "kind": "alarm",
        "subkind": "panic",
        "label": "Lobby",
        "qualify_ms": 50,
        "restore_ms": 200,
    }
    return msgspec.convert({**base, **fields}, GpioPoint)


def at(seconds: float) -> Instant:
    return Instant(monotonic=seconds)


def watched(point: GpioPoint, *past: Observation, level: bool, now: float = 10.0) -> ContactPoint:
    contact = ContactPoint(point, Remembered(*past))
    contact.start(level=level, now=at(now))
    return contact


def said(observations: list[Observation]) -> list[tuple[str, str, str]]:
    return [(seen.kind, seen.subkind, seen.qualifier) for seen in observations]


def test_a_press_and_a_release_are_told_with_the_time_of_their_first_edge() -> None:
    contact = watched(config(), level=True)
    assert contact.edge(level=False, at_us=11_000 * MS) == []
    assert contact.deadline() == 11.05
    (pressed,) = contact.timeout(at(11.05))
    assert (pressed.point, pressed.kind, pressed.subkind) == ("lobby/panic", "alarm", "panic")
    assert (pressed.qualifier, pressed.edge_us, pressed.value) == ("new", 11_000 * MS, True)
    assert (pressed.source, pressed.address, pressed.text) == ("gpio", {"line": "ZONE-1"}, "Lobby")
    assert pressed.native is not None
    assert (pressed.native.scheme, pressed.native.code) == ("gpio", "closed")
    assert pressed.native.fields == {"contact": "no", "level": 0}
    assert pressed.flags == ()
    contact.edge(level=True, at_us=12_000 * MS)
    (released,) = contact.timeout(at(12.2))
    assert (released.qualifier, released.edge_us, released.value) == (
        "restore",
        12_000 * MS,
        False,
    )
    assert released.native is not None
    assert (released.native.code, released.native.fields["level"]) == ("open", 1)


def test_a_cut_wire_makes_a_normally_closed_contact_active() -> None:
    contact = watched(config(contact="nc"), level=False)
    contact.edge(level=True, at_us=11_000 * MS)
    (cut,) = contact.timeout(at(11.05))
    assert cut.qualifier == "new"
    assert cut.native is not None
    assert cut.native.code == "open"


def test_the_first_start_says_that_nobody_watched_and_only_once() -> None:
    contact = ContactPoint(config(), Remembered())
    (unwatched,) = contact.start(level=False, now=at(3.0))
    assert (unwatched.kind, unwatched.subkind) == ("information", "unwatched")
    assert (unwatched.point, unwatched.value) == ("lobby/panic", True)
    assert unwatched.details["why"] == "first-start"
    assert contact.start(level=False, now=at(9.0)) == []


@given(st.sampled_from([None, "new", "restore"]), st.booleans())
def test_at_start_a_difference_is_an_event_and_equality_is_none(
    stored: str | None, pressed: bool
) -> None:
    past = (
        []
        if stored is None
        else [Observation(point="lobby/panic", kind="alarm", subkind="panic", qualifier=stored)]
    )
    contact = watched(config(), *past, level=not pressed)
    was_active = stored == "new"
    seen = contact.timeout(at(20.0))
    if pressed == was_active:
        assert seen == []
    else:
        assert said(seen) == [("alarm", "panic", "new" if pressed else "restore")]
        assert seen[0].flags == ("initial",)
        assert seen[0].edge_us == 10_000 * MS


def test_a_change_while_the_line_was_away_is_told_when_it_is_back() -> None:
    contact = watched(config(), level=True)
    contact.edge(level=False, at_us=10_010 * MS)
    contact.start(level=True, now=at(30.0))  # the run of before is not believed
    assert contact.timeout(at(40.0)) == []
    contact.start(level=False, now=at(50.0))
    (seen,) = contact.timeout(at(50.05))
    assert (seen.qualifier, seen.edge_us, seen.flags) == ("new", 50_000 * MS, ("initial",))


def test_a_storm_of_losses_is_one_fault_a_minute_and_one_end() -> None:
    contact = watched(config(), level=True)
    told: list[Observation] = []
    for tick in range(1500):  # a loss every 100 ms for 150 s
        now = 11.0 + tick / 10
        told += contact.edge(level=tick % 2 == 0, at_us=round(now * 1e6), lost=3)
        told += [seen for seen in contact.timeout(at(now)) if seen.kind == "fault"]
    assert [seen.qualifier for seen in told] == ["new", "still", "still"]
    assert told[0].details == {"lost_edges": 3, "gaps": 1}
    assert told[2].details["gaps"] == 1201
    assert {seen.point for seen in told} == {"lobby/panic"}
    early = contact.timeout(at(160.9 + 59.9))
    assert [seen for seen in early if seen.kind == "fault"] == []
    assert contact.deadline() == 160.9 + 60
    ended = [seen for seen in contact.timeout(at(300.0)) if seen.kind == "fault"]
    assert said(ended) == [("fault", "lost-edge", "restore")]
    assert ended[0].details == {"lost_edges": 4500, "gaps": 1500}
    assert contact.timeout(at(400.0)) == []


def test_a_fault_left_by_an_earlier_run_ends_after_a_quiet_minute() -> None:
    past = Observation(point="lobby/panic", kind="fault", subkind="lost-edge")
    contact = watched(config(), past, level=True)
    assert contact.timeout(at(10.0)) == []
    assert contact.deadline() == 70.0
    assert said(contact.timeout(at(70.0))) == [("fault", "lost-edge", "restore")]


def test_an_edge_only_read_back_is_told_as_lost() -> None:
    contact = watched(config(qualify_ms=500), level=True)
    assert contact.reading(level=False, now=at(11.0)) == []
    assert said(contact.reading(level=False, now=at(11.1))) == [("fault", "lost-edge", "new")]


def test_faults_of_the_line_are_told_once_and_remembered_over_a_restart() -> None:
    contact = ContactPoint(config(), Remembered())
    (fault,) = contact.line_fault("held by 'other'")
    assert (fault.kind, fault.subkind, fault.qualifier) == ("fault", "line", "new")
    assert fault.text == "held by 'other'"
    assert contact.line_fault("still held") == []
    again = ContactPoint(config(), Remembered(fault))
    assert again.line_fault("held") == []
    assert said(again.line_fault("")) == [("fault", "line", "restore")]
    assert said(again.pull_fault("no pull-up")) == [("fault", "configuration", "new")]
    assert again.status()["fault"] == "configuration"
    assert said(again.pull_fault("")) == [("fault", "configuration", "restore")]
