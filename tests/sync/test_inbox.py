"""In which order the station acts on what many gateways say at once."""

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync import inbox
from sync.inbox import PASSING_MAX, Inbox

MESSAGES = st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=80)


def numbered(messages: list[tuple[bool, int]]) -> deque[list[bytes]]:
    """Return messages as frames: a mark of whether it may wait, a number, and some length."""
    return deque(
        [b"w" if waits else b"n", number.to_bytes(2), bytes(length)]
        for number, (waits, length) in enumerate(messages)
    )


def may_wait(frames: list[bytes]) -> bool:
    return frames[0] == b"w"


def taken(line: deque[list[bytes]]) -> list[list[bytes]]:
    box = Inbox[bytes](may_wait)
    result = []
    while (frames := box.next(lambda: line.popleft() if line else None)) is not None:
        result.append(frames)
    assert not box
    return result


def test_what_must_not_wait_passes_all_that_may() -> None:
    line = numbered([(True, 1)] * 1000 + [(False, 1)])
    assert [frames[0] for frames in taken(line)] == [b"n"] + [b"w"] * 1000


@given(MESSAGES)
def test_nothing_is_lost_or_doubled_and_each_kind_keeps_its_order(
    messages: list[tuple[bool, int]],
) -> None:
    came = list(numbered(messages))
    got = taken(numbered(messages))
    for kind in (b"w", b"n"):
        assert [each for each in got if each[0] == kind] == [
            each for each in came if each[0] == kind
        ]
    assert len(got) == len(came)


@given(MESSAGES, st.integers(1, 5), st.integers(1, 12))
def test_no_more_is_held_than_the_limits_say(
    messages: list[tuple[bool, int]], count: int, size: int
) -> None:
    line = numbered(messages)
    longest = max((sum(map(len, frames)) for frames in line), default=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbox, "WAITING_MAX", count)
        patch.setattr(inbox, "WAITING_BYTES_MAX", size)
        box = Inbox[bytes](may_wait)
        came, got, held = list(line), [], deque(line)
        while (frames := box.next(lambda: held.popleft() if held else None)) is not None:
            got.append(frames)
            waiting = [each for each in came if each not in got and each not in held]
            assert len(waiting) == len(box) <= count
            assert sum(len(part) for each in waiting for part in each) < size + longest
        assert sorted(got, key=lambda each: each[1]) == came


def test_a_flood_of_those_who_do_not_wait_stops_nobody() -> None:
    line = numbered([(True, 1)] * 5 + [(False, 1)] * 1000)
    places = [at for at, frames in enumerate(taken(line)) if frames[0] == b"w"]
    assert places[0] == PASSING_MAX
    assert {later - before for before, later in pairwise(places)} == {PASSING_MAX + 1}
