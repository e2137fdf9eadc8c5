"""Which fault strikes at which hop: every pair has its turn, by the number of the world."""

import random
from enum import StrEnum
from functools import cache
from typing import Final


class Hop(StrEnum):
    """What is going on when a fault strikes. An event passes them from left to right."""

    APPEND = "device to store"  # the log's transaction is being written
    ANSWER = "store to device"  # committed, the device has not heard of it
    BATCH = "batch on the way"
    COMMIT = "station commit"  # the ledger's transaction is being written
    COMMITTED = "commit to fetch"  # committed, nothing said of it yet
    FETCH = "fetch on the way"  # the acknowledgement
    TRIM = "trim"
    EVICT = "eviction"
    VOLATILE = "volatile batch"  # on the way, and in the gateway's memory only
    MOVE = "volatile to store"
    REREAD = "re-read"  # a batch on its way to a ledger that was restored from a backup
    SALVAGE = "salvaged batch"  # on its way, from a damaged file that was set aside


class Fault(StrEnum):
    GATEWAY_STOP = "gateway stop"
    GATEWAY_KILL = "gateway kill"
    GATEWAY_CUT = "gateway power cut"
    STATION_KILL = "station kill"
    STATION_CUT = "station power cut"
    CUT = "connection cut"
    RECONNECT = "cut at one end"
    STALL = "stall"
    GATEWAY_FULL = "gateway disk full"
    GATEWAY_READ_ONLY = "gateway read-only"
    GATEWAY_IO = "gateway I/O error"
    GATEWAY_LOCKED = "gateway locked"
    STATION_FULL = "station disk full"
    STATION_IO = "station I/O error"
    CORRUPT = "log corrupt"
    CLOCK = "clock step"
    CARD = "card restored"
    CLONE = "card cloned"
    BACKUP = "ledger restored"
    KEY = "key change"


# Cells that cannot happen, each with its reason.
UNREACHABLE: Final[dict[tuple[Fault, Hop], str]] = {}

CELLS: Final = [(fault, hop) for hop in Hop for fault in Fault if (fault, hop) not in UNREACHABLE]
ARMED: Final = 4  # pairs in one world
DIRECTED: Final = 1_000_000  # from this number on, a world tries one pair alone
DIRECTED_EACH: Final = 1_000
_CROWDED: Final = 500  # of these, from this one on: two required stations, and a store that fills

# A hop that needs a store that is nearly full costs half a world more: such hops meet in each
# fifth world, two at a time, and not in the others.
_NARROW: Final = frozenset({Hop.TRIM, Hop.EVICT})
_NARROW_EVERY: Final = 5
_NARROW_PAIRS: Final = 2

# What seldom comes about when it is wanted is tried more often.
_TURNS: Final = {Hop.VOLATILE: 2, Hop.REREAD: 2, Hop.SALVAGE: 3}


@cache
def _turns(*, narrow: bool) -> list[tuple[Fault, Hop]]:
    return [
        (fault, hop)
        for fault, hop in CELLS
        if (hop in _NARROW) == narrow
        for _ in range(_TURNS.get(hop, 1))
    ]


@cache
def _shuffled(round_: int, *, narrow: bool) -> list[tuple[Fault, Hop]]:
    """Return each turn once, in an order of its own: no two pairs are always together."""
    turns = list(_turns(narrow=narrow))
    random.Random(round_).shuffle(turns)
    return turns


def _taken(first: int, count: int, *, narrow: bool) -> list[tuple[Fault, Hop]]:
    length = len(_turns(narrow=narrow))
    return [
        _shuffled(number // length, narrow=narrow)[number % length]
        for number in range(first, first + count)
    ]


def directed(fault: Fault, hop: Hop, *, crowded: bool = False) -> range:
    """Return the numbers of the worlds that try one pair alone."""
    first = DIRECTED + CELLS.index((fault, hop)) * DIRECTED_EACH
    return (
        range(first + _CROWDED, first + DIRECTED_EACH)
        if crowded
        else range(first, first + _CROWDED)
    )


def is_crowded(seed: int) -> bool:
    """Tell whether a world is to have two required stations, and a store that fills."""
    return seed >= DIRECTED and seed % DIRECTED_EACH >= _CROWDED


def armed(seed: int) -> list[tuple[Fault, Hop]]:
    """Return the pairs that a world is to try: a fixed order, in which each has its turn."""
    if seed >= DIRECTED:
        return [CELLS[(seed - DIRECTED) // DIRECTED_EACH]]
    cycle, place = divmod(seed, _NARROW_EVERY)
    first = cycle * (_NARROW_EVERY * ARMED - _NARROW_PAIRS) + place * ARMED
    if place < _NARROW_EVERY - 1:
        return _taken(first, ARMED, narrow=False)
    narrow = _taken(cycle * _NARROW_PAIRS, _NARROW_PAIRS, narrow=True)
    return narrow + _taken(first, ARMED - _NARROW_PAIRS, narrow=False)
