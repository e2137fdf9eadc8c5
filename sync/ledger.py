"""What replication needs of the station's store: cursors, copies and one transaction.

`station.store` fits; so does a list in a test. An event's place is `(gateway, log_id, seq, chain)`:
one number under two chain values is two histories (a cloned or restored card), and both are kept.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from events.model import Instant
from events.replication import Entry, Gap, Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far the station holds one log of one gateway.

    main: every number up to here is held, or recorded as a gap.
    chain: chain value at `main`; empty where `main` is 0.
    urgent: every urgent event up to here is held.
    history: how often the log's history had begun anew: both cursors are of this one.
    ahead, ahead_chain: number and chain value of the newest urgent event held that is numbered above
        `main` and not above `urgent`; 0 without one. A gateway that holds it is in the history that
        `urgent` speaks of, up to there.
    """

    main: int = 0
    chain: bytes = b""
    urgent: int = 0
    history: int = 0
    ahead: int = 0
    ahead_chain: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What one transaction stores: events, gaps, and the cursor of their lane.

    entries: in order of seq, each with its body. Some may be held already.
    confirmed: how many urgent copies, held already, were checked against the main lane.
    gaps: number ranges that the gateway no longer has; urgent copies inside a range stay.
    suspect: numbers in `entries` whose body does not fit their chain value: kept all the same.
    through, chain: the new cursor of this lane (`chain` empty on the urgent lane).
    history: the one that this continues (`Cursor.history`). Of another one, a main commit is refused;
        the events of an urgent one are stored, but say nothing of the cursor: what lies before them
        was read of another history.
    restart: the log's history differs from the one held and is being read again from its
        beginning: set both cursors of the log back (urgent to 0), then this lane's to `through`; the
        history is `history` + 1 from now on, also where it was made so already. Without it a cursor
        never moves backwards.
    head: the newest number in the gateway's log, for showing what is still to come.
    volatile: the log is in the gateway's memory only.
    after: what comes before, up to this number, is held or was handed over earlier. When that
        earlier commit failed, this one must fail too: a main cursor below `after` refuses it.
    """

    log_id: str
    lane: Lane
    entries: tuple[Entry, ...]
    through: int
    chain: bytes
    head: int
    gaps: tuple[Gap, ...] = ()
    suspect: tuple[int, ...] = ()
    confirmed: int = 0
    restart: bool = False
    volatile: bool = False
    after: int = 0
    history: int = 0


LACKING_MAX = 8  # ranges in a result


@dataclass(frozen=True, slots=True)
class Lacking:
    """Numbers in a gap of which nothing is held, from this log or another that names it as origin."""

    first: int
    last: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """What a commit found: events stored now, and events that were held already.

    lacking: what its gaps leave out, at most `LACKING_MAX` ranges; lacking_count: how many numbers
        in all.
    """

    stored: int
    known: int
    lacking: tuple[Lacking, ...] = ()
    lacking_count: int = 0


class Ledger(Protocol):
    """The station's store as replication sees it. Every method may raise `StoreError`.

    Commits of one gateway and lane are called in the order of their numbers; the next one may come
    before the one before it has returned. The two lanes of a gateway, and different gateways, call
    at the same time.
    """

    async def cursors(self, gateway: str, log_ids: Sequence[str]) -> Mapping[str, Cursor]:
        """Return the cursor of each log that is known; a log that is not known may be left out."""

    async def copies(self, gateway: str, log_id: str, first: int, last: int) -> Sequence[Entry]:
        """Return the urgent events held, numbered `first` to `last`, with chain and body.

        Two entries of one number are two histories. An event that is missing in the answer is
        asked of the gateway again, so an incomplete answer costs time, never an event.
        """

    def commit(self, gateway: str, commit: Commit, received: Instant) -> Awaitable[CommitResult]:
        """Store events, gaps and cursor in one durable transaction; all of it or nothing.

        An event is already held, and is passed over, when `(gateway, log_id, seq, chain)` is, or
        when its `Record.origin` names an event of this gateway that is held. A body that cannot be
        decoded is stored raw. Returning means that it survives a power cut: the gateway is then
        told that it may forget. The ledger begins at once, awaited or not.
        """
