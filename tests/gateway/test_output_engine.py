"""What an output is to be, under any order of orders, losses and time."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import UsageError
from events.kinds import Kind
from events.model import Instant, Observation
from gateway.output_config import Output
from gateway.output_engine import OutputEngine
from tests.protocols.modbus.world import Remembered

SIREN = Output(id="siren", pin=17, subkind="sounder", pulse_max_s=30.0)
LOCK = Output(id="lock", pin=18, fail_safe="on")


def at(monotonic: float) -> Instant:
    return Instant(monotonic=monotonic)


def engine(*stored: Observation) -> OutputEngine:
    return OutputEngine((SIREN, LOCK), Remembered(list(stored)))


def told(outputs: OutputEngine) -> list[tuple[str, str, object]]:
    return [(o.point, o.qualifier, o.details["why"]) for o in outputs.observations()]


def test_it_begins_in_the_fail_safe_state_and_says_so_once() -> None:
    outputs = engine()
    assert (outputs.level("siren"), outputs.level("lock")) == (False, True)
    outputs.driven("siren", on=False, now=at(1))
    outputs.driven("lock", on=True, now=at(1))
    outputs.driven("lock", on=True, now=at(2))
    assert told(outputs) == [("siren", "restore", "start"), ("lock", "new", "start")]


def test_a_level_that_is_stored_already_is_no_event_and_another_one_is() -> None:
    stored = Observation(point="siren", kind=Kind.OUTPUT, subkind="sounder", qualifier="restore")
    lasting = Observation(point="lock", kind=Kind.OUTPUT, qualifier="restore")
    outputs = engine(stored, lasting)
    outputs.driven("siren", on=False, now=at(1))
    outputs.driven("lock", on=True, now=at(1))  # it was released when the program was killed
    (event,) = outputs.observations()
    assert (event.point, event.qualifier, event.flags) == ("lock", "new", ())


def test_a_pulse_counts_from_the_switching_and_ends_by_itself() -> None:
    outputs = engine()
    outputs.driven("siren", on=False, now=at(0))
    outputs.observations()
    outputs.pulse("siren", 5.0, why={"why": "command", "by": "wang"})
    assert outputs.level("siren")
    assert outputs.deadline() is None  # a slow bus takes nothing off it
    outputs.driven("siren", on=True, now=at(100))
    assert outputs.deadline() == 105
    outputs.timeout(at(104.999))
    assert outputs.level("siren")
    outputs.timeout(at(105))
    assert not outputs.level("siren")
    outputs.driven("siren", on=False, now=at(105.01))
    new, restore = outputs.observations()
    assert (new.qualifier, new.details) == ("new", {"why": "command", "by": "wang"})
    assert (restore.qualifier, restore.details) == ("restore", {"why": "pulse-end", "by": "wang"})


def test_a_second_pulse_begins_anew_and_clear_ends_it() -> None:
    outputs = engine()
    outputs.pulse("siren", 5.0, why={"why": "a"})
    outputs.driven("siren", on=True, now=at(0))
    outputs.pulse("siren", 5.0, why={"why": "b"})
    outputs.driven("siren", on=True, now=at(3))
    assert outputs.deadline() == 8
    outputs.set("siren", on=False, why={"why": "c"})
    assert (outputs.level("siren"), outputs.deadline()) == (False, None)


@pytest.mark.parametrize("duration_s", [0, -1, 30.1, float("inf"), float("nan")])
def test_a_pulse_has_its_bound(duration_s: float) -> None:
    outputs = engine()
    with pytest.raises(UsageError):
        outputs.pulse("siren", duration_s, why={"why": "command"})
    assert not outputs.level("siren")


def test_a_pulse_of_what_is_on_is_refused() -> None:
    with pytest.raises(UsageError, match="is on"):
        engine().pulse("lock", 1.0, why={"why": "command"})


def test_an_unknown_output_is_named_with_those_that_are() -> None:
    with pytest.raises(UsageError) as refused:
        engine().set("door", on=True, why={})
    assert "siren, lock" in refused.value.hint


def test_after_a_lost_line_no_pulse_goes_on() -> None:
    outputs = engine()
    outputs.pulse("siren", 5.0, why={"why": "command"})
    outputs.driven("siren", on=True, now=at(0))
    outputs.lost("siren")
    assert (outputs.level("siren"), outputs.deadline()) == (False, None)


def test_stopping_returns_everything() -> None:
    outputs = engine()
    outputs.set("siren", on=True, why={"why": "command"})
    outputs.set("lock", on=False, why={"why": "command"})
    outputs.stop()
    assert (outputs.level("siren"), outputs.level("lock")) == (False, True)


STEPS = st.lists(
    st.sampled_from(["set", "clear", "pulse", "drive", "lose", "later", "release"]), max_size=40
)


@given(STEPS)
def test_events_alternate_and_the_last_one_is_what_was_switched_last(steps: list[str]) -> None:
    outputs = engine()
    now, switched, pulse_began = 0.0, None, None
    for step in steps:
        now += 1.0
        outputs.timeout(at(now))
        match step:
            case "set" | "clear":
                outputs.set("siren", on=step == "set", why={"why": step})
                pulse_began = None
            case "pulse" if not outputs.level("siren"):
                outputs.pulse("siren", 3.0, why={"why": step})
            case "drive":
                switched = outputs.level("siren")
                outputs.driven("siren", on=switched, now=at(now))
                pulse_began = now if switched and outputs.deadline() else None
            case "lose":
                outputs.lost("siren")
            case "release":
                outputs.release("siren", why={"why": step})
            case "pulse":
                continue
            case _:
                now += 10
                outputs.timeout(at(now))
                if pulse_began is not None:
                    assert not outputs.level("siren")
    qualifiers = [o.qualifier for o in outputs.observations()]
    assert all(a != b for a, b in pairwise(qualifiers))
    if switched is not None:
        assert qualifiers[-1] == ("new" if switched else "restore")
