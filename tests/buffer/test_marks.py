from hypothesis import given
from hypothesis import strategies as st

from buffer.marks import STATIONS_MAX, StationMarks
from events.replication import Lane

A, B, OTHER = "a" * 40, "b" * 40, "o" * 40


def test_every_required_station_holds_back_and_others_do_not() -> None:
    marks = StationMarks(frozenset({A, B}))
    marks.claim(A, Lane.MAIN, 10)
    marks.claim(OTHER, Lane.MAIN, 3)
    assert marks.by_all(Lane.MAIN) == 0
    marks.claim(B, Lane.MAIN, 7)
    assert marks.by_all(Lane.MAIN) == 7
    assert marks.by_any(Lane.MAIN) == 10


def test_without_a_required_station_nothing_goes_that_nobody_has() -> None:
    marks = StationMarks(frozenset())
    assert marks.by_all(Lane.MAIN) == 0
    marks.claim(OTHER, Lane.MAIN, 3)
    assert marks.by_all(Lane.MAIN) == 3


def test_a_station_that_goes_back_holds_back_again() -> None:
    marks = StationMarks(frozenset({A}))
    assert marks.claim(A, Lane.MAIN, 10)
    assert not marks.claim(A, Lane.MAIN, 10)
    assert marks.claim(A, Lane.MAIN, 4)
    assert marks.by_all(Lane.MAIN) == 4


def test_strangers_cannot_grow_the_table_without_bound() -> None:
    marks = StationMarks(frozenset())
    for n in range(10 * STATIONS_MAX):
        marks.claim(str(n), Lane.MAIN, 1)
    assert len(marks.all()) <= STATIONS_MAX * len(Lane)


@given(
    claims=st.lists(
        st.tuples(st.sampled_from([A, B, OTHER]), st.sampled_from(Lane), st.integers(0, 9))
    ),
    required=st.sets(st.sampled_from([A, B])),
    seq=st.integers(1, 9),
    urgent=st.booleans(),
)
def test_who_holds_an_event(
    claims: list[tuple[str, Lane, int]], required: set[str], seq: int, urgent: bool
) -> None:
    marks = StationMarks(frozenset(required))
    newest: dict[tuple[str, Lane], int] = {}
    for station, lane, stored in claims:
        marks.claim(station, lane, stored)
        newest[station, lane] = stored
    lanes = [Lane.MAIN, Lane.URGENT] if urgent else [Lane.MAIN]
    holders = {s for s in (A, B, OTHER) for lane in lanes if newest.get((s, lane), 0) >= seq}
    counted = holders & required if required else holders
    assert marks.holds_for_any(seq, urgent=urgent) is bool(counted)
    assert marks.holds_for_all(seq, urgent=urgent) is (
        required <= holders if required else bool(holders)
    )
