"""The station's half of one connection: one gateway, one path, one lane.

The engine checks who is there, keeps fetches open, checks every batch against what is held, and
hands commits to its shell. Nothing is acknowledged, and no reading moves on, before `committed`.
docs/replication.md draws the conversation.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from events.commands import Asked, ChallengeOffer, Outcome, Told
from events.errors import LogRewound, SyncError
from events.kinds import Subkind
from events.model import Instant
from events.replication import Batch, Entry, Hello, Lane, LogHead, Message, Refused, Welcome
from sync import messages
from sync.flight import Flight
from sync.ledger import Cursor
from sync.pace import WINDOW_MAX
from sync.peers import Admission, Notice
from sync.progress import Progress, run_of
from sync.reading import Answer, Load, LogReading, Lookup, Store, Work
from sync.verify import UNKNOWN_CHAIN, MissingCopy, Unanchored
from sync.vigil import ANSWER_S, SILENCE_S, Vigil

__all__ = ["ANSWER_S", "RETRY_S", "SILENCE_S", "Sink", "SinkState"]

RETRY_S = 1.0  # after a commit that failed or a batch that was refused
TOLD_MAX = 64  # until the shell drains them
NOTICES_MAX = 20  # until the shell drains them


class SinkState(StrEnum):
    WAITING = "waiting"  # for hello
    LOADING = "loading"  # cursors from the ledger
    OPEN = "open"
    REFUSED = "refused"
    LOST = "lost"


class Sink:
    """Sans-IO. Bytes and `now` go in; bytes, work for the ledger, notices and a deadline come out.

    `gateway` is the name enrolled under the key that the connection proved. The shell does all the
    `work()` it is given, in that order though not one by one, and reports each with `loaded`,
    `found`, `committed` or `failed`. `active` is False while another path carries the events.
    `admit` judges each hello of a program that was not heard before.
    """

    def __init__(
        self,
        *,
        gateway: str,
        name: str,
        program: str,
        boot_id: str,
        progress: Progress,
        now: Instant,
        admit: Callable[[Hello], Admission] = lambda _: Admission.YES,
        flight: Flight | None = None,
    ) -> None:
        self._gateway = gateway
        self._name = name
        self._program = program
        self._boot_id = boot_id
        self._progress = progress
        self._readings: dict[str, LogReading] = {}
        self._out: list[bytes] = []
        self._notices: list[Notice] = []
        self._todo: deque[Work] = deque()
        self._told: list[Told] = []
        self._load: Load | None = None
        self._load_at = 0.0
        self._vigil = Vigil(heard=now.monotonic, turned=now.monotonic)
        self.admit = admit
        self._flight = flight or Flight()
        self.hello: Hello | None = None
        self.state = SinkState.WAITING
        self.ignored = 0

    def receive(self, data: bytes, now: Instant) -> None:
        """Take one message. What is malformed is noticed and passed over."""
        if self.state in {SinkState.REFUSED, SinkState.LOST}:
            self.ignored += 1
            return
        self._vigil.heard = now.monotonic
        try:
            message = messages.decode(data)
            match message:
                case Hello():
                    self._greeted(message, now)
                case Batch() if self.state is SinkState.OPEN:
                    self._answered(message, now)
                case ChallengeOffer() | Outcome() if len(self._told) < TOLD_MAX:
                    self._told.append(message)
                case _:
                    self.ignored += 1
        except messages.VersionMismatch as error:
            self.refuse(Subkind.VERSION_MISMATCH, f"{error}: {error.hint}")
        except messages.MalformedMessage as error:
            self._notice(Subkind.MALFORMED_MESSAGE, str(error))

    def refuse(self, reason: str, text: str) -> None:
        """Tell the gateway why, and say no more."""
        self.state = SinkState.REFUSED
        self._load = None
        self.end()
        self._todo.clear()
        self._send(Refused(reason=reason, text=text[: messages.TEXT_LENGTH_MAX]))
        self._notice(reason, text)

    def end(self) -> None:
        """Read no more over this connection."""
        while self._readings:
            self._readings.popitem()[1].end()

    @property
    def active(self) -> bool:  # whether this connection carries its lane
        return self._vigil.active

    def work(self) -> Work | None:
        """Return what the ledger is to do next for this connection; each is returned once."""
        while self._todo:
            work = self._todo.popleft()
            if self._wanted(work):
                return work
        return None

    def _wanted(self, work: Work) -> bool:
        """Tell whether anybody still waits for it."""
        if isinstance(work, Load):
            return work is self._load
        reading = self._reading_of(work)
        return reading is not None and (work is reading.lookup or work in reading.stores)

    def _reading_of(self, work: Lookup | Store) -> LogReading | None:
        return self._readings.get(work.log_id if isinstance(work, Lookup) else work.commit.log_id)

    def loaded(self, work: Load, cursors: Mapping[str, Cursor], now: Instant) -> None:
        """Take the cursors that were asked for, and begin to read."""
        self._progress.loaded(work.log_ids, cursors)
        if work is self._load:
            self._load_or_open(now)

    def found(self, work: Lookup, copies: Sequence[Entry], now: Instant) -> None:
        """Take the copies that were asked for."""
        reading = self._reading_of(work)
        if reading is None or reading.lookup is not work:
            return
        reading.found(copies)
        self._advance(reading, now)

    def committed(self, work: Store, now: Instant, *, took_s: float) -> float:
        """Note that the ledger holds it. Only now the reading moves on and is acknowledged.

        Returns for how many seconds the gateway is left alone; then `timeout` is due.
        """
        commit, reading = work.commit, self._reading_of(work)
        progress = reading.progress if reading else self._progress.logs.get(commit.log_id)
        if progress is not None and self.hello is not None:
            progress.committed(commit, run_of(self.hello))
        if reading is None or work not in reading.stores:
            return 0.0
        reading.stores.remove(work)
        if commit.restart:
            reading.restart, reading.epoch = False, reading.progress.epoch
        reading.refusals = 0
        reading.pace.committed(work.size, took_s)
        rest_s = reading.rest(work, now)
        self._advance(reading, now)
        return rest_s

    def failed(self, work: Work, now: Instant) -> None:
        """Note that the ledger could not do it; it is tried again from where the ledger is."""
        if isinstance(work, Load):
            self._load_at = now.monotonic + RETRY_S if work is self._load else self._load_at
            return
        reading = self._reading_of(work)
        if reading is not None and self._wanted(work):
            self._again(reading, now, RETRY_S)

    def activate(self, now: Instant, *, active: bool) -> None:
        """Carry the events over this connection, or only keep it alive."""
        if active != self.active:
            self._vigil.active, self._vigil.turned = active, now.monotonic
            for reading in self._readings.values():
                self._again(reading, now, 0.0)

    def timeout(self, now: Instant) -> None:
        if self.state in {SinkState.REFUSED, SinkState.LOST}:
            return
        if now.monotonic >= self._vigil.silent_at:
            self.state = SinkState.LOST
            return
        if self._load_at and now.monotonic >= self._load_at:
            self._load_at = 0.0
            if self._load is not None:
                self._todo.append(self._load)
        for reading in list(self._readings.values()):
            reading.look_for_withheld(now)
            self._tell_oddities(reading)
            if now.monotonic >= reading.answer_due(self._vigil.answer_s):
                self._again(reading, now, 0.0)
            self._pump(reading, now)

    def deadline(self) -> float | None:
        if self.state in {SinkState.REFUSED, SinkState.LOST}:
            return None
        due = [self._vigil.silent_at]
        if self._load_at:
            due.append(self._load_at)
        for reading in self._readings.values():
            if reading.retry_at or reading.rest_until:
                due.append(max(reading.retry_at, reading.rest_until))
            due += [reading.answer_due(self._vigil.answer_s), reading.withheld_at()]
        return min(due)

    def to_send(self) -> list[bytes]:
        """Drain the messages to send, in order."""
        out, self._out = self._out, []
        return out

    def ask(self, message: Asked) -> None:  # beside the events
        self._send(message)

    def told(self) -> list[Told]:
        """Drain what the gateway answered to that."""
        told, self._told = self._told, []
        return told

    def notices(self) -> list[Notice]:
        """Drain what people must be told."""
        notices, self._notices = self._notices, []
        return notices

    def ping(self, now: Instant) -> None:
        """Ask for a sign of life at once."""
        reading = next(iter(self._readings.values()), None)
        if reading is not None and self.state is SinkState.OPEN:
            self._send(reading.ping(self._flight.number()))

    def _send(self, message: Message) -> None:
        self._out.append(messages.encode(message))

    def _notice(self, reason: str, text: str, log_id: str = "", head: int = 0) -> None:
        if len(self._notices) < NOTICES_MAX:
            self._notices.append(
                Notice(reason=reason, text=text, gateway=self._gateway, log_id=log_id, head=head)
            )

    def _greeted(self, hello: Hello, now: Instant) -> None:
        if hello.name != self._gateway:
            shown = f"the key of gateway {self._gateway} was used under the name"
            self.refuse(Subkind.IDENTITY_REFUSED, f"{shown} {hello.name[:100]!r}")
            return
        if self.hello and (hello.lane, hello.path) != (self.hello.lane, self.hello.path):
            raise messages.MalformedMessage("a hello for another lane or path on one connection")
        if self.hello is None or self.hello.instance != hello.instance:
            admission = self.admit(hello)
            if admission is Admission.NO:
                self.refuse(Subkind.KEY_SHARED, "two machines use the key of this gateway at once")
            if admission is not Admission.YES:
                return
        self.hello = hello
        self._vigil.period_s = hello.period_s
        self._send(
            Welcome(
                protocol=messages.common_version(hello.protocol_min, hello.protocol_max),
                program=self._program,
                name=self._name,
                stamp=messages.stamp(now, self._boot_id),
            )
        )
        if self.state is SinkState.WAITING:
            self.state = SinkState.LOADING
        self._load_or_open(now)

    def _load_or_open(self, now: Instant) -> None:
        """Ask for the cursors that are not known; once all are, read."""
        hello = self.hello
        if hello is None:
            return
        missing = self._progress.missing(log.log_id for log in hello.logs)
        if missing:
            self._load, self._load_at = Load(log_ids=missing), 0.0
            self._todo.append(self._load)
        else:
            self._load = None
            self._open(hello, now)

    def _open(self, hello: Hello, now: Instant) -> None:
        self.state = SinkState.OPEN
        offered = {log.log_id: log for log in hello.logs}
        for log_id in self._readings.keys() - offered.keys():
            self._readings.pop(log_id).end()
        for log_id, log in offered.items():
            reading = self._readings.get(log_id)
            if reading is None:
                reading = self._begin(hello, log)
            reading.announce(log.head, now)
            self._pump(reading, now)

    def _begin(self, hello: Hello, log: LogHead) -> LogReading:
        progress = self._progress.logs[log.log_id]
        reading = LogReading(
            log.log_id, hello.lane, run_of(hello), log.volatile, log.head, progress
        )
        reading.epoch, reading.flight = progress.epoch, self._flight
        progress.run = reading.run_id
        reading.rewind()
        self._readings[log.log_id] = reading
        if progress.main == 0 and progress.ahead is None:
            progress.verified = reading.run_id  # nothing is held that could differ
        elif log.head == progress.main and progress.chain != UNKNOWN_CHAIN:
            if log.chain in {progress.chain, UNKNOWN_CHAIN}:  # the end of a salvaged log is lost
                progress.verified = reading.run_id
            elif hello.lane is Lane.MAIN:
                self._rewound(reading, f"another event is numbered {log.head} there")
        return reading

    def _answered(self, batch: Batch, now: Instant) -> None:
        reading = self._readings.get(batch.log_id)
        waiting = reading.opens.get(batch.id) if reading else None
        if reading is None or waiting is None or waiting.answer or batch.lane is not reading.lane:
            self.ignored += 1  # late, doubled, or of a conversation that is over
            return
        try:
            entries = messages.decode_entries(batch)
        except messages.MalformedMessage as error:
            self._refused(reading, error, now)
            return
        waiting.answer = Answer(batch, entries, now)
        reading.announce(batch.head, now)
        reading.measure(waiting, waiting.answer)
        self._advance(reading, now)

    def _advance(self, reading: LogReading, now: Instant) -> None:
        """Take the answers that came, in the order in which they were asked for."""
        while (answered := reading.answered()) is not None:
            try:
                work = reading.take(*answered)
            except SyncError as error:
                if reading.stores:  # judged again when the ledger has what comes before it
                    break
                self._not_taken(reading, error, now)
            else:
                if work is not None:
                    self._todo.append(work)
            self._tell_oddities(reading)
        self._pump(reading, now)

    def _tell_oddities(self, reading: LogReading) -> None:
        for reason, text in reading.drain_oddities():
            head = reading.progress.head if reason == Subkind.EVENTS_WITHHELD else 0
            self._notice(reason, text, reading.log_id, head)

    def _not_taken(self, reading: LogReading, error: SyncError, now: Instant) -> None:
        match error:
            case LogRewound():
                self._rewound(reading, str(error))
            case Unanchored():
                reading.begin_anew()
            case MissingCopy():
                reading.whole_until = error.seq
                reading.rewind()
            case _:
                self._refused(reading, error, now)

    def _rewound(self, reading: LogReading, text: str) -> None:
        self._notice(Subkind.LOG_REWOUND, text, reading.log_id)
        reading.begin_anew()

    def _refused(self, reading: LogReading, error: SyncError, now: Instant) -> None:
        if isinstance(error, messages.MalformedMessage):
            self._notice(Subkind.MALFORMED_MESSAGE, str(error), reading.log_id)
        reading.refusals += 1
        self._again(reading, now, RETRY_S)

    def _again(self, reading: LogReading, now: Instant, after_s: float) -> None:
        reading.rewind()
        reading.retry_at = now.monotonic + after_s if after_s else 0.0
        self._pump(reading, now)

    def _pump(self, reading: LogReading, now: Instant) -> None:
        """Keep as many fetches open as the pace asks for."""
        reading.count()
        if self.state is not SinkState.OPEN or reading.waits(now):
            return
        reading.retry_at = reading.rest_until = 0.0
        if reading.epoch != reading.progress.epoch and not reading.stores:
            reading.rewind()
        wanted = reading.wanted(active=self.active)
        if self.active and len(reading.opens) >= wanted and reading.owes_word():
            wanted = min(len(reading.opens), WINDOW_MAX) + 1
        while len(reading.opens) < wanted:
            number, hold_s = self._flight.number(), self._vigil.hold_s
            self._send(reading.ask(number, now, active=self.active, hold_s=hold_s))
