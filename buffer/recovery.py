"""What the store does when it cannot write, and how it finds back.

Two troubles: *degraded*, when the disk takes nothing (urgent events are kept in memory and offered
to the stations), and *refusing*, when the declared bound is reached (urgent events still go to the
disk, into the reserve). Both end by themselves: a write is tried until it succeeds.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from buffer.bound import Room
from buffer.clock import Clock
from buffer.degraded import STORE_POINT, Degraded, Refusing, Voice
from buffer.disk import Disk
from buffer.entries import Pending
from buffer.set_aside import SetAside
from buffer.writer_thread import BoundReached
from events.errors import StoreCorrupt, StoreError, StoreFull
from events.kinds import Kind, Qualifier, Subkind
from events.model import Scalar

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 5.0
LAST_ATTEMPT_S: Final = 1.0


class Recovery:
    """The trouble there is, if any, and the way out of it.

    degraded: the disk takes nothing. refusing: the disk takes urgent events only.
    kept_total, refused_total: urgent events that went into memory, others that were not taken.
    """

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        voice: Voice,
        required: frozenset[str],
        *,
        on_change: Callable[[], None],
    ) -> None:
        self.degraded: Degraded | None = None
        self.refusing: Refusing | None = None
        self.kept_total = 0
        self.refused_total = 0
        self._disk = disk
        self._clock = clock
        self._voice = voice
        self._required = required
        self._on_change = on_change
        self._trouble = asyncio.Event()
        self._replaced: SetAside | None = None  # not yet said in an event

    @property
    def error(self) -> StoreError | None:
        """Why events are not taken now, None while all are."""
        trouble = self.degraded or self.refusing
        return None if trouble is None else trouble.error

    @property
    def all_durable(self) -> bool:
        """Tell whether the disk, or every required station, holds each event that was kept."""
        return self.degraded is None or not self.degraded.undelivered()

    async def open(self) -> None:
        """Open the log for the first time; never raises `StoreError`."""
        try:
            await self._open(None)
            await self._say_what_happened()
        except StoreError as error:
            self.fail(error)

    def fail(self, error: StoreError) -> None:
        """Note that the disk takes nothing."""
        if self.degraded is not None:
            self.degraded.error = error
            return
        now = self._clock.now()
        self.degraded = Degraded(error, now, self._required)
        self.degraded.log.append(self._voice.fault(error, now))
        self._trouble.set()
        self._on_change()

    def refuse(self, error: BoundReached) -> None:
        """Note that the bound is reached."""
        if self.refusing is None and self.degraded is None:
            self.refusing = Refusing(error, self._clock.now())
            self._trouble.set()
            self._on_change()

    async def keep(self, items: Sequence[Pending]) -> None:
        """Take urgent events into memory and return when they are durable somewhere.

        Raises `StoreError` at once if any of them is not urgent; the urgent ones travel anyway.

        Their levels count as the last ones from now on: a driver that is started again would
        otherwise report them twice, and nothing is acknowledged for a level. A message would be:
        `awaits` tells that its raw bytes must not be taken for stored.
        """
        degraded = self.degraded
        assert degraded is not None  # noqa: S101 - the caller asks before
        urgent = [item for item in items if item.record.urgent]
        last = 0
        for item in urgent:
            last = degraded.keep(item)
            self.kept_total += 1
            memory = self._disk.memory
            memory.note(0, item.record.observation, item.body)
        if urgent:
            self._on_change()
        if len(urgent) < len(items):
            degraded.refused += len(items) - len(urgent)
            self.refused_total += len(items) - len(urgent)
            raise again(degraded.error)
        await degraded.wait_durable(last)

    def awaits(self, source: str) -> bool:
        """Tell whether the newest message of a source is durable nowhere yet."""
        return self.degraded is not None and self.degraded.awaits(source)

    def turn_away(self, items: Sequence[Pending]) -> None:
        """Count events that were refused, and raise the reason."""
        trouble = self.refusing or self.degraded
        assert trouble is not None  # noqa: S101 - the caller asks before
        trouble.refused += len(items)
        self.refused_total += len(items)
        raise again(trouble.error)

    async def run(self) -> None:
        """Try again, until cancelled, whenever there is trouble."""
        while True:
            await self._trouble.wait()
            delay_s = RETRY_FIRST_S
            while (trouble := self.degraded or self.refusing) is not None:
                await self._announce()
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, RETRY_MAX_S)
                try:
                    await self.attempt()
                except StoreError as error:
                    if self.degraded is trouble:
                        self.degraded.error = error
                    elif not isinstance(error, BoundReached):
                        self.fail(error)
            self._trouble.clear()

    async def close(self) -> None:
        """Try one last time, and tell who still waits that it was in vain."""
        degraded = self.degraded
        if degraded is None:
            return
        try:
            async with asyncio.timeout(LAST_ATTEMPT_S):
                await self.attempt()
        except (StoreError, TimeoutError):
            reason = "the gateway stops and the store cannot write"
            degraded.end(StoreError(reason, hint=degraded.error.hint))

    async def attempt(self) -> None:
        """Try once to get out of the trouble. Raises `StoreError`."""
        if self.degraded is not None:
            await self._leave_degraded(self.degraded)
        elif self.refusing is not None:
            await self._leave_refusing(self.refusing)

    async def _announce(self) -> None:
        """Record that the bound is reached, from the reserve. In memory it is said at once."""
        refusing = self.refusing
        if self.degraded is not None or refusing is None or refusing.announced:
            return
        try:
            fault = self._voice.fault(refusing.error, refusing.since)
            # With the states: once they are copied, delivered events can go.
            await self._disk.append([fault], Room.RESERVE, everything=True)
        except BoundReached:
            return  # the reserve is full of alarms; none of them goes for this
        except StoreError as error:
            self.fail(error)
        else:
            refusing.announced = True

    async def _leave_refusing(self, refusing: Refusing) -> None:
        now = self._clock.now()
        restored = self._voice.restored(
            f"the store takes all events again; {refusing.refused} were refused",
            now,
            refused=refusing.refused,
            for_s=round(now.monotonic - refusing.since.monotonic, 3),
        )
        await self._disk.append([restored], Room.AMPLE)
        self.refusing = None
        self._on_change()

    async def _leave_degraded(self, degraded: Degraded) -> None:
        degraded.attempts += 1
        if self._must_open(degraded):
            degraded.stored(await self._open(degraded.error))
        room = Room.AMPLE if isinstance(degraded.error, BoundReached) else Room.RESERVE
        said = False
        while True:
            through = degraded.log.head.head
            items = degraded.on_disk(degraded.undelivered())
            if not said:
                items += self._replacement()
                items.append(self._restored(degraded))
            if not items:
                break  # nothing came in during the last write
            await self._disk.append(items, room, everything=not said)
            said, self._replaced, room = True, None, Room.RESERVE
            degraded.moved(through)
        self.degraded = self.refusing = None
        degraded.end(None)
        self._on_change()

    def _must_open(self, degraded: Degraded) -> bool:
        """Tell whether the file has to be opened anew, rather than only written to.

        At first a write is tried on the connection there is: SQLite remembers on it what was
        committed, so that a commit that failed halfway cannot come back.
        """
        if not self._disk.is_open or isinstance(degraded.error, StoreCorrupt):
            return True
        return degraded.attempts > 1 and not isinstance(degraded.error, StoreFull)

    async def _open(self, suspect: StoreError | None) -> set[bytes]:
        moved, stored = await self._disk.open(suspect)
        self._replaced = moved or self._replaced
        return stored

    def _replacement(self) -> list[Pending]:
        if self._replaced is None:
            return []
        return self._voice.replaced(self._replaced, self._clock.now())

    def _restored(self, degraded: Degraded) -> Pending:
        now = self._clock.now()
        for_s = round(now.monotonic - degraded.since.monotonic, 3)
        details: dict[str, Scalar] = {
            "for_s": for_s,
            "kept": degraded.kept,
            "refused": degraded.refused,
        }
        return self._voice.restored(
            f"the store takes events again after {for_s:.0f} s; {degraded.kept} urgent ones were "
            f"kept in memory, {degraded.refused} others refused",
            now,
            **details,
        )

    async def _say_what_happened(self) -> None:
        """Record at the start what the last run could not: a new log, or that all is well."""
        items = self._replacement()
        last = self._disk.memory.latest(STORE_POINT, Kind.FAULT, Subkind.STORE)
        if not items and last is not None and last.qualifier != Qualifier.RESTORE:
            items = [self._voice.restored("the store takes events", self._clock.now())]
        if items:
            await self._disk.append(items, Room.RESERVE)
            self._replaced = None


def again(error: StoreError) -> StoreError:
    """Return an error like this one, to be raised elsewhere."""
    return type(error)(str(error), hint=error.hint)
