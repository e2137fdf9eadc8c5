import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.volatile import VolatileLog
from events.chain import genesis
from events.errors import StoreFull
from events.replication import Entry, Lane
from tests.buffer.logs import alarm, check_chain, item


def test_it_is_a_log_of_its_own_and_says_that_it_is_volatile() -> None:
    one, other = VolatileLog(), VolatileLog()
    assert one.log_id != other.log_id
    assert (one.head.first, one.head.head, one.head.volatile) == (1, 0, True)
    assert one.head.chain == genesis(one.log_id)


@given(
    urgent=st.lists(st.booleans(), min_size=1, max_size=30),
    released=st.integers(0, 30),
    limit=st.integers(1, 2000),
)
def test_both_lanes_together_give_the_log_exactly(
    urgent: list[bool], released: int, limit: int
) -> None:
    log = VolatileLog()
    items = [alarm(n) if is_urgent else item(n) for n, is_urgent in enumerate(urgent, 1)]
    assert [log.append(each) for each in items] == list(range(1, len(items) + 1))
    log.release(released)
    gone = min(released, len(items))
    check_chain(log.log_id, log.read(Lane.MAIN, 0, limit_bytes=1 << 30))
    copies: dict[int, Entry] = {}
    at = 0
    while at < len(items):
        reading = log.read(Lane.URGENT, at, limit_bytes=limit)
        assert reading.through > at
        copies |= {entry.seq: entry for entry in reading.entries}
        at = reading.through
    assert list(copies) == [n for n, u in enumerate(urgent, 1) if u and n > gone]
    at = 0
    bodies: list[bytes | None] = []
    while at < len(items):
        reading = log.read(Lane.MAIN, at, limit_bytes=limit, bare_through=len(items))
        assert reading.through > at
        bodies += [
            copies[entry.seq].body if entry.body is None else entry.body
            for entry in reading.entries
        ]
        at = reading.through
    assert bodies == [each.body for each in items[gone:]]


def test_it_refuses_what_does_not_fit_and_never_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffer.volatile.VOLATILE_EVENTS_MAX", 2)
    log = VolatileLog()
    log.append(alarm(1))
    log.append(alarm(2))
    with pytest.raises(StoreFull):
        log.append(alarm(3))
    assert log.head.head == 2
    log.release(1)
    assert log.append(alarm(3)) == 3


def test_its_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buffer.volatile.VOLATILE_BYTES_MAX", 2 * len(alarm(1).body) + 10)
    log = VolatileLog()
    log.append(alarm(1))
    log.append(alarm(2))
    with pytest.raises(StoreFull):
        log.append(alarm(3))
    log.release(2)
    assert log.append(alarm(4)) == 3


def test_released_events_are_a_gap() -> None:
    log = VolatileLog()
    for n in range(1, 6):
        log.append(alarm(n))
    whole = log.read(Lane.MAIN, 0, limit_bytes=1 << 20)
    log.release(3)
    reading = log.read(Lane.MAIN, 1, limit_bytes=1 << 20)
    assert [(g.first, g.last, g.chain) for g in reading.gaps] == [(2, 3, whole.entries[2].chain)]
    assert [entry.seq for entry in reading.entries] == [4, 5]
    assert log.head.first == 4
