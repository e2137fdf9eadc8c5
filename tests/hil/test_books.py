import math

from hil.account import Row, settle
from hil.books import Era, contact_books, module_books, panel_book, watches
from hil.parts.journal import Entry

WALL_S = 1_800_000_000.0
ERA = Era(lives=((0.0, math.inf),), live=((0.0, math.inf),), end_s=100.0, wall_s=WALL_S)
BUTTON = {"button": ("button", "alarm", "panic")}


def entry(at_s: float, event: str, **other: object) -> Entry:
    return Entry(at_s=at_s, device="device", event=event, **other)  # type: ignore[arg-type]


def watched(*more: Entry) -> list[Entry]:
    return [
        entry(0.0, "level", point="button", on=False),
        entry(1.0, "joined"),
        entry(1.1, "watching"),
        *more,
    ]


def test_a_press_that_held_is_accepted_from_the_end_of_its_qualification() -> None:
    entries = watched(entry(5.0, "level", point="button", on=True))
    (book,) = contact_books("g", entries, BUTTON, ERA, qualify_s=0.25)
    *_, press = book.signals
    assert (press.required, press.live, press.since_s) == (True, True, WALL_S + 5.25)
    assert book.finals == {BUTTON["button"]: True}
    assert (book.input, book.points) == ("contact", frozenset({"button"}))


def test_a_watch_lasts_from_the_answer_to_the_end_of_the_connection() -> None:
    entries = [
        entry(1.0, "joined"),
        entry(1.5, "watching"),
        entry(2.0, "ended"),
        entry(3.0, "joined"),
        entry(4.0, "ended"),
        entry(5.0, "joined"),
        entry(5.5, "watching"),
    ]
    found = [(w.joined_s, w.watching_s, w.ended_s) for w in watches(entries, ERA)]
    assert found == [(1.0, 1.5, 2.0), (3.0, 4.0, 4.0), (5.0, 5.5, 100.0)]


def test_a_press_that_nobody_watched_is_not_accepted() -> None:
    entries = [
        entry(0.0, "level", point="button", on=False),
        entry(5.0, "level", point="button", on=True),
    ]
    (book,) = contact_books("g", entries, BUTTON, ERA, qualify_s=0.25)
    assert (book.signals, book.finals) == ((), {})


def test_a_register_is_accepted_from_the_answer_that_first_said_it() -> None:
    entries = [
        entry(0.0, "level", point="button", on=False),
        *(entry(at_s, "answered", point="button", on=False) for at_s in (0.2, 0.4)),
        entry(5.0, "level", point="button", on=True),
        *(entry(at_s, "answered", point="button", on=True) for at_s in (5.1, 5.3)),
    ]
    (book,) = module_books("g", entries, BUTTON, ERA)
    *_, press = book.signals
    assert (press.required, press.since_s) == (True, WALL_S + 5.1)


def test_an_answer_tells_of_the_level_that_was_read_for_it() -> None:
    entries = [
        entry(0.0, "level", point="button", on=False),
        *(entry(at_s, "answered", point="button", on=False) for at_s in (0.2, 0.4)),
        entry(5.0, "level", point="button", on=True),
        entry(5.2, "level", point="button", on=False),
        entry(5.204, "answered", point="button", on=True, read_s=5.199),
        *(entry(at_s, "answered", point="button", on=False) for at_s in (5.4, 5.6)),
    ]
    (book,) = module_books("g", entries, BUTTON, ERA)
    told = [(signal.qualifier, signal.required) for signal in book.signals]
    assert told == [("restore", False), ("new", False), ("restore", False)]


def test_each_message_of_a_panel_is_one_signal_however_often_it_was_sent() -> None:
    entries = [
        entry(1.0, "sent", point="button", text="new"),
        entry(5.0, "repeated", point="button", text="new"),
        entry(5.1, "acknowledged"),
        entry(6.0, "sent", point="button", text="restore"),
        entry(7.0, "acknowledged"),
        entry(8.0, "sent", point="button", text="new"),
    ]
    book = panel_book("g", "receiver", entries, BUTTON, ERA)
    assert [(s.qualifier, s.required) for s in book.signals] == [
        ("new", True),
        ("restore", True),
        ("new", False),
    ]
    assert book.finals == {}
    assert [s.since_s - WALL_S for s in book.signals] == [1.0, 6.0, 8.0]


def test_an_unanswered_message_followed_by_another_stays_unanswered() -> None:
    entries = [
        entry(1.0, "sent", point="button", text="new"),
        entry(2.0, "sent", point="button", text="restore"),
        entry(3.0, "acknowledged"),
    ]
    book = panel_book("g", "receiver", entries, BUTTON, ERA)
    assert [s.required for s in book.signals] == [False, True]


def test_books_and_rows_settle() -> None:
    entries = watched(entry(5.0, "level", point="button", on=True))
    row = Row(
        n=1,
        gateway="g",
        log_id="log",
        seq=1,
        point="button",
        kind="alarm",
        subkind="panic",
        qualifier="new",
        received_at="2027-01-15T08:00:05.260Z",
    )
    books = contact_books("g", entries, BUTTON, ERA, qualify_s=0.25)
    account = settle(books, [row])
    assert account.ok
    assert account.delays["contact"].p50_ms == 10.0
    assert not settle(books, []).ok
