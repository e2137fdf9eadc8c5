"""Getting events out of files that were set aside, behind everything else.

Each damaged file is looked through once per start, in slices with pauses, and then offered as one
more log under its old id. When every required station holds all of it, that is written beside the
file and recorded; the file itself stays. A file of a newer major version is left alone.
"""

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from buffer.bound import Room
from buffer.clock import Clock
from buffer.degraded import Voice
from buffer.disk import Disk
from buffer.marks import StationMarks
from buffer.salvage import Salvage
from buffer.set_aside import Note, lying_beside, read_note, write_note
from events.errors import StoreCorrupt, StoreError
from events.replication import Lane, LogHead, Reading

PAUSE_S: Final = 0.005  # between slices: about a third of one core, and nobody waits
RETRY_S: Final = 30.0
OFFERED_MAX: Final = 4  # at a time; a hello holds eight logs


@dataclass(slots=True)
class _Work:
    """One file that was set aside."""

    salvage: Salvage
    marks: StationMarks
    delivered: asyncio.Event = field(default_factory=asyncio.Event)
    state: str = "reading"

    def look(self) -> None:
        head = self.salvage.head
        if head is not None and self.marks.by_all(Lane.MAIN) >= head.head:
            self.delivered.set()


class Salvaging:
    """The damaged files beside the log. on_change: called when another log is offered, or gone."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        voice: Voice,
        required: frozenset[str],
        *,
        on_change: Callable[[], None],
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._voice = voice
        self._required = required
        self._on_change = on_change
        self._work: dict[str, _Work] = {}
        self._notes: dict[str, Note] = {}
        self._wanted = asyncio.Event()

    def look(self) -> None:
        """Look for files: one may have been set aside."""
        self._wanted.set()

    def heads(self) -> list[LogHead]:
        """Return the logs that are offered."""
        return [work.salvage.head for work in self._offered().values() if work.salvage.head]

    async def read(
        self, log_id: str, lane: Lane, after: int, *, limit_bytes: int, bare_through: int
    ) -> Reading | None:
        """Read from an offered log, None where it is not. Raises `StoreError`."""
        work = self._offered().get(log_id)
        if work is None:
            return None
        return await self._disk.writer.beside(
            work.salvage.read(lane, after, limit_bytes=limit_bytes, bare_through=bare_through)
        )

    def acknowledge(self, station: str, log_id: str, lane: Lane, stored: int) -> None:
        """Note that a station holds a lane of an offered log up to `stored`."""
        work = self._offered().get(log_id)
        if work is not None and work.marks.claim(station, lane, stored):
            work.look()

    def status(self) -> list[dict[str, Any]]:
        """Return how far each file is."""
        told = [
            {
                "file": name,
                "state": work.state,
                "pages": work.salvage.pages,
                "scanned_pages": work.salvage.scanned_pages,
                "events": work.salvage.events,
                "missing": work.salvage.missing(),
                "log_id": work.salvage.head.log_id if work.salvage.head else None,
                "head": work.salvage.head.head if work.salvage.head else 0,
                "stored": work.marks.by_all(Lane.MAIN),
            }
            for name, work in self._work.items()
        ]
        told += [
            {"file": name, "state": "salvaged", "events": note.events, "missing": note.missing}
            for name, note in self._notes.items()
        ]
        return told

    def undelivered(self) -> list[str]:
        """Return the names of files that may hold undelivered events, newest last."""
        return [name for name in lying_beside(self._disk.path) if name not in self._notes]

    async def run(self) -> None:
        """Salvage one file after the other, until cancelled; each is offered while others are read."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                for name in lying_beside(self._disk.path):
                    if f".{StoreCorrupt.state}-" not in name or name in self._work:
                        continue
                    note = read_note(self._path(name))
                    if note.delivered:
                        self._notes[name] = note
                    elif len(self._work) < OFFERED_MAX:
                        salvage = Salvage(self._path(name), known=note.known)
                        self._work[name] = _Work(salvage, StationMarks(self._required))
                        group.create_task(self._deliver(name, self._work[name]))

    def _path(self, name: str) -> Path:
        return self._disk.path.with_name(name)

    def _offered(self) -> dict[str, _Work]:
        own = self._disk.head
        return {
            work.salvage.head.log_id: work
            for work in self._work.values()
            if work.state == "offered"
            and work.salvage.head is not None
            and (own is None or work.salvage.head.log_id != own.log_id)
        }

    async def _deliver(self, name: str, work: _Work) -> None:
        try:
            while not await self._scanned(work):
                work.state = "unreadable"
                await asyncio.sleep(RETRY_S)
            if work.salvage.head is not None:
                work.state = "offered"
                work.look()
                self._on_change()
                await work.delivered.wait()
            await self._tell(name, work)
        finally:
            work.salvage.close()
            del self._work[name]
            self._on_change()
        self.look()

    async def _scanned(self, work: _Work) -> bool:
        """Look at every page; a slice at a time, so that everything else goes before it."""
        work.state = "reading"
        steps = work.salvage.scan()
        try:
            while await self._disk.writer.beside(_one(steps)):  # noqa: ASYNC110 - a pause, no poll
                await asyncio.sleep(PAUSE_S)
        except StoreError:
            work.salvage.close()
            work.salvage = Salvage(work.salvage.path, known=work.salvage.known)
            return False
        return True

    async def _tell(self, name: str, work: _Work) -> None:
        """Record that all of it is delivered, and then note it beside the file."""
        salvage = work.salvage
        note = Note(delivered=True, events=salvage.events, missing=salvage.missing())
        event = self._voice.salvaged(
            f"all that could be read of {name} is delivered: {note.events} events; "
            f"{note.missing} numbers are lost",
            self._clock.now(),
            state="salvaged",
            file=str(salvage.path),
            log_id=salvage.head.log_id if salvage.head else "",
            events=note.events,
            missing=note.missing,
        )
        while True:
            try:
                await self._disk.append([event], Room.RESERVE)
                await self._disk.writer.beside(_noted(salvage.path, note))
            except StoreError:
                await asyncio.sleep(RETRY_S)
            else:
                self._notes[name] = note
                return


def _one(steps: Generator[None, None, None]) -> Generator[None, None, bool]:
    """Take one slice; tell whether there are more."""
    yield
    return next(steps, _ENDED) is not _ENDED


_ENDED: Final = object()


def _noted(path: Path, note: Note) -> Generator[None, None, None]:
    write_note(path, note)
    yield
