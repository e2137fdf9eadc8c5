from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.model import ClockQuality, Stamp
from station.interpretation import INTEGER_MAX, Basis, Boot, Place, best_time, clamped, is_older

WALL_US = 1_790_000_000_000_000


def stamp(clock: ClockQuality, monotonic_us: int = 10_000_000) -> Stamp:
    wall_us = None if clock is ClockQuality.UNSET else WALL_US + monotonic_us
    return Stamp(monotonic_us=monotonic_us, boot_id="boot", wall_us=wall_us, clock=clock)


UNSET, FREE, SYNCHRONISED = ClockQuality.UNSET, ClockQuality.FREE, ClockQuality.SYNCHRONISED
HEARD_UNSET = Boot(rank=1, stamp=stamp(UNSET, 70_000_000), station_us=WALL_US + 70_000_500)
HEARD_FREE = replace(HEARD_UNSET, stamp=stamp(FREE, 70_000_000))
HEARD_SYNCHRONISED = replace(
    HEARD_UNSET,
    stamp=Stamp(
        monotonic_us=70_000_000, boot_id="boot", wall_us=WALL_US + 71_000_000, clock=SYNCHRONISED
    ),
)


@pytest.mark.parametrize(
    ("clock", "boot", "after_boot_us", "basis"),
    [
        (SYNCHRONISED, None, 10_000_000, Basis.GATEWAY),
        (SYNCHRONISED, HEARD_SYNCHRONISED, 10_000_000, Basis.GATEWAY),
        (FREE, None, 10_000_000, Basis.GATEWAY),
        (FREE, HEARD_UNSET, 10_000_000, Basis.GATEWAY),
        (FREE, HEARD_SYNCHRONISED, 11_000_000, Basis.CORRECTED),
        (UNSET, HEARD_SYNCHRONISED, 11_000_000, Basis.CORRECTED),
        (UNSET, HEARD_FREE, 10_000_500, Basis.STATION),
        (UNSET, HEARD_UNSET, 10_000_500, Basis.STATION),
        (UNSET, None, 99_000_000, Basis.RECEIVED),
    ],
)
def test_the_best_clock_that_knew_the_moment_tells_it(
    clock: ClockQuality, boot: Boot | None, after_boot_us: int, basis: Basis
) -> None:
    received_us = WALL_US + 99_000_000
    assert best_time(stamp(clock), None, boot, received_us) == (WALL_US + after_boot_us, basis)
    edge_us = 9_000_000
    shift_us = 0 if basis is Basis.RECEIVED else 1_000_000
    assert best_time(stamp(clock), edge_us, boot, received_us) == (
        WALL_US + after_boot_us - shift_us,
        basis,
    )


def test_an_edge_after_its_record_is_not_believed() -> None:
    at_us, _ = best_time(stamp(SYNCHRONISED), 10_000_001, None, None)
    assert at_us == WALL_US + 10_000_000


def test_nobody_knowing_the_time_is_no_time() -> None:
    assert best_time(stamp(UNSET), None, None, None) == (None, Basis.RECEIVED)


@given(st.integers())
def test_every_number_fits_a_column(number: int) -> None:
    assert -INTEGER_MAX - 1 <= clamped(number) <= INTEGER_MAX


STATE = Place(
    log=1, seq=50, carrier_log=1, carrier_seq=50, history=0, boot_id="a", boot_rank=1,
    monotonic_us=500,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "restores", "older"),
    [
        ({"seq": 49, "monotonic_us": 900}, False, True),  # one log: the number, not the clock
        ({"seq": 51, "monotonic_us": 100}, False, False),
        ({"seq": 51, "boot_id": "b", "boot_rank": 2, "monotonic_us": 1}, True, False),
        # a restored card's urgent events, before its history is known to have begun anew
        ({"seq": 3, "carrier_seq": 3, "boot_id": "b", "boot_rank": 2}, False, False),
        ({"seq": 3, "carrier_seq": 3, "boot_id": "b", "boot_rank": 0}, False, True),
        ({"log": 2, "carrier_log": 2, "seq": 1, "monotonic_us": 501}, True, False),
        ({"log": 2, "carrier_log": 2, "seq": 1, "monotonic_us": 499}, True, True),
        ({"log": 2, "carrier_log": 2, "boot_id": "b", "boot_rank": 0}, True, False),  # newer log
        ({"log": 0, "carrier_log": 0, "boot_id": "b", "boot_rank": 0}, False, True),
        ({"log": 0, "carrier_log": 0, "boot_id": "b", "boot_rank": 2}, True, False),  # newer boot
        ({"log": 9, "seq": 7, "carrier_seq": 60, "boot_id": "b", "boot_rank": 0}, False, False),
        ({"log": 9, "seq": 7, "carrier_seq": 60, "boot_id": "b", "boot_rank": 0}, True, True),
        ({"log": 9, "seq": 7, "carrier_seq": 40, "boot_id": "b", "boot_rank": 0}, False, True),
        ({"seq": 3, "carrier_seq": 3, "history": 1, "boot_id": "b", "boot_rank": 0}, True, False),
    ],
)
def test_the_order_of_events(changes: dict[str, int | str], restores: bool, older: bool) -> None:
    event = msgspec.structs.replace(STATE, **changes)
    assert is_older(event, STATE, restores=restores) is older


@given(st.integers(1, 99), st.integers(1, 99))
def test_of_two_events_of_one_log_exactly_one_is_older(first: int, second: int) -> None:
    one, other = (
        msgspec.structs.replace(STATE, seq=first),
        msgspec.structs.replace(STATE, seq=second),
    )
    found = (is_older(one, other, restores=True), is_older(other, one, restores=True))
    assert found == (first < second, second < first)
