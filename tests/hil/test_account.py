"""An account of honest ledgers, of logs in parts, and how signals are aligned."""

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.calendar import rfc3339
from hil.account import Book, Row, align, percentile, settle
from tests.hil.worlds import GATEWAYS, book, ledger, numbered, row, signal, worlds


@given(worlds)
def test_an_honest_ledger_passes(world: tuple[list[Book], random.Random]) -> None:
    made, draw = world
    account = settle(made, ledger(made, draw))
    assert account.findings == ()
    assert account.recorded == account.accepted
    assert account.states_right == account.states
    assert account.ok == (account.accepted > 0)


@given(worlds)
def test_arrival_order_does_not_matter(world: tuple[list[Book], random.Random]) -> None:
    made, draw = world
    rows = ledger(made, draw)
    shuffled = draw.sample(rows, len(rows))
    assert settle(made, numbered(shuffled)).findings == ()


def test_a_gateways_second_log_follows_its_first() -> None:
    made = [
        book(
            "building-1",
            "button-0",
            tuple(signal("button-0", q, at=i) for i, q in enumerate(("new", "restore", "new"))),
        )
    ]
    rows = [
        row("building-1", 1, "button-0", "alarm", "panic", "new", 1),
        row("building-1", 2, "button-0", "alarm", "panic", "restore", 2),
        msgspec.structs.replace(
            row("building-1", 1, "button-0", "alarm", "panic", "new", 3), log_id="another"
        ),
    ]
    assert settle(made, numbered(rows)).ok


def test_an_account_of_nothing_is_not_ok() -> None:
    assert not settle([], []).ok


def test_the_stations_own_events_belong_to_no_device() -> None:
    made = [book("building-1", "button-0", (signal("button-0", "new", at=1),))]
    lost = Row(
        n=2,
        gateway="building-1",
        point="gateway",
        kind="fault",
        subkind="gateway-lost",
        qualifier="new",
        received_at="2026-11-24T08:00:00.000Z",
    )
    rows = [
        msgspec.structs.replace(row("building-1", 1, "button-0", "alarm", "panic", "new", 1), n=1)
    ]
    assert settle(made, [*rows, lost]).ok


def test_delays_count_live_signals_only() -> None:
    live = signal("button-0", "new", at=100.0)
    kept = msgspec.structs.replace(signal("button-0", "restore", at=0.0), live=False)
    rows = [
        row("building-1", 1, "button-0", "alarm", "panic", "new", 100.0),
        row("building-1", 2, "button-0", "alarm", "panic", "restore", 100.0),
    ]
    account = settle([book("building-1", "button-0", (live, kept))], numbered(rows))
    assert account.delays["contact"].count == account.delays["all"].count == 1
    assert account.delays["all"].p99_ms == pytest.approx(5.0)


@given(st.lists(st.booleans(), max_size=7), st.lists(st.booleans(), max_size=7), st.data())
def test_no_alignment_is_cheaper(
    said: list[bool], stands: list[bool], data: st.DataObject
) -> None:
    """Against a plain recursion over every choice."""
    needed = data.draw(st.lists(st.booleans(), min_size=len(said), max_size=len(said)))
    signals = [
        signal("p", "new" if on else "restore", at=0, required=must)
        for on, must in zip(said, needed, strict=True)
    ]
    rows = [
        row("g", i, "p", "alarm", "panic", "new" if on else "restore", 0)
        for i, on in enumerate(stands)
    ]

    def least(i: int, j: int) -> int:
        if i == len(signals):
            return len(rows) - j
        drop = least(i + 1, j) + signals[i].required
        if j == len(rows):
            return drop
        match = least(i + 1, j + 1) if signals[i].what == rows[j].what else 99
        return min(drop, least(i, j + 1) + 1, match)

    pairs, missing, surplus = align(signals, rows)
    assert len(missing) + len(surplus) == least(0, 0)
    assert len(pairs) + len(surplus) == len(rows)
    assert all(s.what == r.what for s, r in pairs)


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_percentiles_are_nearest_rank(percent: int, value: int) -> None:
    assert percentile([float(v) for v in range(100, 0, -1)], percent) == value


def test_a_single_value_is_every_percentile() -> None:
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def kept_in_memory(*, moments: tuple[str, str, str, str], last: int) -> list[Row]:
    """Return what the station lists after a disk was out: numbers 1, memory 1 and 2, then `last`."""
    places = [("disk", 1), ("memory", 1), ("memory", 2), ("disk", last)]
    return [
        Row(
            n=n + 1,
            gateway=GATEWAYS[0],
            point="button-0",
            kind="alarm",
            subkind="panic",
            qualifier="restore" if n % 2 else "new",
            received_at=rfc3339(1_800_000_000_000_000),
            stamped_at=moments[n],
            log_id=log_id,
            seq=seq,
            volatile=log_id == "memory",
        )
        for n, (log_id, seq) in enumerate(places)
    ]


def four_presses() -> list[Book]:
    qualifiers = ("new", "restore", "new", "restore")
    signals = tuple(signal("button-0", each, at=1.8e9 + n) for n, each in enumerate(qualifiers))
    return [book(GATEWAYS[0], "button-0", signals)]


def test_a_log_in_memory_stands_between_two_parts_of_the_log_on_disk() -> None:
    at = ("2026-01-01T00:00:01.000Z", "2026-01-01T00:00:02.000Z", "2026-01-01T00:00:03.000Z")
    rows = kept_in_memory(moments=(*at, "2026-01-01T00:00:04.000Z"), last=4)
    account = settle(four_presses(), rows)  # 2 and 3 on disk were 1 and 2 in memory
    assert account.ok, account.findings


def test_more_numbers_are_missing_than_were_in_memory() -> None:
    at = ("2026-01-01T00:00:01.000Z", "2026-01-01T00:00:02.000Z", "2026-01-01T00:00:03.000Z")
    rows = kept_in_memory(moments=(*at, "2026-01-01T00:00:04.000Z"), last=5)
    account = settle(four_presses(), rows)
    assert account.numbers_missing == 3
    assert not account.ok
