import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import chain
from events.calendar import parse_rfc3339, rfc3339
from events.kinds import Kind, is_urgent, shown_kind
from events.points import is_point, segment


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_is_shown_as_itself(kind: Kind) -> None:
    assert shown_kind(kind) == kind


def test_an_unknown_kind_is_shown_as_information() -> None:
    assert shown_kind("of-tomorrow") == "information"


@pytest.mark.parametrize("kind", list(Kind))
def test_alarm_and_tamper_are_urgent_and_any_configured_point(kind: Kind) -> None:
    assert is_urgent(kind, configured=False) == (kind in {"alarm", "tamper"})
    assert is_urgent(kind, configured=True)


@pytest.mark.parametrize("text", ["door-1", "panel/1234/005", "a", "0/-"])
def test_points_in_form(text: str) -> None:
    assert is_point(text)


@pytest.mark.parametrize("text", ["", "Door", "a//b", "/a", "a/", "a b", "ü", "a\n", "x" * 201])
def test_points_out_of_form(text: str) -> None:
    assert not is_point(text)


@given(st.text(max_size=30))
def test_any_text_makes_a_segment(text: str) -> None:
    assert is_point(segment(text))


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_calendar_round_trip_to_the_millisecond(wall_us: int) -> None:
    text = rfc3339(wall_us)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    assert parse_rfc3339(text) == wall_us // 1000 * 1000


@given(st.integers())
def test_no_clock_value_breaks_a_list(wall_us: int) -> None:
    assert rfc3339(wall_us).endswith("Z")


def test_the_chain_has_not_moved() -> None:
    start = chain.genesis("log-1")
    assert start.hex() == "70f3a2ec85997d336d4d50663f76a56b"
    assert chain.link(start, 1, b"body").hex() == "d16dfd1946aa0f330781450eddc38c41"


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=6), st.data())
def test_any_change_to_a_log_changes_every_later_value(
    bodies: list[bytes], data: st.DataObject
) -> None:
    def values(log: list[bytes]) -> list[bytes]:
        value, result = chain.genesis("log"), []
        for seq, body in enumerate(log, start=1):
            value = chain.link(value, seq, body)
            result.append(value)
        return result

    at = data.draw(st.integers(0, len(bodies) - 1))
    changed = [*bodies]
    changed[at] = data.draw(st.binary(max_size=20).filter(lambda body: body != bodies[at]))
    before, after = values(bodies), values(changed)
    assert before[:at] == after[:at]
    assert all(one != other for one, other in zip(before[at:], after[at:], strict=True))
