"""The bus owner: one exchange open at a time, on one serial line or one TCP connection.

A `Link`. It polls what is configured, judges answers strictly, keeps the silences, retries, and
turns what it reads into observations. A timeout is followed by the unit's late window, in which
everything that comes is discarded; on TCP the transaction number does that as well.
"""

from dataclasses import dataclass, replace

from events.commands import Verdict
from events.model import Instant, Observation
from protocols.levels import Memory
from protocols.modbus.codes import BROADCAST
from protocols.modbus.exchange import Request
from protocols.modbus.outbox import Outbox
from protocols.modbus.plan import gap_s
from protocols.modbus.poll import BUSY, Poll
from protocols.modbus.rtu import Answer
from protocols.modbus.schedule import Item, UnitState
from protocols.modbus.sections import TCP, Bus, Unit
from protocols.modbus.timing import transmission_s
from protocols.modbus.wire import RtuWire, TcpWire, Wire
from protocols.modbus.writes import Write, Writes, Written

BABBLE_S = 1.0  # how long noise between exchanges may put off the next one
WRITE_EXPIRES_S = 5.0
STALE_S = 15.0  # a TCP connection on which nothing came for so long may be one end of nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """The exchange that is on the line."""

    job: Item | Write
    request: Request
    sent_at: float
    deadline: float
    late_window_s: float
    extended: bool = False


class ModbusBus:
    """The engine of one bus. `counters` only ever grow."""

    def __init__(self, config: Bus, memory: Memory) -> None:
        self.counters: dict[str, int] = dict.fromkeys(
            ("requests", "answers", "exceptions", "timeouts", "writes"), 0
        )
        self._config = config
        self._wire: Wire = TcpWire() if config.port is None else RtuWire(config.port.baud)
        self._gap_s = gap_s(config)
        self._outbox = Outbox(
            frozenset(point.id for unit in config.unit for point in unit.point if point.urgent)
        )
        self._poll = Poll(config, memory, self._outbox, self._wire.integrity)
        self._schedule = self._poll.schedule
        self._writes = Writes()
        self._open: _Open | None = None
        self._out = b""
        self._quiet_until = 0.0
        self._quiet_limit = 0.0
        self._wrote_last = False
        self._now_s = 0.0
        self._heard_at = 0.0
        self._stale = False

    # the Link

    def start(self, now: Instant) -> None:
        if self._open is not None and isinstance(self._open.job, Write):
            self._writes.settle(self._open.job, Verdict.OUTCOME_UNKNOWN)
        self._open = None
        self._out = b""
        self._heard_at = now.monotonic
        self._stale = False
        self._wrote_last = True  # a read first: it tells whether the line echoes
        self._wire.restart()
        self._outbox.restart()
        self._schedule.restart(now.monotonic)
        self._be_quiet(now.monotonic, self._gap_s)
        self._advance(now.monotonic)

    def receive(self, data: bytes, now: Instant) -> None:
        now_s = now.monotonic
        self._heard_at = now_s
        answer = self._wire.receive(data)
        opened = self._open
        if answer is not None and opened is not None:
            self._open = None
            self._be_quiet(now_s, self._gap_s)
            self._settle(opened, answer, now_s)
        elif opened is None:
            self._quiet_until = min(max(self._quiet_until, now_s + self._gap_s), self._quiet_limit)
        self._advance(now_s)

    def timeout(self, now: Instant) -> None:
        now_s = now.monotonic
        opened = self._open
        if opened is not None and now_s >= opened.deadline:
            rest_s = 0.0 if opened.extended else self._wire.rest_s(opened.request)
            if rest_s:
                self._open = replace(opened, deadline=now_s + rest_s, extended=True)
            else:
                self._expire(opened, now_s)
        self._advance(now_s)

    def deadline(self) -> float | None:
        if self._wire.broken:
            return None
        if self._open is not None:
            return self._open.deadline
        times = [self._outbox.next_release(), self._writes.wake()]
        if not self._outbox.full:
            times.append(self._schedule.wake())
        wanted = [time for time in times if time is not None]
        return max(self._quiet_until, min(wanted)) if wanted else None

    def to_send(self) -> bytes:
        out, self._out = self._out, b""
        return out

    def observations(self) -> list[Observation]:
        return self._outbox.drain(self._now_s)

    def stored(self, count: int, now: Instant) -> None:
        self._outbox.stored(count)
        self._advance(now.monotonic)

    def dropped(self, count: int, now: Instant) -> None:
        """Take back the oldest `count` that were handed out; they are offered again later."""
        self._outbox.dropped(count, now.monotonic)

    # beside the Link

    @property
    def id(self) -> str:
        return self._config.id

    @property
    def broken(self) -> bool:
        """Tell whether the other side broke the framing for good: close the connection."""
        return self._wire.broken

    @property
    def stale(self) -> bool:
        """Tell whether a TCP connection has been asked in vain for `STALE_S`: open another one.

        While data is unanswered, TCP itself notices a vanished peer only after a quarter of an
        hour.
        """
        return self._stale

    @property
    def polling(self) -> bool:
        """Tell whether what is due is read; not while too much that is urgent waits to be stored."""
        return not self._outbox.full and not self._wire.broken

    def write(self, request: Request, now: Instant, *, expires_s: float = WRITE_EXPIRES_S) -> int:
        """Queue a write; return the ticket under which `written` reports what became of it.

        Goes out before the next read, unless that is more than `expires_s` away. Never repeated
        after a timeout: whether the unit took it is then unknown. Unit 0 of a serial line is all
        units, and none of them answers. Raises `LocalProtocolError`.
        """
        ticket = self._writes.add(request, now.monotonic + expires_s)
        self._advance(now.monotonic)
        return ticket

    def written(self) -> list[Written]:
        """Drain what became of writes."""
        return self._writes.outcomes()

    def units(self) -> list[UnitState]:
        """Return the state of every unit, to look at."""
        return self._schedule.units

    def totals(self) -> dict[str, int]:
        """Return all counters, those of the line among them."""
        return {
            **self.counters,
            "rejected": self._wire.rejected,
            "discarded_bytes": self._wire.discarded,
            "unrecorded_changes": self._outbox.unrecorded,
        }

    # the exchanges

    def _advance(self, now_s: float) -> None:
        """Send the next request if the line is free and something is due."""
        self._now_s = now_s
        if self._open is not None or self._wire.broken or now_s < self._quiet_until:
            return
        item = None if self._outbox.full else self._schedule.choose(now_s)
        if item is None or not self._wrote_last:
            write = self._writes.next(now_s)
            if write is not None:
                self._wrote_last = True
                self._begin_write(write, now_s)
                return
        self._wrote_last = False
        if item is not None:
            self._begin(item, item.request, now_s, item.unit)

    def _begin_write(self, write: Write, now_s: float) -> None:
        self.counters["writes"] += 1
        request = write.request
        if request.unit == BROADCAST and self._config.driver != TCP:
            sent = self._wire.send(request, any_exception=False)
            self._wire.give_up()
            self._out += sent
            self._writes.settle(write, Verdict.APPLIED_UNCONFIRMED)
            self._be_quiet(now_s, self._sending_s(sent) + self._config.turnaround_ms / 1000)
            return
        self._begin(write, request, now_s, self._poll.unit(request.unit))

    def _begin(
        self, job: Item | Write, request: Request, now_s: float, unit: UnitState | None
    ) -> None:
        self.counters["requests"] += 1
        config = Unit(id="unconfigured", unit=request.unit) if unit is None else unit.config
        self._out += self._wire.send(request, any_exception=config.exception_80)
        self._open = _Open(
            job=job,
            request=request,
            sent_at=now_s,
            deadline=now_s + self._config.timeout_s(config),
            late_window_s=self._config.late_window_s(config),
        )

    def _settle(self, opened: _Open, answer: Answer, now_s: float) -> None:
        exception = answer.frame.exception
        self.counters["answers" if exception is None else "exceptions"] += 1
        job = opened.job
        if isinstance(job, Item):
            self._poll.answered(job, answer, now_s)
        elif exception is None:
            self._writes.settle(job, Verdict.APPLIED)
        elif exception not in BUSY or not self._writes.try_again(job, now_s):
            self._writes.settle(job, Verdict.FAILED, exception)

    def _expire(self, opened: _Open, now_s: float) -> None:
        """Close an exchange without an answer, and keep the line silent for its late window."""
        self.counters["timeouts"] += 1
        self._open = None
        self._stale = self._config.driver == TCP and now_s - self._heard_at >= STALE_S
        doubtful = self._wire.doubtful
        self._wire.give_up()
        silent_until = now_s + max(opened.late_window_s, self._gap_s)
        self._be_quiet(now_s, silent_until - now_s)
        if isinstance(opened.job, Item):
            self._poll.missed(opened.job, now_s, silent_until)
            return
        self._schedule.failed(silent_until, silent_until - opened.sent_at)
        self._writes.settle(
            opened.job, Verdict.APPLIED_UNCONFIRMED if doubtful else Verdict.OUTCOME_UNKNOWN
        )

    def _sending_s(self, sent: bytes) -> float:
        port = self._config.port
        return 0.0 if port is None else transmission_s(len(sent), port.baud)

    def _be_quiet(self, now_s: float, silence_s: float) -> None:
        self._quiet_until = now_s + silence_s
        self._quiet_limit = self._quiet_until + BABBLE_S
