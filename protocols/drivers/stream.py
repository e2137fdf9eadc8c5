"""Run any `Link` over any stream of bytes.

The engine decides, the stream carries, `drive` stands between them: bytes and deadlines go in,
bytes to send come out, and what was seen is reported beside the reading, so that a slow disk
delays acknowledgements but neither reading nor deadlines.
"""

import asyncio
from collections import deque
from typing import Protocol

from events.errors import LinkLost, StoreError
from events.model import Observation
from protocols.drivers.base import Clock, Report
from protocols.link import Link

PENDING_MAX = 1024  # observations that wait for the store; more are dropped, and the link is told
FLUSH_S = 2.0  # how long the end of a line waits for what is still being stored


class Stream(Protocol):
    """A line that is open. `protocols.drivers.serial_port` and `protocols.drivers.tcp` open one."""

    async def read(self) -> bytes:
        """Return at least one byte, as soon as there is one.

        Raises `LinkLost` at the end of the line. Loses nothing when cancelled.
        """

    async def write(self, data: bytes) -> None:
        """Hand `data` over in order, without waiting for the line to take it.

        Raises `LinkLost` when the line is gone, or has not taken more than its buffer holds.
        """

    def close(self) -> None:
        """Give the line back. Closing twice does no harm."""


async def drive(link: Link, stream: Stream, report: Report, clock: Clock) -> None:
    """Run `link` over `stream` until cancelled, or until the stream raises `LinkLost`.

    Each observation is reported by itself, so that one that cannot be stored takes no urgent
    neighbour with it, and as soon as it is seen, so that none waits behind another; the store is
    asked in the order of seeing, and joins what comes together into one commit. Outcomes reach the
    link in the same order. When `report` has returned, the link hears `stored` and its
    acknowledgements are sent at once. When `report` raises `StoreError`, or `PENDING_MAX` are
    waiting already, the observation is gone: the link hears `dropped`.

    At the end, what is pending gets `FLUSH_S` to be stored and acknowledged. The stream is not
    closed here.
    """
    await _Session(link, stream, report, clock).run()


class _Session:
    def __init__(self, link: Link, stream: Stream, report: Report, clock: Clock) -> None:
        self._link = link
        self._stream = stream
        self._report = report
        self._clock = clock
        self._group = asyncio.TaskGroup()
        self._pending: deque[asyncio.Task[bool]] = deque()
        self._overflow = 0  # the newest ones, for which `_pending` had no room
        self._wake = asyncio.Event()
        self._ending = False
        self._lost: LinkLost | None = None
        self._scope: asyncio.Timeout | None = None

    async def run(self) -> None:
        self._link.start(self._clock())
        async with self._group:
            settling = self._group.create_task(self._settle())
            try:
                await self._converse()
            except LinkLost as error:
                self._lost = error
            finally:
                self._ending = True
                self._wake.set()
                await asyncio.wait({settling}, timeout=FLUSH_S)
                for task in (settling, *self._pending):
                    task.cancel()
        if self._lost is not None:
            raise self._lost

    async def _converse(self) -> None:
        await self._advance()
        while True:
            data = b""
            try:
                async with asyncio.timeout_at(self._when()) as self._scope:
                    data = await self._stream.read()
            except TimeoutError:
                pass
            finally:
                self._scope = None
            if self._lost is not None:
                raise self._lost
            now = self._clock()
            if data:
                self._link.receive(data, now)
            deadline = self._link.deadline()
            if deadline is not None and deadline <= now.monotonic:
                self._link.timeout(now)  # also under a flood that never lets a read wait
            await self._advance()
            await asyncio.sleep(0)

    def _when(self) -> float | None:
        """Return the link's deadline on the loop's clock."""
        deadline = self._link.deadline()
        if deadline is None:
            return None
        return asyncio.get_running_loop().time() + deadline - self._clock().monotonic

    async def _advance(self) -> None:
        """Send what the link wants sent, report what it saw, arm the one timer anew."""
        data = self._link.to_send()
        if data:
            await self._stream.write(data)
        for observation in self._link.observations():
            if self._overflow or len(self._pending) >= PENDING_MAX:
                self._overflow += 1
            else:
                self._pending.append(self._group.create_task(self._record(observation)))
        if self._pending or self._overflow:
            self._wake.set()
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(self._when())

    async def _record(self, observation: Observation) -> bool:
        """Return whether the observation is durable."""
        try:
            await self._report([observation])
        except StoreError:
            return False
        return True

    async def _settle(self) -> None:
        """Tell the link what became of its observations, until the session ends and none is left."""
        while True:
            while not self._pending and not self._overflow:
                if self._ending:
                    return
                self._wake.clear()
                await self._wake.wait()
            if not self._pending:
                count, self._overflow = self._overflow, 0
                await self._tell_dropped(count)
                continue
            stored = await self._pending[0]
            del self._pending[0]
            if stored:
                self._link.stored(1, self._clock())
                await self._advance_aside()
            else:
                await self._tell_dropped(1)

    async def _tell_dropped(self, count: int) -> None:
        self._link.dropped(count, self._clock())
        await self._advance_aside()

    async def _advance_aside(self) -> None:
        """Advance beside the conversation; a line that is gone is for the conversation to raise."""
        try:
            await self._advance()
        except LinkLost as error:
            self._lost = self._lost or error
            if self._scope is not None and not self._scope.expired():
                self._scope.reschedule(asyncio.get_running_loop().time())
