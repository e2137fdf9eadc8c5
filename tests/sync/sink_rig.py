"""The engine of a station alone: words in, words out, on a clock of the test."""

from typing import Any

from events.chain import genesis, link
from events.model import Instant
from events.replication import Batch, Entry, Fetch, Hello, Lane, Welcome
from sync.flight import Flight
from sync.messages import decode, encode, encode_entries, stamp
from sync.notices import lacking
from sync.peers import Notice
from sync.progress import Progress
from sync.reading import Load, Lookup, Store
from sync.rest import RATE_FULL
from sync.sink import Sink
from tests.sync.fakes import ListLedger, OneLog
from tests.sync.world import Trouble

QUIET = Trouble(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class Station:
    """A sink over a ledger, with a hand that moves the clock and speaks for the gateway."""

    def __init__(self, lane: Lane = Lane.MAIN, *, head: int = 5) -> None:
        self.ledger = ListLedger()
        self.lacking: list[Notice] = []
        self.progress = Progress()
        self.lane = lane
        self.time = 100.0
        self.flight = Flight()
        self.one = OneLog("disk")
        for n in range(head):
            self.one.append(b"event %d" % n, urgent=n % 2 == 0)
        self.begin()

    def begin(self) -> None:
        self.sink = Sink(
            gateway="gw",
            name="st",
            program="t",
            boot_id="s",
            progress=self.progress,
            now=self.now,
            flight=self.flight,
        )

    def crowd(self) -> None:
        """Let other gateways send as many small batches as make everybody wait."""
        while self.flight.rest.rate < RATE_FULL:
            self.flight.rest.after(self.time)

    @property
    def now(self) -> Instant:
        return Instant(monotonic=self.time)

    def hear(self, message: Any) -> list[Any]:
        self.sink.receive(encode(message), self.now)
        return self.said()

    def said(self) -> list[Any]:
        """Do the ledger's work, then return what the sink sends."""
        while (work := self.sink.work()) is not None:
            match work:
                case Load():
                    cursors = self.ledger.cursors_now("gw", work.log_ids)
                    self.sink.loaded(work, cursors, self.now)
                case Lookup():
                    copies = self.ledger.copies_now("gw", work.log_id, work.first, work.last)
                    self.sink.found(work, copies, self.now)
                case Store():
                    result = self.ledger.commit_now("gw", work.commit)
                    self.lacking += lacking(result, work.commit.log_id)
                    self.sink.committed(work, self.now, took_s=0.001)
        return [decode(data) for data in self.sink.to_send()]

    def hello(self, **given: Any) -> Hello:
        fields: dict[str, Any] = {
            "protocol_min": 1,
            "protocol_max": 1,
            "program": "t",
            "name": "gw",
            "boot_id": "b",
            "lane": self.lane,
            "path": "lan",
            "logs": (self.one.head(),),
            "stamp": stamp(self.now, "b"),
        }
        return Hello(**fields | given)

    def open(self) -> list[Fetch]:
        welcome, *fetches = self.hear(self.hello())
        assert isinstance(welcome, Welcome)
        return fetches

    def batch(self, fetch: Fetch, *entries: Entry, **given: Any) -> Batch:
        packed, encoding = encode_entries(entries)
        fields: dict[str, Any] = {
            "id": fetch.id,
            "lane": self.lane,
            "log_id": "disk",
            "entries": packed,
            "encoding": encoding,
            "through": entries[-1].seq if entries else fetch.after,
            "head": len(self.one.rows),
        }
        return Batch(**fields | given)

    def entries(self, *numbers: int, bare: tuple[int, ...] = ()) -> list[Entry]:
        rows = [self.one.rows[n - 1][0] for n in numbers]
        return [Entry(e.seq, e.chain, None if e.seq in bare else e.body) for e in rows]

    def reasons(self) -> list[str]:
        lacking, self.lacking = self.lacking, []
        return [str(notice.reason) for notice in [*self.sink.notices(), *lacking]]

    def held(self) -> list[int]:
        return sorted(self.ledger.held("gw").numbers("disk"))


def chained(*bodies: bytes) -> list[Entry]:
    chain, entries = genesis("x"), []
    for seq, body in enumerate(bodies, 1):
        chain = link(chain, seq, body)
        entries.append(Entry(seq, chain, body))
    return entries
