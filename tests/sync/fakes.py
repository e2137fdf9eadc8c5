"""A log and a ledger that are lists: they behave, and they remember what was done to them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from events.chain import genesis, link
from events.errors import StoreError
from events.model import Instant
from events.replication import Entry, Gap, Lane, LogHead
from sync.ledger import LACKING_MAX, Commit, CommitResult, Cursor, Lacking
from sync.log import Reading
from sync.messages import weight


@dataclass(slots=True)
class OneLog:
    """One log: `rows[n - 1]` is number n. Numbers below `first` are trimmed."""

    log_id: str
    volatile: bool = False
    rows: list[tuple[Entry, bool]] = field(default_factory=list)
    first: int = 1

    def append(self, body: bytes, *, urgent: bool) -> Entry:
        seq = len(self.rows) + 1
        previous = self.rows[-1][0].chain if self.rows else genesis(self.log_id)
        entry = Entry(seq, link(previous, seq, body), body)
        self.rows.append((entry, urgent))
        return entry

    def chain_at(self, seq: int) -> bytes:
        return self.rows[seq - 1][0].chain if seq else genesis(self.log_id)

    def head(self) -> LogHead:
        last = len(self.rows)
        return LogHead(
            log_id=self.log_id,
            first=self.first,
            head=last,
            chain=self.chain_at(last),
            volatile=self.volatile,
        )

    def read(self, lane: Lane, after: int, limit_bytes: int, bare_through: int) -> Reading:
        gaps: list[Gap] = []
        start = after + 1
        if lane is Lane.MAIN and start < self.first:
            gaps.append(Gap(start, self.first - 1, self.chain_at(self.first - 1), "evicted"))
        start = max(start, self.first)
        chosen: list[Entry] = []
        through, size = start - 1 if gaps else after, 0
        for entry, urgent in self.rows[start - 1 :]:
            if lane is Lane.MAIN or urgent:
                sent = entry
                if lane is Lane.MAIN and urgent and entry.seq <= bare_through:
                    sent = Entry(entry.seq, entry.chain, None)
                size += weight([sent])
                if chosen and size > limit_bytes:
                    break
                chosen.append(sent)
            through = entry.seq
        return Reading(
            entries=tuple(chosen), gaps=tuple(gaps), through=through, head=len(self.rows)
        )


class ListLog:
    """What a gateway offers; `acknowledged` is what stations said they hold."""

    def __init__(self, *logs: OneLog) -> None:
        self.logs = list(logs) or [OneLog("disk")]
        self.acknowledged: dict[tuple[str, str, Lane], int] = {}
        self.failing = False
        self._watchers: list[Callable[[], None]] = []

    def append(self, body: bytes, *, urgent: bool = False) -> Entry:
        entry = self.logs[0].append(body, urgent=urgent)
        self.stir()
        return entry

    def stir(self) -> None:
        for changed in self._watchers:
            changed()

    def heads(self) -> tuple[LogHead, ...]:
        return tuple(log.head() for log in self.logs)

    async def read(
        self, log_id: str, lane: Lane, after: int, *, limit_bytes: int, bare_through: int = 0
    ) -> Reading:
        return self.read_now(log_id, lane, after, limit_bytes, bare_through)

    def read_now(
        self, log_id: str, lane: Lane, after: int, limit_bytes: int, bare_through: int
    ) -> Reading:
        if self.failing:
            raise StoreError("the log cannot be read now")
        log = {log.log_id: log for log in self.logs}[log_id]
        return log.read(lane, after, limit_bytes, bare_through)

    def acknowledge(self, station: str, log_id: str, lane: Lane, stored: int) -> None:
        key = (station, log_id, lane)
        self.acknowledged[key] = stored

    def mark(self, station: str, log_id: str, lane: Lane) -> int:
        return self.acknowledged.get((station, log_id, lane), 0)

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        self._watchers.append(changed)
        return lambda: self._watchers.remove(changed)


@dataclass(slots=True)
class Held:
    """What a ledger holds of one gateway, in the order of its commits."""

    rows: dict[tuple[str, int, bytes], bytes] = field(default_factory=dict)
    cursors: dict[str, Cursor] = field(default_factory=dict)
    gaps: list[tuple[str, Gap]] = field(default_factory=list)
    suspects: list[tuple[str, int]] = field(default_factory=list)
    urgent: set[tuple[str, int, bytes]] = field(default_factory=set)
    twice: int = 0  # rows that came again and were passed over

    def copy(self) -> "Held":
        return Held(
            dict(self.rows),
            dict(self.cursors),
            list(self.gaps),
            list(self.suspects),
            set(self.urgent),
            self.twice,
        )

    def numbers(self, log_id: str) -> list[int]:
        return [seq for log, seq, _ in self.rows if log == log_id]


class ListLedger:
    """A station's store. `copy` and `restore` are its backup."""

    def __init__(self) -> None:
        self.gateways: dict[str, Held] = {}
        self.failing = False
        self.commits = 0
        self.changed: Callable[[], None] = lambda: None

    def held(self, gateway: str) -> Held:
        return self.gateways.setdefault(gateway, Held())

    def copy(self) -> dict[str, Held]:
        return {name: held.copy() for name, held in self.gateways.items()}

    def restore(self, backup: dict[str, Held]) -> None:
        self.gateways = {name: held.copy() for name, held in backup.items()}

    async def cursors(self, gateway: str, log_ids: Sequence[str]) -> Mapping[str, Cursor]:
        return self.cursors_now(gateway, log_ids)

    def cursors_now(self, gateway: str, log_ids: Sequence[str]) -> Mapping[str, Cursor]:
        self._check()
        cursors = self.held(gateway).cursors
        found = {log_id: cursors[log_id] for log_id in log_ids if log_id in cursors}
        ahead = {
            log_id: max(
                (
                    (seq, chain)
                    for log, seq, chain in self.held(gateway).urgent
                    if log == log_id and cursor.main < seq <= cursor.urgent
                ),
                default=(0, b""),
            )
            for log_id, cursor in found.items()
        }
        return {
            log_id: replace(cursor, ahead=ahead[log_id][0], ahead_chain=ahead[log_id][1])
            for log_id, cursor in found.items()
        }

    async def copies(self, gateway: str, log_id: str, first: int, last: int) -> Sequence[Entry]:
        return self.copies_now(gateway, log_id, first, last)

    def copies_now(self, gateway: str, log_id: str, first: int, last: int) -> Sequence[Entry]:
        self._check()
        return [
            Entry(seq, chain, body)
            for (log, seq, chain), body in self.held(gateway).rows.items()
            if log == log_id and first <= seq <= last
        ]

    async def commit(self, gateway: str, commit: Commit, received: Instant) -> CommitResult:
        return self.commit_now(gateway, commit)

    def commit_now(self, gateway: str, commit: Commit) -> CommitResult:
        self._check()
        held = self.held(gateway)
        known = held.cursors.get(commit.log_id, Cursor())
        self._continue_history(commit, known)
        stored = 0
        for entry in commit.entries:
            assert entry.body is not None
            place = (commit.log_id, entry.seq, entry.chain)
            if place in held.rows:
                held.twice += 1
            else:
                held.rows[place] = entry.body
                stored += 1
        held.gaps += [(commit.log_id, gap) for gap in commit.gaps]
        held.suspects += [(commit.log_id, seq) for seq in commit.suspect]
        cursor = Cursor(history=commit.history + 1) if commit.restart else known
        if commit.lane is Lane.URGENT:
            if commit.history == cursor.history:
                cursor = replace(cursor, urgent=max(cursor.urgent, commit.through))
            held.urgent |= {(commit.log_id, entry.seq, entry.chain) for entry in commit.entries}
        elif commit.through >= cursor.main:
            cursor = replace(cursor, main=commit.through, chain=commit.chain)
        held.cursors[commit.log_id] = cursor
        self.commits += 1
        self.changed()
        known_count = len(commit.entries) - stored
        numbers = set(held.numbers(commit.log_id))
        lacking: list[Lacking] = []
        for gap in commit.gaps:
            for seq in sorted({*range(gap.first, gap.last + 1)} - numbers):
                begins = not lacking or lacking[-1].last != seq - 1 or lacking[-1].why != gap.why
                first = seq if begins else lacking.pop().first
                lacking.append(Lacking(first, seq, gap.why))
        return CommitResult(
            stored=stored,
            known=known_count,
            lacking=tuple(lacking[:LACKING_MAX]),
            lacking_count=sum(each.last - each.first + 1 for each in lacking),
        )

    def _continue_history(self, commit: Commit, known: Cursor) -> None:
        if commit.restart:
            if commit.history + 1 < known.history:
                raise StoreError("it was begun anew meanwhile")
        elif commit.lane is Lane.MAIN and commit.history != known.history:
            raise StoreError("it continues another history")
        elif commit.after > known.main:
            raise StoreError("what comes before is not held")

    def _check(self) -> None:
        if self.failing:
            raise StoreError("the ledger cannot be written now")
