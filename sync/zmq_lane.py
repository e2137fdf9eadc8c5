"""One lane of one path: a `Source` and its socket, again and again.

A connection that was lost or fell silent is given up with its socket; the next one is a new socket
after a short pause with jitter. Nothing in a socket's queue counts: the station asks again.
"""

import asyncio
import errno
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import NoReturn

import zmq
from zmq.utils.monitor import parse_monitor_message

from events.commands import Asked, Told
from events.errors import StoreError
from events.kinds import Subkind
from events.model import Instant
from sync.diagnosis import TRYING, UP, LaneState
from sync.log import Log, Reading
from sync.peers import Clock, PathFault
from sync.source import Mark, ReadRequest, Source, SourceState
from sync.station_time import StationTime
from sync.zmq_loop import LoopSocket, endpoint, wait

RECONNECT_MS = 500  # the library's own, while nobody accepts: doubled up to the maximum
RECONNECT_MAX_MS = 5_000
PAUSE_S = 0.3  # before a new socket, after a connection that was good
REFUSED_PAUSE_S = 3.0  # after one that was refused
CONNECT_S = 5.0  # an attempt without a result is a fault
ATTEMPT_S = (
    30.0  # a socket without a connection is given up: the library may have ended its trying
)
BROKEN_HANDSHAKES = 3  # in a row: not a restart, but a station of another key
REFUSAL_S = 2.5  # who refuses does so at once; who breaks off later did not hear or cannot answer
STEP_MESSAGES_MAX = 64  # then the other tasks get their turn

_MONITORED = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_REFUSALS = {
    str(Subkind.VERSION_MISMATCH): PathFault.VERSION_MISMATCH,
    str(Subkind.KEY_REFUSED): PathFault.KEY_REFUSED,
    str(Subkind.KEY_SHARED): PathFault.KEY_SHARED,
}


class _Over(Exception):  # noqa: N818 - not an error: this attempt is over
    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self.pause_s = pause_s


@dataclass(slots=True)
class _Attempt:
    """One socket. `connect_by` is None once the handshake succeeded."""

    line: LoopSocket
    monitor: LoopSocket
    connect_by: float | None
    give_up_at: float
    accepted_at: float | None = None
    broken: bool = False  # its handshake failed, and that was counted
    asked: ReadRequest | None = None
    unsent: deque[bytes] = field(default_factory=deque)


class LaneRunner:
    """Runs until cancelled. Whoever appends to the log sets `awake`."""

    def __init__(
        self,
        *,
        source: Source,
        log: Log,
        clock: Clock,
        address: str,
        socket: Callable[[int], zmq.Socket[bytes]],
        on_state: Callable[[LaneState], None],
        on_mark: Callable[[Mark], None],
        on_time: Callable[[StationTime], None],
        on_asked: Callable[[Asked, Callable[[Told], None]], None],
        on_ceiling: Callable[[Mark], None],
        station_keys: int = 1,
    ) -> None:
        self.awake = asyncio.Event()
        self._source = source
        self._log = log
        self._clock = clock
        self._address = address
        self._socket = socket  # makes one for every attempt; told how many were broken off
        self._on_state = on_state
        self._on_mark = on_mark
        self._on_time = on_time
        self._greet_due = False
        self._on_asked = on_asked
        self._on_ceiling = on_ceiling
        self._station_keys = station_keys
        self._lost: tuple[str, ...] = ()
        self._told_lost: tuple[str, ...] = ()
        self._read: list[tuple[ReadRequest, Reading | None]] = []
        self._state = TRYING
        self._broken_handshakes = 0
        # Gateways that lost one station must not all come back at the same moment.
        self._random = random.SystemRandom()

    def greet_again(self) -> None:
        """Say hello once more where there is a connection: the clock is worth more now."""
        self._greet_due = True
        self.awake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as readings:
            while True:
                with self._attempt() as attempt:
                    try:
                        await self._serve(attempt, readings)
                    except _Over as over:
                        pause_s = over.pause_s * self._random.uniform(0.5, 1.5)
                await asyncio.sleep(pause_s)

    def others_lost(self, paths: tuple[str, ...]) -> None:
        """Hear on which other paths this lane was lost: the station is told over this one."""
        if paths != self._lost:
            self._lost = paths
            self.awake.set()

    @contextmanager
    def _attempt(self) -> Iterator[_Attempt]:
        socket = self._socket(self._broken_handshakes // BROKEN_HANDSHAKES)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        reconnect_ms = round(RECONNECT_MS * self._random.uniform(0.6, 1.4))
        socket.setsockopt(zmq.RECONNECT_IVL, reconnect_ms)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
        monitor = LoopSocket(socket.get_monitor_socket(_MONITORED), self.awake.set)
        line = LoopSocket(socket, self.awake.set)
        try:
            try:
                socket.connect(endpoint(self._address))
            except zmq.ZMQError as error:
                self._down(PathFault.UNREACHABLE, f"{self._address}: {error.strerror}")
            now = self._now()
            yield _Attempt(line, monitor, now + CONNECT_S, now + ATTEMPT_S)
        finally:
            socket.disable_monitor()
            monitor.close()
            line.close()

    async def _serve(self, attempt: _Attempt, readings: asyncio.TaskGroup) -> NoReturn:
        while True:
            self.awake.clear()
            self._observe(attempt)
            if attempt.connect_by is None:
                self._converse(attempt, readings)
                deadline = self._source.deadline()
            else:
                self._expect_connection(attempt)
                deadline = attempt.connect_by
            if self._has_more(attempt):
                await asyncio.sleep(0)
            else:
                await wait(self.awake, deadline)

    def _has_more(self, attempt: _Attempt) -> bool:
        if attempt.line.has_input() or attempt.monitor.has_input():
            return True
        return bool(attempt.unsent) and attempt.line.has_room()

    def _observe(self, attempt: _Attempt) -> None:
        """Take what the socket says about its connection."""
        while (frames := attempt.monitor.receive()) is not None:
            event = parse_monitor_message([frame.bytes for frame in frames])
            match event["event"]:
                case zmq.EVENT_CONNECTED:
                    attempt.accepted_at = self._now()
                case zmq.EVENT_HANDSHAKE_SUCCEEDED:
                    self._broken_handshakes = 0
                    attempt.connect_by = None
                    self._source.connect(self._log.heads(), self._clock.now())
                case zmq.EVENT_CLOSED:
                    self._down(PathFault.UNREACHABLE, f"nobody accepts at {self._address}")
                case zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                    self._down(PathFault.KEY_REFUSED, "the station does not know this key")
                    raise _Over(REFUSED_PAUSE_S)
                case zmq.EVENT_DISCONNECTED if attempt.connect_by is None:
                    self._down(PathFault.UNREACHABLE, "the connection was lost")
                    raise _Over(PAUSE_S)
                case zmq.EVENT_DISCONNECTED:
                    # After bytes that are not ZMTP the library never connects again.
                    self._handshake_failed(attempt, 0)
                    raise _Over(min(PAUSE_S * 2**self._broken_handshakes, REFUSED_PAUSE_S))
                case _:
                    self._handshake_failed(attempt, event["value"])

    def _handshake_failed(self, attempt: _Attempt, error: int) -> None:
        if attempt.broken:
            return
        attempt.broken = True
        waited_s = 0.0 if attempt.accepted_at is None else self._now() - attempt.accepted_at
        if error in {errno.EAGAIN, errno.ETIMEDOUT} or waited_s >= REFUSAL_S:
            self._silent()
            return
        self._broken_handshakes += 1
        if self._broken_handshakes >= BROKEN_HANDSHAKES * self._station_keys:
            self._down(
                PathFault.WRONG_STATION_KEY,
                f"whoever answers at {self._address} breaks off:"
                " it has another key than the one configured, or is no station",
            )

    def _expect_connection(self, attempt: _Attempt) -> None:
        now = self._now()
        if attempt.connect_by is None or now < attempt.connect_by:
            return
        attempt.connect_by = now + CONNECT_S
        if attempt.accepted_at is not None:
            self._silent()
        elif self._state.fault is None:
            self._down(PathFault.UNREACHABLE, f"no answer from {self._address}")
        if now >= attempt.give_up_at:
            raise _Over(PAUSE_S)

    def _converse(self, attempt: _Attempt, readings: asyncio.TaskGroup) -> None:
        self._take(attempt)
        source, now = self._source, self._clock.now()
        if self._greet_due:
            self._greet_due = False
            source.greet_again(now)
        source.changed(self._log.heads(), now)
        if self._told_lost != self._lost:
            self._told_lost = self._lost
            source.others_lost(self._lost, now)
        source.timeout(now)
        self._judge()
        self._read_on(attempt, readings, now)
        attempt.unsent.extend(source.to_send())
        while attempt.unsent and attempt.line.send([attempt.unsent[0]]):
            attempt.unsent.popleft()

    def _take(self, attempt: _Attempt) -> None:
        """Take what the station said."""
        source = self._source
        for _ in range(STEP_MESSAGES_MAX):
            frames = attempt.line.receive()
            if frames is None:
                break
            source.receive(frames[-1].bytes, self._clock.now())
        for mark in source.ceilings():
            self._on_ceiling(mark)
        for mark in source.marks():
            self._on_mark(mark)
        told = source.station_time()
        if told is not None:
            self._on_time(told)
        for asked in source.asked():
            self._on_asked(asked, self._tell)

    def _read_on(self, attempt: _Attempt, readings: asyncio.TaskGroup, now: Instant) -> None:
        """Take what was read, and let the next be read while this is packed and sent."""
        while self._read:
            request, reading = self._read.pop()
            if reading is None:
                self._source.unreadable(request, now)
            else:
                self._source.read(request, reading, now)
        if attempt.unsent:  # what cannot be sent is not read either
            return
        for request in self._source.wants():
            if request is not attempt.asked:
                attempt.asked = request
                readings.create_task(self._reading(request))

    def _judge(self) -> None:
        source = self._source
        match source.state:
            case SourceState.UP:
                self._report(UP)
            case SourceState.SILENT:
                self._silent()
                raise _Over(PAUSE_S)
            case SourceState.REFUSED if source.refusal is not None:
                reason = source.refusal.reason
                self._down(
                    _REFUSALS.get(reason, PathFault.IDENTITY_REFUSED), source.refusal.text[:200]
                )
                raise _Over(REFUSED_PAUSE_S)

    def _tell(self, message: Told) -> None:
        self._source.tell(message)
        self.awake.set()

    async def _reading(self, request: ReadRequest) -> None:
        reading = None
        with suppress(StoreError, KeyError):  # the log tells about itself; the fetch is held
            reading = await self._log.read(
                request.log_id,
                request.lane,
                request.after,
                limit_bytes=request.limit_bytes,
                bare_through=request.bare_through,
            )
        self._read.append((request, reading))
        self.awake.set()

    def _silent(self) -> None:
        self._down(PathFault.STATION_SILENT, f"connected to {self._address}, but no answer")

    def _down(self, fault: PathFault, text: str) -> None:
        self._report(LaneState(fault=fault, text=text))

    def _report(self, state: LaneState) -> None:
        if state != self._state:
            self._state = state
            self._on_state(state)

    def _now(self) -> float:
        return self._clock.now().monotonic
