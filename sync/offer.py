"""What a gateway offers over one connection: its logs, and the fetches open on each."""

from collections import deque
from dataclasses import dataclass, field

from events.replication import Batch, Fetch, Lane
from sync import messages
from sync.log import Reading

ENDS_KEPT_MAX = 64  # answered fetches that another one may still follow
READ_LATE_S = 2.0  # a reading under way may delay the sign of life by as much


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """What the shell is to read from the log; `fetch` tells which fetch it is for."""

    fetch: int
    log_id: str
    lane: Lane
    after: int
    limit_bytes: int
    bare_through: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The station holds this lane of a log up to `stored`."""

    log_id: str
    lane: Lane
    stored: int


@dataclass(slots=True)
class Open:
    """A fetch that waits for its answer. `after` is None until the fetch before it is answered."""

    fetch: Fetch
    since: float
    after: int | None
    not_before: float = 0.0

    @property
    def due(self) -> float:
        """When the sign of life is owed."""
        return self.since + self.fetch.hold_s


@dataclass(slots=True)
class Offer:
    """One log on this connection.

    ceiling: the station holds nothing above it, as far as it said: where it began to read, or what
        it acknowledged since. None before it reads.
    """

    head: int
    opens: deque[Open] = field(default_factory=deque)
    ends: dict[int, int] = field(default_factory=dict)
    newest_id: int = 0
    acknowledged: int = 0
    ceiling: int | None = None

    def sign_due(self, waiting: Open) -> float:
        """Return when a fetch gets the sign of life; events that are being read go first."""
        being_read = waiting.after is not None and waiting.after < self.head
        if being_read and waiting.fetch.limit_bytes:
            return waiting.due + READ_LATE_S
        return waiting.due

    def supersede(self, fetch: Fetch) -> bool:
        """Forget what the station no longer waits for; tell whether it asks again for old events.

        It does when it begins, and when it goes back behind where it began or what it acknowledged:
        it may find only then that its place is one of another history.
        """
        self.opens = deque(each for each in self.opens if each.fetch.id > fetch.id)
        if not fetch.limit_bytes or (self.ceiling is not None and fetch.after >= self.ceiling):
            return False
        self.ceiling = fetch.after
        self.acknowledged = min(self.acknowledged, fetch.after)
        return True

    def acknowledge(self, stored: int) -> bool:
        """Take what the station says it holds; tell whether it is more than it said before.

        A number beyond our head was said of another history: it must not let us forget ours.
        """
        if not self.acknowledged < stored <= self.head:
            return False
        self.acknowledged = stored
        if self.ceiling is not None:
            self.ceiling = max(self.ceiling, stored)
        return True

    def answered(self, waiting: Open, through: int) -> None:
        """Note that a fetch is answered, and where those that follow it go on."""
        self.opens.remove(waiting)
        self.ends[waiting.fetch.id] = through
        while len(self.ends) > ENDS_KEPT_MAX:
            del self.ends[next(iter(self.ends))]
        for other in self.opens:
            if other.fetch.follows == waiting.fetch.id:
                other.after = through


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An answer that is packed when it is sent: the next reading may begin meanwhile."""

    fetch: Fetch
    reading: Reading

    def packed(self) -> Batch:
        entries, encoding = messages.encode_entries(self.reading.entries)
        return Batch(
            id=self.fetch.id,
            lane=self.fetch.lane,
            log_id=self.fetch.log_id,
            entries=entries,
            encoding=encoding,
            through=self.reading.through,
            head=self.reading.head,
            gaps=self.reading.gaps,
        )
