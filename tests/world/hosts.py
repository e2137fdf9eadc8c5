"""Machines: a disk, a clock that may lie, and a program that runs, dies and is started again."""

import asyncio
import contextlib
import shutil
import sqlite3
import traceback
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buffer import schema as gateway_schema
from buffer.eviction import URGENT
from buffer.log import FILE_NAME, EventLog
from buffer.store import Store
from events.errors import NplusError, StoreError
from events.model import ClockQuality, Instant, Observation, Stamp
from events.replication import Lane
from station import schema as station_schema
from station.store import Store as Ledger
from sync import peers
from sync.peers import Notice
from sync.zmq_sink import Hub
from sync.zmq_source import Uplink
from tests.world import stage
from tests.world.disk import Disk, DiskFault, Kept
from tests.world.network import HERE, Process
from tests.world.plan import Hop

if TYPE_CHECKING:
    from tests.world.world import World

WALL_S = 1_790_000_000.0
RESTART_S = (0.2, 1.5)
LAST_DELIVERY_S = 1.5  # as `gateway.service` waits
PROGRAM = "world"


class LyingClock:
    """The machine's clock: monotonic time is true, wall time is what the world makes of it."""

    def __init__(self, now: Callable[[], float], boot_id: str) -> None:
        self._now = now
        self.boot_id = boot_id
        self.offset_s = 0.0
        self.drift = 0.0
        self.quality = ClockQuality.SYNCHRONISED

    def now(self) -> Instant:
        monotonic = self._now()
        if self.quality is ClockQuality.UNSET:
            return Instant(monotonic=monotonic)
        wall = WALL_S + monotonic * (1 + self.drift) + self.offset_s
        return Instant(monotonic=monotonic, wall=wall, clock=self.quality)

    def stamp(self, instant: Instant) -> Stamp:
        return Stamp(
            monotonic_us=round(instant.monotonic * 1_000_000),
            boot_id=self.boot_id,
            wall_us=None if instant.wall is None else round(instant.wall * 1_000_000),
            clock=instant.clock,
        )


@dataclass(eq=False)
class Run(Process):
    """One run of a machine's program, and what it holds while it runs."""

    task: "asyncio.Task[None] | None" = None
    store: Any = None
    hub: Any = None
    ready: bool = False
    records: set["asyncio.Task[None]"] = field(default_factory=set)

    def gone(self) -> bool:
        """Tell whether it died; asked anew after each wait."""
        return self.dead

    def reached(self, hop: str) -> None:
        if not self.dead and hop in self.host.world.striker.awaited:
            self.host.world.reached(hop, self.host)

    def appended(self, group: Any) -> None:
        if not self.dead and group.head is not None:
            items = enumerate(group.items(), group.accepted[0].first)
            self.host.world.appended(self.host, group.head.log_id, dict(items))

    def claimed(self, public_key: str, log_id: str, lane: Lane, stored: int) -> None:
        if self.dead:
            return
        world = self.host.world
        world.claimed(self.host.name, public_key, log_id, lane)
        world.judge.acknowledged(self.host.name, public_key, log_id, lane, stored)

    def evicted(self, log: EventLog) -> None:
        if self.dead or not self.deleted:
            return
        world = self.host.world
        if URGENT in self.deleted:  # alarms last of all: nothing of less value before them
            oldest = log.connection.execute("SELECT min(seq) FROM routine_event").fetchone()[0]
            world.judge.evicts_alarms(self.host.name, self.deleted[URGENT], oldest)
        for name, numbers in self.deleted.items():
            world.evicted(self.host, log.head.log_id, name, numbers)

    def trimming(self, log: EventLog, first: int, trim: Callable[[], int]) -> int:
        count = trim()
        if count and not self.dead:
            self.host.world.trimmed(self.host, log.head.log_id, first, log.head.first)
        return count


class Host:
    """A machine. `folder` is where the disk of the present run lies."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.boots = 1
        self.runs = 0
        self.copies = 0
        self.clock = LyingClock(world.loop.time, self._boot_id())
        self.disk = Disk(self._next_folder(), before_write=self._writing)
        self.run: Run | None = None
        self.image: Path | None = None
        self.off = False

    def _boot_id(self) -> str:
        return f"{self.name}-boot-{self.boots}"

    def _next_folder(self) -> Path:
        self.copies += 1
        return self.world.folder / f"{self.name}-{self.copies}"

    def _writing(self, path: str) -> None:
        run = self.run
        if run is None or run.dead or run.doing not in self.world.striker.awaited:
            return
        ours = HERE.get(None) is run and (run.doing != Hop.COMMIT or path.endswith("-wal"))
        if ours:
            run.reached(run.doing)

    # --- runs

    def start(self) -> None:
        """Start the program, unless it runs or the machine is off."""
        if self.off or (self.run is not None and not self.run.dead):
            return
        self.runs += 1
        run = self.run = Run(self)
        context = copy_context()
        context.run(HERE.set, run)
        run.task = self.world.loop.create_task(self._live(run), context=context)
        self.world.tasks.add(run.task)
        self.world.say(f"{self.name} starts (run {self.runs}, {self.clock.boot_id})")

    async def _live(self, run: Run) -> None:
        try:
            await self.program(run)
        except asyncio.CancelledError:
            pass
        except NplusError as error:
            self.world.say(f"{self.name} ends: {error}")
        except BaseException as error:  # noqa: BLE001 - a defect, whatever it is
            if not run.dead:
                self.world.defects.append("".join(traceback.format_exception(error)))
        if not run.dead and self.run is run:
            # What it still holds open ends with the process.
            self.die(power=False, again_s=1.0)

    async def program(self, run: Run) -> None:
        raise NotImplementedError

    async def stop(self, run: Run) -> None:
        """End a run as SIGTERM does: what was asked for is finished first."""
        run.ready = False
        if run.records:
            await asyncio.wait(run.records, timeout=LAST_DELIVERY_S)
        for each in (*run.records, run.task):
            if each is not None:
                each.cancel()

    def die(self, *, power: bool, kept: Kept = Kept.NONE, again_s: float | None = None) -> None:
        """End the run at this very moment: a kill, or a power cut of the machine."""
        run = self.run
        old, folder = self.disk, self._next_folder()
        if power:
            old.cut_to(folder, kept, self.world.chance)
            self.boots += 1
        else:
            old.copy_to(folder)
        self._change_disk(folder)
        if run is not None and not run.dead:
            self.world.network.detach(run, silently=power)
            for each in (*run.records, run.task):
                if each is not None:
                    # Not now: this may be inside a call of SQLite, inside that very task.
                    self.world.loop.call_soon(each.cancel)
        delay_s = self.world.chance.uniform(*RESTART_S) if again_s is None else again_s
        self.world.loop.call_later(delay_s, self.start)

    def _change_disk(self, folder: Path) -> None:
        fault = self.disk.fault
        self.disk.before_write = None
        self.world.old_disks.append(self.disk)
        self.disk = Disk(folder, fault=fault, before_write=self._writing)
        if self.clock.boot_id != self._boot_id():
            before = self.clock
            self.clock = LyingClock(self.world.loop.time, self._boot_id())
            self.clock.offset_s, self.clock.quality = before.offset_s, before.quality

    def replace_disk(self, source: Path) -> None:
        """Put the files in `source` in the place of those that the next run would find."""
        shutil.rmtree(self.disk.folder)
        shutil.copytree(source, self.disk.folder)

    def take_image(self) -> None:
        """Copy the medium, as a technician does who wants a spare card, or a backup at night."""
        self.image = self.world.folder / f"{self.name}-image-{self.copies}-{self.runs}"
        if self.image.exists():
            shutil.rmtree(self.image)
        self.disk.copy_to(self.image)

    def break_disk(self, fault: DiskFault, for_s: float) -> None:
        self.disk.fault = fault
        self.world.loop.call_later(for_s, self.mend_disk)

    def mend_disk(self) -> None:
        self.disk.fault = None


class GatewayHost(Host):
    """A gateway with its log and its uplink. `key` is its secret."""

    def __init__(self, world: "World", name: str, *, key: str, bound_bytes: int) -> None:
        super().__init__(world, name)
        self.key = key
        self.bound_bytes = bound_bytes
        if world.chance.random() < 0.9:
            shutil.copyfile(
                _template(world.templates / FILE_NAME, _make_log), self.disk.folder / FILE_NAME
            )

    async def program(self, run: Run) -> None:
        world = self.world
        run.store = Store(
            self.disk.folder,
            clock=self.clock,
            required_stations=frozenset(s.public for s in world.stations if s.required),
            bound_bytes=self.bound_bytes,
        )
        async with run.store:
            run.ready = True
            await Uplink(
                [station.address(self) for station in world.stations],
                log=run.store,
                clock=self.clock,
                secret_key=self.key,
                name=self.name.removesuffix("-clone"),
                program=PROGRAM,
                on_fault=lambda _: None,
            ).run()

    async def record(self, observations: Sequence[Observation]) -> bool:
        """Give observations to the program; tell whether the device heard that they are accepted."""
        run = self.run
        if run is None or run.dead or not run.ready:
            return False
        context = copy_context()
        context.run(HERE.set, run)
        task = self.world.loop.create_task(run.store.record(observations), context=context)
        run.records.add(task)
        await asyncio.wait([task])
        run.records.discard(task)
        if run.gone() or task.cancelled():
            return False
        error = task.exception()
        if error is not None and not isinstance(error, StoreError):
            self.world.defects.append("".join(traceback.format_exception(error)))
        return error is None


class StationHost(Host):
    """A station with its ledger and its hub. `keys` is who may speak: public key to name."""

    def __init__(self, world: "World", name: str, *, required: bool, paths: Sequence[str]) -> None:
        super().__init__(world, name)
        self.secret = f"secret-{name}"
        self.public = stage.public_of(self.secret)
        self.required = required
        self.paths = tuple(paths)
        self.keys: dict[str, str] = {}
        self.notices: list[Notice] = []
        self._reader: tuple[Path, sqlite3.Connection] | None = None
        self.restored = False
        self.claimed: set[tuple[str, str, Lane]] = set()  # of what it has spoken since then
        shutil.copyfile(
            _template(world.templates / station_schema.FILE_NAME, _make_ledger),
            self.disk.folder / station_schema.FILE_NAME,
        )

    def address(self, gateway: GatewayHost) -> peers.Station:
        return peers.Station(
            name=self.name,
            public_key=self.public,
            paths=tuple(
                peers.Path(name=path, address=f"{self.name}:{port}")
                for port, path in enumerate(self.paths, 1)
            ),
        )

    def owes_word(self, gateway: str, log_id: str, lane: Lane = Lane.MAIN) -> bool:
        """Tell whether a gateway has yet to hear what a restored ledger holds of its log."""
        return self.restored and (gateway, log_id, lane) not in self.claimed

    def reader(self) -> sqlite3.Connection:
        """Return a connection to the present file, for looking on."""
        if self._reader is None or self._reader[0] != self.disk.folder:
            self.close_reader()
            self._reader = (self.disk.folder, reader(self.disk.folder))
        return self._reader[1]

    def close_reader(self) -> None:
        if self._reader is not None:
            self._reader[1].close()
            self._reader = None

    def name_of(self, public_key: str) -> str | None:
        return self.keys.get(public_key)

    async def program(self, run: Run) -> None:
        async with Ledger(self.disk.folder, clock=self.clock) as ledger:
            run.store = ledger
            self.world.judge.look(self)
            run.hub = Hub(
                listen=f"{self.name}:1",
                secret_key=self.secret,
                name=self.name,
                program=PROGRAM,
                ledger=ledger,
                allowed=self,
                clock=self.clock,
                on_notice=lambda notice: self._noticed(run, notice),
                on_seen=lambda _gateway, _now: None,
                on_hello=lambda gateway, hello: ledger.hello(
                    gateway, hello.stamp, self.clock.now()
                ),
            )
            run.ready = True
            await run.hub.run()

    def _noticed(self, run: Run, notice: Notice) -> None:
        if not run.dead:
            self.notices.append(notice)
            self.world.say(f"{self.name} says {notice.reason}: {notice.text}")


def _template(path: Path, make: Callable[[Path], None]) -> Path:
    """Return an empty file with tables, made once: making it anew takes as long as a small world."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    return path


def _make_log(path: Path) -> None:
    gateway_schema.connect(path).close()


def _make_ledger(path: Path) -> None:
    with contextlib.closing(station_schema.open_writer(path.parent)):
        pass


def reader(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / station_schema.FILE_NAME, isolation_level=None)
