"""One log as the station reads it over one connection: open fetches, and where the reading stands."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from events.chain import genesis
from events.errors import LogGap, LogRewound
from events.kinds import Subkind
from events.model import Instant
from events.replication import HOLD_S, Entry, Fetch, Lane
from sync import messages
from sync.flight import Flight
from sync.ledger import Commit
from sync.messages import MalformedMessage
from sync.open_fetch import Answer, OpenFetch
from sync.pace import Pace
from sync.progress import LogProgress
from sync.rest import SMALL_BYTES
from sync.verify import Place, Verdict, check_urgent, judge_main
from sync.work import Load, Lookup, Store, Work

__all__ = ["Answer", "Load", "LogReading", "Lookup", "OpenFetch", "Store", "Work"]

REFUSALS_MAX = 3
WITHHELD_S = HOLD_S + 2.5  # announced elsewhere, and not delivered here for so long
STORES_OPEN_MAX = 2  # the next batch is checked and waits while the one before it is committed


@dataclass(slots=True)
class LogReading:
    """One log on one connection. `sync.sink.Sink` moves it.

    run_id: the run of the gateway's program that offers it.
    seq, chain: everything up to here was checked: it is committed, or in `stores`, or was empty.
    stores: handed to the ledger and not committed yet, in order.
    lookup: what the oldest open fetch waits for.
    anchored: an event of this connection was seen to continue our chain.
    restart: the history differs from the held one and is read from its beginning.
    expects: number and chain value of the event that the urgent lane has to bring first: it shows
        that the gateway's history is the one of which the urgent cursor speaks.
    whole_until: bodies are asked for up to here, since a copy was missing.
    refusals: batches in a row that could not be accepted at this place.
    told: the newest acknowledgement that was sent.
    flight: what the station asked for over all connections; `counted` of it is this one's.
    rest_until: nothing is asked for before, unless there is a backlog.
    """

    log_id: str
    lane: Lane
    run_id: str
    volatile: bool
    head: int
    progress: LogProgress
    pace: Pace = field(default_factory=Pace)
    seq: int = 0
    chain: bytes = b""
    epoch: int = 0
    anchored: bool = False
    restart: bool = False
    expects: tuple[int, bytes] | None = None
    whole_until: int = 0
    refusals: int = 0
    told: int = 0
    flight: Flight = field(default_factory=Flight)
    counted: int = 0
    retry_at: float = 0.0
    rest_until: float = 0.0
    opens: dict[int, OpenFetch] = field(default_factory=dict)
    stores: deque[Store] = field(default_factory=deque)
    lookup: Lookup | None = None
    oddities: list[tuple[str, str]] = field(default_factory=list)

    def rewind(self) -> None:
        """Forget every open fetch and commit, and stand again where the ledger is."""
        self.opens.clear()
        self.stores.clear()
        self.lookup = None
        self.rest_until = 0.0
        if self.epoch != self.progress.epoch:
            self.epoch, self.anchored, self.restart = self.progress.epoch, False, False
        self.expects = None
        if self.restart:
            self.seq, self.chain = 0, genesis(self.log_id)
            return
        if self.lane is Lane.URGENT:
            self.expects = self.progress.in_doubt(self.run_id)
        self.seq, self.chain = self.progress.held(self.lane, self.run_id), self.progress.chain
        if self.expects:
            self.seq = self.expects[0] - 1

    def begin_anew(self) -> None:
        """Read the log from its first number: its history is not the one that is held."""
        self.progress.verified = ""
        if self.lane is Lane.MAIN:
            self.restart, self.anchored = True, False
            self.rewind()
            return
        # The main lane finds out for itself; here the urgent events are only looked for again.
        self.progress.urgent_goes(self.run_id, None)
        self.rewind()
        self.seq = 0

    def stored(self) -> int:
        """Return what may be acknowledged."""
        progress = self.progress
        if progress.verified != self.run_id or self.restart:
            return 0
        return progress.held(self.lane, self.run_id)

    def announce(self, head: int, now: Instant) -> None:
        """Note the newest number that the gateway speaks of, on whichever lane or path."""
        self.head = max(self.head, head)
        if head > self.progress.head:
            if self.progress.head <= self.progress.main:
                self.progress.ahead_since = now.monotonic
            self.progress.head = head

    def ping(self, number: int) -> Fetch:
        """Return a fetch that is answered at once, with nothing; nobody waits for it."""
        lane, log = self.lane, self.log_id
        return Fetch(
            id=number, lane=lane, log_id=log, after=self.seq, stored=0, limit_bytes=0, hold_s=0.0
        )

    def next_fetch(self, number: int, *, limit_bytes: int, hold_s: float = HOLD_S) -> Fetch:
        """Return the fetch that goes on where the newest open one will end."""
        after, follows = self.seq, 0
        if self.opens:
            newest = next(reversed(self.opens.values()))
            if newest.answer is None:
                after, follows = 0, newest.fetch.id
            else:
                after = newest.answer.batch.through
        self.told = self.stored()
        whole = self.lane is Lane.URGENT or self.restart or self.seq < self.whole_until
        return Fetch(
            id=number,
            lane=self.lane,
            log_id=self.log_id,
            after=after,
            follows=follows,
            stored=self.told,
            limit_bytes=limit_bytes,
            bare_through=0 if whole else self.progress.urgent,
            hold_s=hold_s,
        )

    def ask(self, number: int, now: Instant, *, active: bool, hold_s: float) -> Fetch:
        """Open the next fetch: for what the pace allows and the other connections leave."""
        behind = self.head > self.seq
        limit = self.flight.limit(self.pace.limit_bytes, behind=behind) if active else 0
        fetch = self.next_fetch(number, limit_bytes=limit, hold_s=hold_s)
        self.opens[number] = OpenFetch(fetch, now.monotonic, behind)
        self.count()
        return fetch

    def count(self) -> None:
        """Tell the others how much was asked for and is not committed yet."""
        asked = sum(each.fetch.limit_bytes for each in self.opens.values())
        in_flight = asked + sum(store.size for store in self.stores)
        self.flight.bytes += in_flight - self.counted
        self.counted = in_flight

    def end(self) -> None:
        """Wait for nothing any more."""
        self.opens.clear()
        self.stores.clear()
        self.count()

    def wanted(self, *, active: bool) -> int:
        """Return how many fetches should be open now."""
        if not active:
            return 1
        if self.lane is Lane.URGENT or self.head <= self.seq:
            return 0 if self.stores else 1  # the next one tells at once what was committed
        return self.pace.window

    def rest(self, done: Store, now: Instant) -> float:
        """Rest after a batch that is committed, if it was small and the last of what there was.

        Returns for how many seconds. Urgent events, and those in a gateway's memory alone, are
        fetched at once whatever they cost.
        """
        if self.lane is Lane.URGENT or self.volatile or done.size >= SMALL_BYTES:
            return 0.0
        if self.opens or self.stores or self.head > self.seq:
            return 0.0
        rest_s = self.flight.rest.after(now.monotonic)
        self.rest_until = now.monotonic + rest_s
        return rest_s

    def waits(self, now: Instant) -> bool:
        """Tell whether nothing is asked for now: after a failure, or at rest without a backlog."""
        rests = now.monotonic < self.rest_until and self.head <= self.seq
        return rests or now.monotonic < self.retry_at

    def owes_word(self) -> bool:
        """Tell whether something was committed that no open fetch says, and none will soon."""
        return not self.stores and self.head <= self.seq and self.stored() > self.told

    def answered(self) -> tuple[OpenFetch, Answer] | None:
        """Return the oldest open fetch, if its answer came and may be taken now."""
        if self.lookup is not None or self.epoch != self.progress.epoch or not self.opens:
            return None
        stores_max = STORES_OPEN_MAX if self.lane is Lane.MAIN and not self.restart else 1
        oldest = next(iter(self.opens.values()))
        if oldest.answer is None or len(self.stores) >= stores_max:
            return None
        return oldest, oldest.answer

    def found(self, copies: Sequence[Entry]) -> None:
        """Take the copies for which the oldest open fetch waits."""
        self.lookup = None
        answer = next(iter(self.opens.values())).answer
        if answer is not None:
            held = {(e.seq, e.chain): e.body for e in copies if e.body is not None}
            answer.copies = self.progress.copies | held

    def take(self, waiting: OpenFetch, answer: Answer) -> Lookup | Store | None:
        """Check the answer to the oldest open fetch; return what the ledger has to do for it.

        Whatever but a lookup is returned, the fetch is done and the reading stands behind it.

        Raises `LogRewound`, `MissingCopy`, `MalformedMessage`, and `LogGap` for numbers that nobody
        accounts for; after `REFUSALS_MAX` refusals these are taken as a gap.
        """
        if waiting.fetch.limit_bytes == 0:
            self.opens.pop(waiting.fetch.id)
            return None
        if answer.batch.head < self.seq:
            self.head = answer.batch.head
            raise LogRewound(f"its newest event is {self.head}, up to {self.seq} is held")
        take = self._take_urgent if self.lane is Lane.URGENT else self._take_main
        return take(waiting, answer)

    def answer_due(self, answer_s: float) -> float:
        """Return when the oldest fetch that waits for an answer is lost."""
        if self.lookup or self.stores:
            return math.inf
        return self._asked_at() + answer_s

    def _asked_at(self) -> float:
        return min(
            (each.sent_at for each in self.opens.values() if each.answer is None),
            default=math.inf,
        )

    def withheld_at(self) -> float:
        """Return when events that were announced on another connection should have come here."""
        if self.lane is Lane.URGENT:  # most numbers are not its own
            return math.inf
        oldest = next(iter(self.opens.values()), None)
        idle = oldest is None or oldest.fetch.limit_bytes == 0 or oldest.missed
        if idle or self.lookup or self.stores or self.progress.head <= self.seq:
            return math.inf
        return max(self._asked_at(), self.progress.ahead_since) + WITHHELD_S

    def look_for_withheld(self, now: Instant) -> None:
        """Note events that were announced elsewhere while a fetch for them went unanswered."""
        if now.monotonic >= self.withheld_at():
            next(iter(self.opens.values())).missed = True
            self._withheld(self.seq, self.progress.head)

    def drain_oddities(self) -> list[tuple[str, str]]:
        """Drain reason and text of what was odd but accepted."""
        oddities, self.oddities = self.oddities, []
        return oddities

    def _take_urgent(self, waiting: OpenFetch, answer: Answer) -> Store | None:
        through = answer.batch.through
        check_urgent(self.seq, answer.entries, through)
        if self.expects:
            seen = self._as_expected(answer)
            self.progress.urgent_goes(self.run_id, seen)
            if seen is None:
                self.rewind()
                return None
            answer.entries, self.expects = answer.entries[1:], None
        if not answer.entries:
            self._look_for_withheld(answer)
            self.seq = through
            if self.progress.urgent_seen == self.run_id:
                self.progress.urgent = max(self.progress.urgent, through)
            self.opens.pop(waiting.fetch.id)
            return None
        commit = Commit(
            log_id=self.log_id,
            lane=self.lane,
            entries=answer.entries,
            through=through,
            chain=b"",
            head=answer.batch.head,
            volatile=self.volatile,
            history=self.epoch,
        )
        return self._handed(waiting, answer, commit)

    def _as_expected(self, answer: Answer) -> tuple[int, bytes] | None:
        """Return the event that was to come first, if it did."""
        first = answer.entries[0] if answer.entries else None
        return self.expects if first and (first.seq, first.chain) == self.expects else None

    def _take_main(self, waiting: OpenFetch, answer: Answer) -> Lookup | Store | None:
        batch = answer.batch
        if not answer.entries and not batch.gaps:
            if batch.through != self.seq:
                raise MalformedMessage(f"an empty batch through {batch.through}")
            self._look_for_withheld(answer)
            self.opens.pop(waiting.fetch.id)
            return None
        bare = answer.bare(self.progress.copies) if answer.copies is None else None
        if bare:
            self.lookup = Lookup(log_id=self.log_id, first=bare[0], last=bare[1])
            return self.lookup
        verdict = judge_main(
            self._place(),
            answer.entries,
            batch.gaps,
            bare_through=waiting.fetch.bare_through,
            copies=self.progress.copies if answer.copies is None else answer.copies,
        )
        if verdict.through != batch.through:
            raise MalformedMessage(f"a batch that ends at {verdict.through}")
        self._look_for_oddities(verdict)
        commit = Commit(
            log_id=self.log_id,
            lane=self.lane,
            entries=verdict.entries,
            through=verdict.through,
            chain=verdict.chain,
            head=batch.head,
            gaps=verdict.gaps + verdict.undeclared,
            suspect=verdict.suspect,
            confirmed=verdict.confirmed,
            restart=self.restart,
            volatile=self.volatile,
            after=0 if self.restart else self.seq,
            history=self.epoch,
        )
        self.anchored = True
        return self._handed(waiting, answer, commit)

    def _handed(self, waiting: OpenFetch, answer: Answer, commit: Commit) -> Store:
        """Move on behind what the ledger is handed now."""
        store = Store(commit=commit, received=answer.received, size=answer.size)
        self.stores.append(store)
        self.opens.pop(waiting.fetch.id)
        self.seq, self.chain = commit.through, commit.chain
        return store

    def _look_for_withheld(self, answer: Answer) -> None:
        """Note a sign of life that announces events: they should have come in its place."""
        if answer.batch.through < answer.batch.head:
            self._withheld(answer.batch.through, answer.batch.head)

    def _withheld(self, through: int, head: int) -> None:
        text = f"events up to {head} are announced, none after {through} arrives"
        self.oddities.append((Subkind.EVENTS_WITHHELD, text))

    def _look_for_oddities(self, verdict: Verdict) -> None:
        if verdict.undeclared and self.refusals < REFUSALS_MAX:
            gap = verdict.undeclared[0]
            raise LogGap(f"numbers {gap.first} to {gap.last} are missing, and nobody says why")
        for seq in verdict.suspect[:1]:
            text = f"event {seq} does not fit its chain value; it is kept as it came"
            self.oddities.append((Subkind.CHAIN_MISMATCH, text))

    def _place(self) -> Place:
        return Place(
            seq=self.seq,
            chain=self.chain,
            anchored=self.anchored,
            verified=self.progress.verified == self.run_id,
        )

    def measure(self, waiting: OpenFetch, answer: Answer) -> None:
        answer.size = messages.weight(answer.entries)
        if waiting.behind and answer.entries:
            self.pace.answered(
                answer.size,
                waiting.sent_at,
                answer.received.monotonic,
                more=answer.batch.through < answer.batch.head,
            )
