"""How the declared bytes of a store are divided."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from buffer.entries import Pending

BOUND_BYTES_DEFAULT: Final = 1024**3
BOUND_BYTES_MIN: Final = 1024**2
RESERVE_BYTES_MIN: Final = 64 * 1024
WAL_BYTES_MAX: Final = 1024**2
GROUP_BYTES_MAX: Final = 512 * 1024
GROUP_EVENTS_MAX: Final = 4096

# What an event takes in its table beyond its body (columns, chain value, page fill), upwards.
_ROW_BYTES: Final = 160
_FILL: Final = 1.25
_COMMIT_BYTES: Final = 4096


class Room(Enum):
    """How much of the bound an append may use up.

    NORMAL: everything but the reserve. RESERVE: that as well. AMPLE: only what leaves headroom;
    for the event that says that there is room again.
    """

    NORMAL = "normal"
    RESERVE = "reserve"
    AMPLE = "ample"


@dataclass(frozen=True, slots=True)
class Bound:
    """A store of `total_bytes`, its write-ahead log included.

    wal_bytes: the write-ahead log is folded into the file beyond this size.
    group_bytes: the bodies of one commit; a single record may be longer.
    reserve_bytes: what only urgent events may use.
    """

    total_bytes: int

    @property
    def wal_bytes(self) -> int:
        return min(WAL_BYTES_MAX, self.total_bytes // 8)

    @property
    def group_bytes(self) -> int:
        return min(GROUP_BYTES_MAX, self.total_bytes // 16)

    @property
    def reserve_bytes(self) -> int:
        return max(RESERVE_BYTES_MIN, self.total_bytes // 10)

    @property
    def checkpoint_bytes(self) -> int:
        """How much may be stored before the newest states are copied; only then may it go."""
        return self.total_bytes // 16

    @property
    def file_bytes(self) -> int:
        """The most that the pages of the file may take: the write-ahead log has the rest."""
        return self.total_bytes - self.wal_bytes - 2 * self.group_bytes

    def limit_bytes(self, room: Room) -> int:
        """Return how many bytes may be in use after an append."""
        normal = self.file_bytes - self.reserve_bytes
        match room:
            case Room.NORMAL:
                return normal
            case Room.RESERVE:
                return self.file_bytes
            case Room.AMPLE:
                return normal * 15 // 16

    @property
    def trim_from_bytes(self) -> int:
        """Beyond this, delivered events are trimmed ahead of need, down to `trim_to_bytes`."""
        return self.limit_bytes(Room.AMPLE)

    @property
    def trim_to_bytes(self) -> int:
        return self.limit_bytes(Room.NORMAL) * 14 // 16

    @property
    def evict_from_bytes(self) -> int:
        """Beyond this, undelivered events go ahead of need, down to `evict_to_bytes`."""
        return self.limit_bytes(Room.NORMAL) * 31 // 32

    @property
    def evict_to_bytes(self) -> int:
        return self.limit_bytes(Room.NORMAL) * 29 // 32


def cost_bytes(items: Sequence[Pending]) -> int:
    """Return about what records will take in the file, rather too much than too little."""
    bodies = sum([len(item.body) for item in items])
    return _COMMIT_BYTES + int((bodies + _ROW_BYTES * len(items)) * _FILL)


def copy_bytes(item: Pending) -> int:
    """Return about what the copy of the newest states will take of a record, upwards."""
    copied = len(item.body) + len(item.record.observation.raw)
    return int((copied + _ROW_BYTES) * _FILL)
