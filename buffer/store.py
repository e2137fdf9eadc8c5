"""The store that a gateway holds: record, replicate, remember, and go on without a disk.

Everything here runs on one event loop. The file is touched by the writer's thread alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from buffer.bound import BOUND_BYTES_DEFAULT, BOUND_BYTES_MIN, Bound, Room
from buffer.clock import Clock
from buffer.degraded import STORE_POINT, Voice
from buffer.disk import Disk
from buffer.entries import pending
from buffer.eviction import Evicted
from buffer.evictions import Evictions
from buffer.log import FILE_NAME
from buffer.memory import Memory, readable
from buffer.recovery import Recovery
from buffer.salvaging import Salvaging
from buffer.unsent import OldestUnsent
from buffer.writer_thread import BoundReached
from buffer.written import Written
from events.errors import StoreCorrupt, StoreError
from events.kinds import Kind, Subkind, is_urgent
from events.model import Event, Instant, Observation, Record, Stamp
from events.replication import Entry, Lane, LogHead, Reading
from events.watching import FIRST_START, since

TAIL_BYTES: Final = 256 * 1024
KEEP_LOOK_EVERY_S: Final = 3600.0
OK: Final = "ok"


class Store:
    """Events on disk under `directory`, or, while that cannot be, in memory.

    urgent_points: points whose every event is urgent.
    required_stations: public keys (Z85) of the stations that hold back trimming.
    bound_bytes: what the file and its write-ahead log may take, at least 1 MiB.
    keep_s: delivered events older than this go even where there is room; None: only for room.

    It is a `sync.log.Log` and a `protocols.levels.Memory`. Opening never fails: what keeps the
    store from writing makes it degraded, and it is tried again until it works. Enter and leave it
    in one task.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        urgent_points: frozenset[str] = frozenset(),
        required_stations: frozenset[str] = frozenset(),
        bound_bytes: int = BOUND_BYTES_DEFAULT,
        keep_s: float | None = None,
    ) -> None:
        self.opened_late = False  # drivers began without knowing what was last stored
        self._clock = clock
        self._keep_s = keep_s
        self._written = Written(clock.now().monotonic)
        self._stored_events = 0
        self._urgent_points = urgent_points
        self._watchers: dict[object, Callable[[], None]] = {}
        self._disk = Disk(
            directory / FILE_NAME,
            Bound(max(bound_bytes, BOUND_BYTES_MIN)),
            clock,
            required_stations,
            on_change=self._changed,
            on_evicted=self._note_evicted,
            on_set_aside=self._look_for_salvage,
            on_recall=self._recall,
            on_trouble=self._heard_of_trouble,
        )
        voice = Voice(clock.stamp, urgent=STORE_POINT in urgent_points)
        self._recovery = Recovery(
            self._disk,
            clock,
            voice,
            required_stations,
            on_change=self._changed,
        )
        self._evictions = Evictions(
            self._disk, clock, voice, writable=lambda: self._recovery.degraded is None
        )
        self._salvaging = Salvaging(
            self._disk, clock, voice, required_stations, on_change=self._changed
        )
        self._unsent = OldestUnsent(self._oldest_unsent, clock.boot_id)
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._copying = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._disk.writer.start()
        await self._recovery.open()
        self._salvaging.look()
        await self._group.__aenter__()
        self._tasks = [
            self._group.create_task(self._recovery.run()),
            self._group.create_task(self._evictions.run()),
            self._group.create_task(self._salvaging.run()),
            self._group.create_task(self._unsent.follow(self._disk.writer)),
            self._group.create_task(self._end_with_the_writer()),
            self._group.create_task(self._keep_for_so_long()),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            # Only a cancellation is the group's business: it may be its own, for a failed task.
            if kind is not None and issubclass(kind, asyncio.CancelledError):
                await self._group.__aexit__(kind, error, traceback)
            else:
                await self._group.__aexit__(None, None, None)
        finally:
            await self._recovery.close()
            await self._disk.close(states=self._recovery.all_durable)

    # ------------------------------------------------------------------ recording

    async def record(self, observations: Sequence[Observation]) -> None:
        """Make observations durable, in one transaction; return when they are.

        While the disk cannot be written, urgent ones are kept in memory and this returns once a
        required station has stored them, or the disk after all. Raises `StoreError` at once for
        anything else that cannot be stored.
        """
        if not observations:
            return
        if self.opened_late:
            observations = [self._corrected(seen) for seen in observations]
        stamp = self._clock.stamp(self._clock.now())
        items = [pending(seen, stamp, urgent=self._is_urgent(seen)) for seen in observations]
        urgent = any(item.record.urgent for item in items)
        recovery = self._recovery
        if recovery.degraded is None and (urgent or recovery.refusing is None):
            try:
                await self._disk.append(items, Room.RESERVE if urgent else Room.NORMAL)
                self._stored_events += len(items)
            except StoreError as error:
                if isinstance(error, BoundReached) and not urgent:
                    recovery.refuse(error)
                else:
                    recovery.fail(error)
            else:
                return
        if recovery.degraded is not None:
            await recovery.keep(items)
        else:
            recovery.turn_away(items)

    # ------------------------------------------------------------------ replication

    def heads(self) -> tuple[LogHead, ...]:
        """Return every log offered now, the one on disk first."""
        heads = []
        if self._disk.is_open and self._disk.head is not None:
            heads.append(self._disk.head)
        if self._recovery.degraded is not None:
            heads.append(self._recovery.degraded.log.head)
        heads += self._salvaging.heads()
        return tuple(heads)

    async def read(
        self, log_id: str, lane: Lane, after: int, *, limit_bytes: int, bare_through: int = 0
    ) -> Reading:
        """Return entries after `after`, at least one if there is any, then up to `limit_bytes`.

        On the main lane, urgent events numbered up to `bare_through` come without their body.
        Raises `StoreError`; `KeyError` for a log that is not offered.
        """
        degraded = self._recovery.degraded
        if degraded is not None and log_id == degraded.log.log_id:
            return degraded.log.read(
                lane, after, limit_bytes=limit_bytes, bare_through=bare_through
            )
        salvaged = await self._salvaging.read(
            log_id, lane, after, limit_bytes=limit_bytes, bare_through=bare_through
        )
        if salvaged is not None:
            return salvaged
        head = self._disk.head
        if not self._disk.is_open or head is None or head.log_id != log_id:
            raise KeyError(log_id)
        try:
            return await self._disk.read(
                log_id, lane, after, limit_bytes=limit_bytes, bare_through=bare_through
            )
        except StoreCorrupt as error:
            self._recovery.fail(error)
            raise

    def acknowledge(self, station: str, log_id: str, lane: Lane, stored: int) -> None:
        """Note that `station` (its public key, Z85) holds this lane up to `stored`."""
        degraded = self._recovery.degraded
        head = self._disk.head
        if degraded is not None and log_id == degraded.log.log_id:
            degraded.acknowledge(station, lane, stored)
        elif head is not None and log_id == head.log_id:
            if stored < self._disk.marks.of(station, lane):
                self._evictions.rewound()
            self._disk.acknowledge(station, lane, stored)
            self._unsent.look()
            self._evictions.look()
        else:
            self._salvaging.acknowledge(station, log_id, lane, stored)

    def mark(self, station: str, log_id: str, lane: Lane) -> int:
        """Return up to where a station is known to hold a lane of the log on disk; else 0."""
        head = self._disk.head
        on_disk = head is not None and log_id == head.log_id
        return self._disk.marks.of(station, lane) if on_disk else 0

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` on the loop after every append and change of logs; return the undo."""
        key = object()
        self._watchers[key] = changed

        def undo() -> None:
            self._watchers.pop(key, None)

        return undo

    # ------------------------------------------------------------------ memory

    def latest(
        self, point: str, kind: str, subkind: str, condition: str = ""
    ) -> Observation | None:
        """Return the newest stored observation of one condition."""
        return self._disk.memory.latest(point, kind, subkind, condition)

    def silenced(self) -> list[Observation]:
        """Return the newest event of each condition that was last recorded under a bypass."""
        return self._disk.memory.silenced()

    def last_raw(self, source: str) -> bytes | None:
        """Return the raw bytes of the newest stored observation of a source that carried any.

        None while a newer one is in memory only: whoever took that for stored would acknowledge
        its repeat, and the one before it is no longer what the next message can be a repeat of.
        """
        if self._recovery.awaits(source):
            return None
        return self._disk.memory.last_raw(source)

    def last_record(self) -> Record | None:
        """Return the newest record of all when this run began."""
        return self._disk.last_record

    @property
    def boot_id(self) -> str:
        return self._clock.boot_id

    # ------------------------------------------------------------------ looking

    def answered_at(self) -> float:
        """Return the monotonic second up to which the writer is known to answer."""
        return self._disk.writer.answered_at()

    def oldest_unsent_s(self, now: Instant) -> float | None:
        """Return the age of the oldest event that no required station has, None if all have all.

        On disk or in memory; seconds.
        """
        ages = [self._unsent.age_s(now)]
        degraded = self._recovery.degraded
        if degraded is not None:
            ages += [
                max(0.0, now.monotonic - held.item.record.stamp.monotonic_us / 1_000_000)
                for held in degraded.undelivered()[:1]
            ]
        return max((age for age in ages if age is not None), default=None)

    def status(self) -> dict[str, Any]:
        """Return the state of the store, for `status`."""
        disk, recovery = self._disk, self._recovery
        error = recovery.error
        return {
            "state": OK if error is None else error.state,
            "text": "" if error is None else str(error),
            "hint": "" if error is None else error.hint,
            "bytes": disk.file_bytes(),
            "bound": disk.bound.total_bytes,
            "reserve": disk.bound.reserve_bytes,
            "log_id": None if disk.head is None else disk.head.log_id,
            "first": 0 if disk.head is None else disk.head.first,
            "head": 0 if disk.head is None else disk.head.head,
            **self._written.status(self._clock.now().monotonic, self._stored_events),
            "oldest_unsent": self._oldest_unsent(),
            "oldest_unsent_s": self.oldest_unsent_s(self._clock.now()),
            "marks": [
                {"station": station, "lane": str(lane), "stored": seq}
                for (station, lane), seq in sorted(disk.marks.all().items())
            ],
            "kept": recovery.kept_total,
            "refused": recovery.refused_total,
            "evicted": self._evictions.total,
            "forgotten": disk.memory.forgotten_count,
            "salvage": self._salvaging.status(),
            "set_aside": self._salvaging.undelivered(),
        }

    async def tail(self, after: int, limit: int) -> list[Event]:
        """Return at most `limit` events of the log on disk after a number. Raises `StoreError`."""
        events: list[Event] = []
        head = self._disk.head
        while head is not None and len(events) < limit:
            reading = await self.read(head.log_id, Lane.MAIN, after, limit_bytes=TAIL_BYTES)
            events += [_event(head.log_id, entry) for entry in reading.entries]
            if reading.through <= after:
                break
            after = reading.through
        return events[:limit]

    async def snapshot(self, path: Path) -> None:
        """Write a consistent copy of the log to a new file. Raises `StoreError`."""
        async with self._copying:
            await self._disk.writer.snapshot(path)

    # ------------------------------------------------------------------ inside

    def _corrected(self, seen: Observation) -> Observation:
        """Say since when nobody watched: who reports it could not know, the log was not open."""
        last = self._disk.last_record
        first = seen.subkind == Subkind.UNWATCHED and seen.details.get("why") == FIRST_START
        if not first or last is None:
            return seen
        details = seen.details | since(last, self._clock.boot_id)
        return msgspec.structs.replace(seen, details=details)

    def _is_urgent(self, seen: Observation) -> bool:
        return is_urgent(seen.kind, configured=seen.point in self._urgent_points)

    def _changed(self) -> None:
        self._unsent.look()
        for changed in tuple(self._watchers.values()):
            changed()

    def _recall(self, memory: Memory) -> None:
        if self._recovery.degraded is not None:
            self.opened_late = True
            self._recovery.degraded.recall(memory)

    def _look_for_salvage(self) -> None:
        self._salvaging.look()

    def _note_evicted(self, evicted: Evicted) -> None:
        self._evictions.note(evicted)

    def _heard_of_trouble(self, error: StoreError) -> None:
        if isinstance(error, StoreCorrupt):
            self._recovery.fail(error)
        # Anything else is met again, and told to somebody, by the next append.

    def _oldest_unsent(self) -> int | None:
        head = self._disk.head
        if head is None:
            return None
        delivered = self._disk.marks.by_all(Lane.MAIN)
        return None if delivered >= head.head else max(delivered + 1, head.first)

    async def _keep_for_so_long(self) -> None:
        """Let delivered events go by their age, until cancelled."""
        while self._keep_s is not None:
            wall = self._clock.now().wall
            if wall is not None and self._recovery.degraded is None and self._disk.is_open:
                with suppress(StoreError):  # met again, and told to somebody, by the next append
                    await self._disk.trim_older_than(round((wall - self._keep_s) * 1_000_000))
            await asyncio.sleep(KEEP_LOOK_EVERY_S)

    async def _end_with_the_writer(self) -> None:
        await self._disk.writer.wait_ended()
        raise RuntimeError("the store's writer thread has ended")


def _event(log_id: str, entry: Entry) -> Event:
    body = entry.body or b""
    record = readable(body) or Record(
        stamp=Stamp(monotonic_us=0, boot_id=""),
        observation=Observation(
            point=STORE_POINT, kind=Kind.INFORMATION, subkind=Subkind.UNREADABLE_EVENT
        ),
    )
    return Event(log_id=log_id, seq=entry.seq, chain=entry.chain, body=body, record=record)
