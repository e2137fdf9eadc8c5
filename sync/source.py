"""The gateway's half of one connection: one station, one path, one lane.

The engine says hello, keeps the station's open fetches, asks its shell for readings of the log and
answers. It never sends an event that nobody asked for, and it passes on what the station
acknowledges. docs/replication.md draws the conversation.
"""

from collections.abc import Sequence
from enum import StrEnum

from events.commands import Asked, ChallengeRequest, Command, Inquiry, Told
from events.errors import SyncError
from events.model import Instant
from events.replication import (
    HOLD_S,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Fetch,
    Hello,
    Lane,
    LogHead,
    Message,
    Refused,
    Welcome,
)
from sync import messages
from sync.log import Reading
from sync.offer import ENDS_KEPT_MAX, Mark, Offer, Open, ReadRequest, Unpacked
from sync.station_time import Question, StationTime

__all__ = ["Mark", "ReadRequest", "Source", "SourceState"]

SILENCE_S = 7.0  # nothing heard for so long: the station's program does not answer
ANSWER_S = SILENCE_S - HOLD_S  # after a sign of life the station asks again within it
PROBE_S = 3.0  # when another path is lost, this one must prove itself within it
GREETING_RETRY_S = 2.0  # a hello without an answer is said again
READ_RETRY_S = 0.5  # a log that could not be read is tried again
FETCHES_OPEN_MAX = 16  # for each log
ASKED_MAX = 64  # questions beside the events that nobody has taken yet
LIMIT_BYTES_MAX = 256 * 1024  # one batch, whatever a station asks for


class SourceState(StrEnum):
    GREETING = "greeting"  # hello said, no answer yet
    UP = "up"
    SILENT = "silent"
    REFUSED = "refused"


class Source:
    """Sans-IO. Bytes and `now` go in; bytes, readings to make, marks and a deadline come out.

    The shell calls `connect` when the socket has a connection, `changed` when the log grew, and
    answers every `wants()` with `read` or `unreadable`. After `SILENT` or `REFUSED` it drops the
    connection. `fetches` counts over all connections.
    """

    def __init__(
        self,
        *,
        name: str,
        program: str,
        boot_id: str,
        lane: Lane,
        path: str,
        instance: str = "",
        rank: int = 0,
        period_s: float = HOLD_S,
    ) -> None:
        self._name = name
        self._program = program
        self._boot_id = boot_id
        self._lane = lane
        self._path = path
        self._instance = instance
        self._rank = rank
        self._period_s = period_s
        self._lost: tuple[str, ...] = ()
        self._probe_by: float | None = None
        self._answered = 0.0
        self._logs: tuple[LogHead, ...] = ()
        self._offers: dict[str, Offer] = {}
        self._out: list[Message | Unpacked] = []
        self._marks: list[Mark] = []
        self._asked: list[Asked] = []
        self._ceilings: list[Mark] = []
        self._reading: ReadRequest | None = None
        self._heard = 0.0
        self._greeted = 0.0
        self._question = Question()
        self.state = SourceState.SILENT
        self.refusal: Refused | None = None
        self.welcome: Welcome | None = None
        self.ignored = 0
        self.fetches = 0
        self.malformed = 0

    def connect(self, logs: Sequence[LogHead], now: Instant) -> None:
        """Begin on a fresh connection; nothing of an earlier one is kept."""
        self._offers.clear()
        self._out.clear()
        self._reading = None
        self._question.forget()
        self._heard = self._answered = now.monotonic
        self._probe_by = None
        self.state = SourceState.GREETING
        self.refusal = self.welcome = None
        self._offer(logs)
        self._greet(now)

    def changed(self, logs: Sequence[LogHead], now: Instant) -> None:
        """Take the heads of the logs; a log that came or went is told to the station."""
        before = [(log.log_id, log.volatile) for log in self._logs]
        self._offer(logs)
        if before != [(log.log_id, log.volatile) for log in self._logs] and self._alive():
            self._greet(now)

    def greet_again(self, now: Instant) -> None:
        """Say hello once more: our stamp is worth more than the one before."""
        if self._alive():
            self._greet(now)

    def others_lost(self, paths: Sequence[str], now: Instant) -> None:
        """Take which other paths lost this lane: the station hears of it, and this one is proved."""
        fewer = set(paths) <= set(self._lost)
        self._lost = tuple(paths)
        if not fewer and self._alive():
            self._greet(now)
            self._probe_by = now.monotonic + PROBE_S

    def receive(self, data: bytes, now: Instant) -> None:
        """Take one message. A malformed one is counted and passed over."""
        if not self._alive():
            return
        try:
            message = messages.decode(data)
        except SyncError:
            self.malformed += 1
            return
        self._heard = now.monotonic
        self._probe_by = None
        match message:
            case Welcome():
                self._welcomed(message, now)
            case Refused():
                self._refused(message)
            case Fetch():
                self._fetch(message, now)
            case ChallengeRequest() | Command() | Inquiry() if len(self._asked) < ASKED_MAX:
                self._asked.append(message)
            case _:
                self.ignored += 1

    def wants(self) -> list[ReadRequest]:
        """Return the reading to make now: one at a time, and the same until it is answered."""
        if self._reading is None and self._alive():
            self._reading = self._next_reading()
        return [] if self._reading is None else [self._reading]

    def read(self, request: ReadRequest, reading: Reading, now: Instant) -> None:
        """Take what the log holds."""
        found = self._requested(request)
        if found is None:
            return
        offer, waiting = found
        offer.head = max(offer.head, reading.head)  # it may have grown while it was read
        if reading.entries or reading.gaps or reading.head < request.after:
            self._answer(offer, waiting, reading, now)
        elif reading.through > request.after:
            waiting.after = reading.through
        elif reading.head > reading.through:
            waiting.not_before = now.monotonic + READ_RETRY_S

    def unreadable(self, request: ReadRequest, now: Instant) -> None:
        """Note that the log could not be read; it is tried again while the fetch is held."""
        found = self._requested(request)
        if found is not None:
            found[1].not_before = now.monotonic + READ_RETRY_S

    def timeout(self, now: Instant) -> None:
        if not self._alive():
            return
        if now.monotonic >= self._silent_at():
            self.state = SourceState.SILENT
            return
        if self.state is SourceState.GREETING and self._greeting_due() <= now.monotonic:
            self._greet(now)
        for offer in self._offers.values():
            for waiting in [each for each in offer.opens if offer.sign_due(each) <= now.monotonic]:
                self._let_go(offer, waiting, now)
            for waiting in offer.opens:
                if waiting.not_before <= now.monotonic:
                    waiting.not_before = 0.0

    def deadline(self) -> float | None:
        if not self._alive():
            return None
        due = [self._silent_at()]
        if self.state is SourceState.GREETING:
            due.append(self._greeting_due())
        for offer in self._offers.values():
            due += [offer.sign_due(waiting) for waiting in offer.opens]
            due += [waiting.not_before for waiting in offer.opens if waiting.not_before]
        return min(due)

    def to_send(self) -> list[bytes]:
        """Drain the messages to send, in order."""
        out, self._out = self._out, []
        return [
            messages.encode(each.packed() if isinstance(each, Unpacked) else each) for each in out
        ]

    def marks(self) -> list[Mark]:
        """Drain what the station acknowledged."""
        marks, self._marks = self._marks, []
        return marks

    def station_time(self) -> StationTime | None:
        """Drain the time that the newest welcome told, None if it told none."""
        return self._question.take()

    def asked(self) -> list[Asked]:
        """Drain what the station asks beside the events."""
        asked, self._asked = self._asked, []
        return asked

    def tell(self, message: Told) -> None:
        """Answer that; without a connection it is lost, and the station inquires."""
        if self._alive():
            self._send(message)

    def ceilings(self) -> list[Mark]:
        """Drain above what the station cannot hold anything: from there on it asked again."""
        ceilings, self._ceilings = self._ceilings, []
        return ceilings

    def _alive(self) -> bool:
        return self.state in {SourceState.GREETING, SourceState.UP}

    def _silent_at(self) -> float:
        """Return when the station's program, having said nothing more, is not there any more."""
        held = [waiting.due for offer in self._offers.values() for waiting in offer.opens]
        silent_at = max(self._heard + SILENCE_S, max(held, default=self._answered) + ANSWER_S)
        return silent_at if self._probe_by is None else min(silent_at, self._probe_by)

    def _greeting_due(self) -> float:
        return self._greeted + GREETING_RETRY_S

    def _send(self, message: Message) -> None:
        self._out.append(message)

    def _greet(self, now: Instant) -> None:
        self._greeted = now.monotonic
        self._question.ask(now)
        self._send(
            Hello(
                protocol_min=PROTOCOL_MIN,
                protocol_max=PROTOCOL_MAX,
                program=self._program,
                name=self._name,
                boot_id=self._boot_id,
                lane=self._lane,
                path=self._path,
                logs=self._logs,
                stamp=messages.stamp(now, self._boot_id),
                instance=self._instance,
                rank=self._rank,
                period_s=self._period_s,
                lost=self._lost,
            )
        )

    def _offer(self, logs: Sequence[LogHead]) -> None:
        self._logs = tuple(logs[: messages.LOGS_MAX])
        offered = {log.log_id: log for log in self._logs}
        for log_id in self._offers.keys() - offered.keys():
            del self._offers[log_id]
        for log_id, log in offered.items():
            offer = self._offers.setdefault(log_id, Offer(log.head))
            offer.head = log.head

    def _welcomed(self, message: Welcome, now: Instant) -> None:
        self._question.answer(message.stamp, now)
        if PROTOCOL_MIN <= message.protocol <= PROTOCOL_MAX:
            self.welcome = message
            self.state = SourceState.UP
        else:
            text = f"the station chose protocol {message.protocol}, which was not offered"
            self._refused(Refused(reason="version-mismatch", text=text))

    def _refused(self, message: Refused) -> None:
        self.refusal = message
        self.state = SourceState.REFUSED

    def _fetch(self, fetch: Fetch, now: Instant) -> None:
        offer = self._offers.get(fetch.log_id)
        if offer is None or fetch.lane is not self._lane or not self._is_new(offer, fetch):
            self.ignored += 1
            return
        if not fetch.limit_bytes and not fetch.hold_s:
            nothing = Reading(entries=(), gaps=(), through=fetch.after, head=offer.head)
            self._out.append(Unpacked(fetch, nothing))
            return
        if not fetch.follows and offer.supersede(fetch):
            self._ceilings.append(Mark(log_id=fetch.log_id, lane=self._lane, stored=fetch.after))
        offer.newest_id = max(offer.newest_id, fetch.id)
        self.fetches += 1
        if offer.acknowledge(fetch.stored):
            self._marks.append(Mark(log_id=fetch.log_id, lane=self._lane, stored=fetch.stored))
        after = offer.ends.get(fetch.follows) if fetch.follows else fetch.after
        offer.opens.append(Open(fetch, now.monotonic, after))

    def _is_new(self, offer: Offer, fetch: Fetch) -> bool:
        if len(offer.opens) >= FETCHES_OPEN_MAX or fetch.id <= offer.newest_id - ENDS_KEPT_MAX:
            return False
        known = fetch.id in offer.ends or any(fetch.id == each.fetch.id for each in offer.opens)
        return not known

    def _next_reading(self) -> ReadRequest | None:
        for log_id, offer in self._offers.items():
            for waiting in offer.opens:
                if waiting.after is None or waiting.fetch.limit_bytes == 0 or waiting.not_before:
                    continue
                if waiting.after == offer.head:
                    continue
                return ReadRequest(
                    fetch=waiting.fetch.id,
                    log_id=log_id,
                    lane=self._lane,
                    after=waiting.after,
                    limit_bytes=min(waiting.fetch.limit_bytes, LIMIT_BYTES_MAX),
                    bare_through=waiting.fetch.bare_through,
                )
        return None

    def _requested(self, request: ReadRequest) -> tuple[Offer, Open] | None:
        if request is not self._reading:
            return None
        self._reading = None
        offer = self._offers.get(request.log_id)
        for waiting in offer.opens if offer else ():
            if offer and waiting.fetch.id == request.fetch:
                return offer, waiting
        return None

    def _let_go(self, offer: Offer, waiting: Open, now: Instant) -> None:
        """Answer a fetch with nothing: the sign of life."""
        if waiting.after is None:  # the fetch before it never came
            offer.opens.remove(waiting)
            self.ignored += 1
            return
        nothing = Reading(entries=(), gaps=(), through=waiting.after, head=offer.head)
        self._answer(offer, waiting, nothing, now)

    def _answer(self, offer: Offer, waiting: Open, reading: Reading, now: Instant) -> None:
        fetch = waiting.fetch
        self._answered = now.monotonic
        self._out.append(Unpacked(fetch, reading))
        offer.answered(waiting, reading.through)
