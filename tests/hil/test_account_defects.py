"""Every defect of a ledger is convicted, whatever else is in it."""

import random

import msgspec
from hypothesis import assume, given

from hil.account import Book, settle
from tests.hil.worlds import alarms, ledger, numbered, renumbered, required_only, row, worlds


@given(worlds)
def test_a_missing_event_is_lost(world: tuple[list[Book], random.Random]) -> None:
    made, draw = world
    made = required_only(made)
    rows = ledger(made, draw)
    assume(alarms(rows))
    del rows[draw.choice(alarms(rows))]
    account = settle(made, renumbered(rows))
    assert account.lost == 1
    assert not account.ok


@given(worlds)
def test_a_hole_in_the_numbers_is_named(world: tuple[list[Book], random.Random]) -> None:
    made, draw = world
    rows = ledger(made, draw)
    holes = [
        i for i, each in enumerate(rows) if any(r.gateway == each.gateway for r in rows[i + 1 :])
    ]
    assume(holes)
    del rows[draw.choice(holes)]
    account = settle(made, numbered(rows))
    assert account.numbers_missing == 1
    assert not account.ok


@given(worlds)
def test_a_doubled_event_is_twice(world: tuple[list[Book], random.Random]) -> None:
    made, draw = world
    made = required_only(made)
    rows = ledger(made, draw)
    assume(alarms(rows))
    index = draw.choice(alarms(rows))
    rows.insert(index, rows[index])
    account = settle(made, renumbered(rows))
    assert account.twice == 1
    assert account.lost == 0
    assert not account.ok


@given(worlds)
def test_one_number_stored_twice_is_twice(world: tuple[list[Book], random.Random]) -> None:
    made, draw = world
    rows = ledger(made, draw)
    assume(rows)
    rows.append(draw.choice(rows))
    account = settle(made, numbered(rows))
    assert account.twice >= 1
    assert not account.ok


@given(worlds)
def test_two_events_of_a_point_exchanged_are_out_of_order(
    world: tuple[list[Book], random.Random],
) -> None:
    made, draw = world
    made = required_only(made)
    rows = ledger(made, draw)
    pairs = [
        (i, j)
        for i in alarms(rows)
        for j in alarms(rows)
        if i < j
        and (rows[i].gateway, rows[i].point) == (rows[j].gateway, rows[j].point)
        and rows[i].qualifier != rows[j].qualifier
    ]
    assume(pairs)
    i, j = draw.choice(pairs)
    rows[i], rows[j] = rows[j], rows[i]
    account = settle(made, renumbered(rows))
    assert account.disordered >= 1
    assert account.lost == account.twice == 0
    assert not account.ok


@given(worlds)
def test_a_wrong_last_word_is_a_wrong_state(world: tuple[list[Book], random.Random]) -> None:
    made, draw = world
    made = required_only(made)
    rows = ledger(made, draw)
    last = {
        (each.gateway, each.point): index
        for index, each in enumerate(rows)
        if each.kind == "alarm"
    }
    assume(last)
    index = draw.choice(sorted(last.values()))
    other = "new" if rows[index].qualifier == "restore" else "restore"
    rows[index] = msgspec.structs.replace(rows[index], qualifier=other)
    account = settle(made, rows)
    assert account.states_right == account.states - 1
    assert not account.ok


@given(worlds)
def test_an_alarm_that_nobody_raised_is_unexplained(
    world: tuple[list[Book], random.Random],
) -> None:
    made, draw = world
    rows = ledger(made, draw)
    rows.append(row("building-1", 10_000, "nowhere", "alarm", "fire", "new", 1))
    account = settle(made, renumbered(rows))
    assert account.unexplained == 1
    assert not account.ok


@given(worlds)
def test_an_event_under_another_points_name_is_convicted(
    world: tuple[list[Book], random.Random],
) -> None:
    made, draw = world
    made = required_only(made)
    rows = ledger(made, draw)
    assume(alarms(rows))
    index = draw.choice(alarms(rows))
    rows[index] = msgspec.structs.replace(rows[index], point="elsewhere")
    account = settle(made, rows)
    assert (account.lost, account.unexplained) == (1, 1)
