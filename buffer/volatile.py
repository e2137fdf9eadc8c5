"""The log in memory, for urgent events while the store cannot write.

It has its own id, numbers and chain, and is offered to the stations like any other log; the mark
`volatile` says that nothing but a station's commit makes its events durable.
"""

import secrets
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Final

from buffer.entries import Pending
from buffer.reading import ENTRY_BYTES
from events.chain import genesis, link
from events.errors import StoreFull
from events.replication import Entry, Gap, Lane, LogHead, Reading

VOLATILE_EVENTS_MAX: Final = 10_000
VOLATILE_BYTES_MAX: Final = 4 * 1024 * 1024
DELIVERED: Final = "delivered"

_LOG_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Held:
    """One event in memory."""

    seq: int
    chain: bytes
    item: Pending


class VolatileLog:
    """A bounded log in memory. It refuses what does not fit, and never drops the undelivered."""

    def __init__(self) -> None:
        self.log_id = secrets.token_hex(_LOG_ID_BYTES)
        self._held: deque[Held] = deque()
        self._bytes = 0
        self._seq = 0
        self._chain = genesis(self.log_id)
        self._released = 0  # numbers up to here are gone
        self._released_chain = self._chain

    @property
    def head(self) -> LogHead:
        return LogHead(
            log_id=self.log_id,
            first=self._released + 1,
            head=self._seq,
            chain=self._chain,
            volatile=True,
        )

    def append(self, item: Pending) -> int:
        """Keep a record and return its number. Raises `StoreFull`."""
        size = self._bytes + len(item.body)
        if len(self._held) >= VOLATILE_EVENTS_MAX or size > VOLATILE_BYTES_MAX:
            raise StoreFull(
                "the store cannot write and the memory for urgent events is full",
                hint="restore the store or the connection to the station",
            )
        self._seq += 1
        self._chain = link(self._chain, self._seq, item.body)
        self._held.append(Held(self._seq, self._chain, item))
        self._bytes = size
        return self._seq

    def release(self, through: int) -> None:
        """Forget events up to `through`: every required station holds them."""
        while self._held and self._held[0].seq <= through:
            gone = self._held.popleft()
            self._bytes -= len(gone.item.body)
            self._released, self._released_chain = gone.seq, gone.chain

    def held(self, after: int = 0) -> list[Held]:
        """Return what is in memory, behind a number."""
        return list(islice(self._held, max(0, after - self._released), None))

    def read(self, lane: Lane, after: int, *, limit_bytes: int, bare_through: int = 0) -> Reading:
        """Return entries of a lane; see `sync.log.Log.read` for the meaning."""
        entries: list[Entry] = []
        gaps: list[Gap] = []
        position = max(after, self._released)
        if lane is Lane.MAIN and after < self._released:
            gaps.append(Gap(after + 1, self._released, self._released_chain, DELIVERED))
        room = limit_bytes
        for held in islice(self._held, max(0, after - self._released), None):
            urgent = held.item.record.urgent
            if urgent or lane is Lane.MAIN:
                bare = lane is Lane.MAIN and urgent and held.seq <= bare_through
                body = None if bare else held.item.body
                room -= ENTRY_BYTES + len(body or b"")
                if room < 0 and entries:
                    break
                entries.append(Entry(held.seq, held.chain, body))
            position = held.seq
        return Reading(
            entries=tuple(entries),
            gaps=tuple(gaps),
            through=position,
            head=self._seq,
        )
