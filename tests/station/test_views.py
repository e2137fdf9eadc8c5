from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from station.views import event_text, plain


def event(**changes: Any) -> dict[str, Any]:
    return {
        "n": 7,
        "gateway": "house-1",
        "point": "door",
        "kind": "alarm",
        "subkind": "panic",
        "qualifier": "new",
        "value": None,
        "unit": "",
        "at": "2026-11-24T08:00:00.000Z",
        "clock": "synchronised",
        "urgent": True,
        "late": False,
        "volatile": False,
        "suspect": False,
        "readable": True,
        "text": "",
        **changes,
    }


def test_an_unknown_kind_is_shown_as_information_with_its_own_word_beside_it() -> None:
    shown = event_text(event(kind="levitation", subkind="low")).plain
    assert " information " in shown
    assert "levitation/low" in shown


def test_begin_and_end_differ_by_sign_and_word_not_by_colour_alone() -> None:
    begins = event_text(event()).plain
    ends = event_text(event(qualifier="restore")).plain
    assert ("●" in begins, "new" in begins) == (True, True)
    assert ("○" in ends, "restore" in ends) == (True, True)


def test_doubts_are_written_out() -> None:
    shown = event_text(event(late=True, volatile=True, clock="unset", readable=False)).plain
    for word in ("late", "volatile", "clock unset", "unreadable"):
        assert f"[{word}]" in shown


def test_an_event_without_a_time_says_so() -> None:
    assert "unknown time" in event_text(event(at=None, clock=None)).plain


@given(st.text())
def test_no_text_of_a_device_steers_the_terminal(text: str) -> None:
    shown = event_text(
        event(
            point=text, subkind=text, kind=text, qualifier=text, text=text, value=text, unit=text
        )
    ).plain
    assert all(letter.isprintable() for letter in shown)
    assert all(letter.isprintable() for letter in plain(text))
