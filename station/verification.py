"""Is the ledger what the gateways chained? Every stored event against the one before it, offline.

Reads beside a running station, a few hundred numbers at a time. A number may stand there in
several histories (a cloned card, a restored one); an event fits when it continues any event that
is held under the number before it.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from events.chain import genesis, link
from station.listing import require_ledger
from station.schema import RUN_BLOCK, open_reader, translated
from sync.verify import UNKNOWN_CHAIN

BLOCK_NUMBERS = 4 * RUN_BLOCK
MISFITS_SHOWN_MAX = 100

_Entry = tuple[int, bytes, bytes]

_LOGS = (
    "SELECT log.id, gateway.name, log.log_id, log.main FROM log"
    " JOIN gateway ON gateway.id = log.gateway WHERE ?1 IS NULL OR gateway.name = ?1"
    " ORDER BY gateway.name, log.id"
)
_GAPS = "SELECT first, last, chain FROM gap WHERE log = ? ORDER BY first, last"
# Own places in runs, own places of files before 2.0, and what came again from another place.
_BLOCK = (
    "SELECT event.seq, event.chain, event.body FROM run CROSS JOIN event"
    " ON event.n BETWEEN run.n AND run.n + run.count - 1"
    " WHERE run.log = ?1 AND run.first BETWEEN ?2 AND ?3"
    " UNION ALL SELECT event.seq, event.chain, event.body FROM place JOIN event"
    " ON event.n = place.n AND event.log = place.log AND event.seq = place.seq"
    " WHERE place.log = ?1 AND place.seq BETWEEN ?2 AND ?3"
    " UNION ALL SELECT seq, chain, body FROM copy WHERE log = ?1 AND seq BETWEEN ?2 AND ?3"
    " ORDER BY 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """A number at which the ledger is not what it must be, and why."""

    seq: int
    why: str


@dataclass(slots=True, kw_only=True)
class LogVerdict:
    """What was found in one log of one gateway.

    checked: events that continue the one before them. unchecked: events behind numbers that are
        not held, of which nothing is known. gaps: numbers that the gateway said it no longer has.
    misfits: how many there are; first: the first of them, in order.
    """

    gateway: str
    log_id: str
    checked: int = 0
    unchecked: int = 0
    gaps: int = 0
    misfits: int = 0
    first: list[Misfit] = field(default_factory=list)

    def misfit(self, seq: int, why: str) -> None:
        self.misfits += 1
        if len(self.first) < MISFITS_SHOWN_MAX:
            self.first.append(Misfit(seq=seq, why=why))


def verify(
    directory: Path, gateway: str | None, progress: Callable[[str, int], None]
) -> list[LogVerdict]:
    """Return what was found in each log, of one gateway or of all.

    progress: called with a gateway's name and the number that was reached. Raises `StoreError`, and
    `UnavailableError` where nothing was ever stored.
    """
    require_ledger(directory)
    connection, _ = open_reader(directory)
    try:
        with translated(directory):
            logs = connection.execute(_LOGS, (gateway,)).fetchall()
            return [
                _Walk(connection, log, name, log_id, main).run(progress)
                for log, name, log_id, main in logs
            ]
    finally:
        connection.close()


class _Walk:
    """One log, number by number. `_tips`: chain values at the number before; None is any."""

    def __init__(
        self, connection: sqlite3.Connection, log: int, gateway: str, log_id: str, main: int
    ) -> None:
        self._connection = connection
        self._log = log
        self._main = main
        self._verdict = LogVerdict(gateway=gateway, log_id=log_id)
        self._tips: set[bytes | None] = {genesis(log_id)}
        self._at = 0
        self._gaps: list[tuple[int, int, bytes]] = connection.execute(_GAPS, (log,)).fetchall()

    def run(self, progress: Callable[[str, int], None]) -> LogVerdict:
        for seq, entries in self._numbers(progress):
            if seq > self._at + 1:
                self._skip_to(seq - 1)
            self._check(seq, entries)
        self._skip_to(max(self._at, self._main))
        self._verdict.gaps = sum(last - first + 1 for first, last, _ in self._gaps)
        return self._verdict

    def _numbers(self, progress: Callable[[str, int], None]) -> Iterator[tuple[int, list[_Entry]]]:
        newest = self._newest()
        for first in range(0, newest + 1, BLOCK_NUMBERS):
            last = first + BLOCK_NUMBERS - 1
            block: dict[int, list[_Entry]] = {}
            for entry in self._connection.execute(_BLOCK, (self._log, first, last)):
                block.setdefault(entry[0], []).append(entry)
            progress(self._verdict.gateway, min(last, newest))
            yield from block.items()

    def _newest(self) -> int:
        (newest,) = self._connection.execute(
            "SELECT max((SELECT coalesce(max(first + count - 1), 0) FROM run WHERE log = ?1),"
            " (SELECT coalesce(max(seq), 0) FROM place WHERE log = ?1))",
            (self._log,),
        ).fetchone()
        return int(newest)

    def _check(self, seq: int, entries: list[_Entry]) -> None:
        known = [tip for tip in self._tips if tip is not None]
        for _, chain, body in entries:
            if any(link(tip, seq, body) == chain for tip in known):
                self._verdict.checked += 1
            elif None in self._tips:
                self._verdict.unchecked += 1
            else:
                self._verdict.misfit(seq, "does not continue what is held before it")
        self._at = seq
        self._tips = self._behind_gaps(seq)
        self._tips.update(chain for _, chain, _ in entries)

    def _skip_to(self, last: int) -> None:
        """Pass over numbers that are not held: declared gone, on the way, or missing."""
        for seq in self._unaccounted(self._at + 1, min(last, self._main)):
            self._verdict.misfit(seq, "is neither held nor recorded as gone")
        self._at = last
        self._tips = self._behind_gaps(last) or {None}

    def _unaccounted(self, first: int, last: int) -> Iterator[int]:
        """Yield the first number of each range that no gap covers."""
        for low, high, _ in self._gaps:
            if high < first:
                continue
            if low > last:
                break
            if low > first:
                yield first
            first = max(first, high + 1)
        if first <= last:
            yield first

    def _behind_gaps(self, seq: int) -> set[bytes | None]:
        """Return with what the chain goes on behind gaps that end at, or reach over, a number."""
        tips: set[bytes | None] = set()
        for first, last, chain in self._gaps:
            if last == seq:
                tips.add(None if chain == UNKNOWN_CHAIN else chain)
            elif first <= seq < last:
                tips.add(None)
        return tips
