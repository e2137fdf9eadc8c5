"""Which fault strikes at which hop: every pair has its turn, by the number of the world."""

from enum import StrEnum
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
_STRIDE: Final = 37  # so that the pairs of one world have little in common


def armed(seed: int) -> list[tuple[Fault, Hop]]:
    """Return the pairs that a world is to try."""
    first = seed * ARMED
    return [CELLS[(first + number) * _STRIDE % len(CELLS)] for number in range(ARMED)]
