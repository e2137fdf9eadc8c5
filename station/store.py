"""The station's ledger: everything that gateways said, in the order in which it was committed.

`Store` is what replication calls a `Ledger`. One thread writes (`station.writer`); commands read
the file beside it with connections that never write (`station.listing`).
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from events.errors import StoreError, StoreReadOnly, UnavailableError
from events.kinds import Qualifier
from events.model import Instant, Scalar, Stamp
from events.replication import Entry, Lane, LogHead
from events.wire import encode
from station import attendance, clock_ties, held, poison, recording, report
from station.announcements import Announcement, record_of, unreadable
from station.notices import Limiter
from station.register import Register
from station.supervision import Known
from station.writer import Work, Writer
from sync.ledger import Commit, CommitResult, Cursor
from sync.peers import Clock

T = TypeVar("T")

LOCK_NAME = "station.lock"


@dataclass(frozen=True, slots=True, eq=False)
class _Hello:
    stamp: Stamp
    received_us: int | None


class Store:
    """The ledger in `directory`. Open and close it with `async with`; use it from one loop."""

    def __init__(self, directory: Path, *, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._register = Register()
        self._writer = Writer(directory, self._register.flush, self._register.forget)
        self._unreadable: Limiter[str] = Limiter()
        self._hellos: dict[str, _Hello] = {}  # not yet known to be stored
        self._attendance = attendance.Attendance()
        self._lock = -1

    async def open(self) -> None:
        """Open the ledger, or make it. Raises `StoreError`; `UnavailableError` for a second one."""
        if self._lock < 0:
            self._lock = _hold(self._directory)
        await self._writer.open()

    async def close(self) -> None:
        """Finish what was asked for, then close the ledger."""
        await self._writer.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def __aenter__(self) -> "Store":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def cursors(self, gateway: str, log_ids: Sequence[str]) -> Mapping[str, Cursor]:
        return await self._writer.run(
            lambda connection: held.cursors(self._register, connection, gateway, log_ids)
        )

    async def copies(self, gateway: str, log_id: str, first: int, last: int) -> Sequence[Entry]:
        return await self._writer.run(
            lambda connection: held.copies(
                self._register, connection, gateway, log_id, first, last
            )
        )

    def commit(
        self, gateway: str, commit: Commit, received: Instant
    ) -> asyncio.Future[CommitResult]:
        """Commit, and name events that nobody can read in the same transaction.

        Whether they may be named now is asked before; what came of it is noted after. Commits under
        way at one time may therefore each name their own.
        """
        held_back = self._unreadable.take(gateway, received.monotonic)
        said = self._hellos.get(gateway)
        numbers: tuple[int, ...] = ()  # of new events that nobody can read

        def work(
            connection: sqlite3.Connection, poisonous: frozenset[int] = frozenset()
        ) -> CommitResult:
            nonlocal numbers
            if said is not None:
                self._greet(connection, gateway, said)
            done = recording.Recording(
                self._register, connection, gateway, commit, _wall_us(received), poisonous
            ).run()
            numbers = done.unreadable
            if numbers and held_back is not None:
                about: dict[str, Scalar] = {"log_id": commit.log_id, "seq": numbers[0]}
                count = held_back + len(numbers)
                self._announce(connection, unreadable(gateway, count, about), received)
            return done.result

        def careful(connection: sqlite3.Connection) -> CommitResult:
            received_us = _wall_us(received)
            return work(
                connection,
                poison.find(self._register, connection, gateway, commit, received_us),
            )

        def note(stored: bool) -> None:
            if stored:
                self._greeted(gateway, said)
            found = len(numbers) if stored else 0
            if held_back is None:
                self._unreadable.hold(gateway, found)
            elif found:
                self._unreadable.said(gateway, received.monotonic)
            else:
                self._unreadable.hold(gateway, held_back)

        return self._submit_noted(
            work,
            note,
            careful=careful,
            leaves_rows=True,
            events=len(commit.entries),
            size=sum(len(entry.body or b"") for entry in commit.entries),
            urgent=commit.lane is Lane.URGENT,
        )

    def hello(self, gateway: str, stamp: Stamp, received: Instant) -> None:
        """Tie the monotonic clock of a gateway's boot to wall time, before any later commit.

        Not waited for: what cannot be stored now is stored with the next commit, for without it the
        events of that boot would have no place in the order of boots.
        """
        said = self._hellos[gateway] = _Hello(stamp, _wall_us(received))

        def stored(done: asyncio.Future[object]) -> None:
            error = done.exception()
            if error is None:
                self._greeted(gateway, said)
            elif not isinstance(error, StoreError):
                raise error

        with suppress(StoreError):
            answer = self._writer.submit(lambda connection: self._greet(connection, gateway, said))
            answer.add_done_callback(stored)

    def _greet(self, connection: sqlite3.Connection, gateway: str, said: "_Hello") -> None:
        number = self._register.gateway(connection, gateway)
        self._register.hello(connection, number, said.stamp, said.received_us)
        clock_ties.note(connection, number, said.stamp, said.received_us)

    def _greeted(self, gateway: str, said: "_Hello | None") -> None:
        if said is not None and self._hellos.get(gateway) is said:
            del self._hellos[gateway]

    async def ping(self) -> None:
        """Return when the writer answers. A busy or a full store is an answer.

        Raises `StoreError` when the file was taken away: only another start can mend that.
        """
        with suppress(StoreError):
            await self._writer.run(lambda _: None)
        if self._writer.taken is not None:
            raise self._writer.taken

    @property
    def trouble(self) -> StoreError | None:
        """Return why the last transaction failed; None while the store works."""
        return self._writer.trouble

    async def announce(self, announcements: Sequence[Announcement], now: Instant) -> list[int]:
        """Store events of the station's own, durably; return their numbers."""

        def work(connection: sqlite3.Connection) -> list[int]:
            return [self._announce(connection, one, now) for one in announcements]

        return await self._writer.run(work)

    async def settle(self, now: Instant) -> None:
        """Announce what was held back about unreadable events, once it is due."""
        due = self._unreadable.due(now.monotonic)

        def work(connection: sqlite3.Connection) -> None:
            for gateway, count in due:
                self._announce(connection, unreadable(gateway, count), now)

        def note(stored: bool) -> None:
            if not stored:
                for gateway, count in due:
                    self._unreadable.hold(gateway, count, unsaid=True)

        await self._submit_noted(work, note)

    async def touch(self, seen: Mapping[str, int]) -> None:
        """Remember when gateways were last heard, in POSIX microseconds."""
        await self._writer.run(lambda connection: self._register.touch(connection, seen))

    async def attend(self, now_us: int, heard: Mapping[str, int], lost: Sequence[str]) -> None:
        """Extend the intervals in which gateways were there; `heard` since the last call, and when.

        `lost`: whose loss was announced since.
        """
        noted = await self._writer.run(
            lambda connection: self._attendance.note(connection, now_us, heard, lost)
        )
        self._attendance.committed(noted)

    def pause_attendance(self) -> None:
        """End the intervals: the station did not listen meanwhile, or its clock was set."""
        self._attendance.pause()

    async def known(self) -> dict[str, Known]:
        """Return what supervision has to know of each gateway that was ever enrolled."""
        return await self._writer.run(report.known)

    async def withheld(self) -> dict[tuple[str, str], int]:
        """Return the logs whose events are announced and stay away, as far as was announced."""
        return await self._writer.run(report.withheld)

    async def remember(self, gateway: str) -> None:
        """Give a gateway its row: it is enrolled, though it may never have spoken."""
        await self._writer.run(lambda connection: self._register.gateway(connection, gateway))

    async def logs(self, offered: Mapping[str, LogHead]) -> dict[str, report.GatewayReport]:
        """Return, for each gateway, its present log, cursor and what is missing.

        offered: the log on disk that each named last, as far as it spoke since the start.
        """
        return await self._writer.run(lambda connection: report.gateways(connection, offered))

    async def counts(self) -> report.Counts:
        """Return the size of the ledger."""
        return await self._writer.run(report.counts)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something else in the file's next transaction. Raises `StoreError`."""
        return await self._writer.run(work)

    def _announce(
        self, connection: sqlite3.Connection, announcement: Announcement, now: Instant
    ) -> int:
        record = record_of(announcement, self._clock.stamp(now))
        n = recording.announce(
            self._register,
            connection,
            announcement.gateway,
            record,
            encode(record),
            _wall_us(now),
        )
        if announcement.silence:
            self._register.mark(
                connection,
                announcement.gateway,
                announcement.path,
                announced=announcement.qualifier is Qualifier.NEW,
            )
        if announcement.marks:
            connection.executemany(
                "UPDATE gateway SET announced = ? WHERE name = ?",
                [(int(mark), name) for name, mark in announcement.marks.items()],
            )
        return n

    def _submit_noted(
        self, work: Work, note: Callable[[bool], None], **given: Any
    ) -> asyncio.Future[Any]:
        """Submit a job; tell `note` on the loop whether it took effect. Raises `StoreError`."""
        try:
            return self._writer.submit(work, note=note, **given)
        except StoreError:
            note(False)
            raise


def _wall_us(now: Instant) -> int | None:
    return None if now.wall is None else round(now.wall * 1_000_000)


def _hold(directory: Path) -> int:
    """Take the folder for this process; return the descriptor that holds it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreReadOnly(
            f"cannot write to {directory}: {error.strerror or error}",
            hint="give the station's user that folder, or name another data_dir",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise UnavailableError(
            f"another nplus-station already works on {directory}",
            hint="stop it first, or give this one its own data_dir",
        ) from error
    return lock
