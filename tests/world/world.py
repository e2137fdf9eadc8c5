"""A seeded world: gateways and stations that are the real programs' code, and everything against them.

Time is virtual, there is one thread and no socket, and everything random comes from the seed: a
world that breaks a promise is lived again, the same to the last message, by its number.
"""

import asyncio
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path

from buffer.entries import Pending
from buffer.eviction import DELIVERED
from events.replication import Batch, Fetch, Lane
from sync import messages
from tests.world import stage
from tests.world.devices import Device
from tests.world.disk import Disk, DiskFault
from tests.world.faults import MESSAGE_HOPS, Striker
from tests.world.hosts import GatewayHost, Host, Run, StationHost
from tests.world.judge import Broken, Judge
from tests.world.loop import VirtualLoop
from tests.world.network import HERE, Context, Network, Process, Wire
from tests.world.plan import Fault, Hop, armed, is_crowded

LIFE_S = 4.8
DIRECTED_LIFE_S = 3.2  # with one pair, whose hop needs no long preparation
CROWDED_LIFE_S = 8.0  # a station comes back, says what it lacks, and a store fills after that
SETTLE_S = 120.0  # a healed world has delivered everything by then
CHECK_S = 0.3
KIB = 1024


class World:
    """`armed` names the pairs of fault and hop that are to meet in it."""

    def __init__(
        self,
        seed: int,
        folder: Path,
        templates: Path,
        *,
        pairs: list[tuple[Fault, Hop]] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        stage.set_up()
        self.seed = seed
        self.folder = folder / f"world-{seed}"
        self.templates = templates
        self.pairs = armed(seed) if pairs is None else pairs
        self._say = say
        self.chance = random.Random(seed)
        stage.chance.seed(seed)
        self.loop = VirtualLoop(lambda: stage.chance.uniform(0.0005, 0.01), self._between)
        self.network = Network(self.loop, self.chance)
        self.network.on_message = self._on_message
        Context.network = self.network
        self.tasks: set[asyncio.Task[None]] = set()
        self.defects: list[str] = []
        self.old_disks: list[Disk] = []
        self.clones: list[GatewayHost] = []
        self.struck: set[str] = set()
        self.met: Counter[tuple[str, str]] = Counter()
        self.forgotten: set[int] = set()  # attempts that some gateway has trimmed
        self.numbers: dict[tuple[str, str], dict[int, int]] = {}  # host and log: number: attempt
        self.first: dict[str, int] = {}  # of each log that was trimmed
        self.evicted_numbers: dict[str, set[int]] = {}
        self.urgent_numbers: dict[str, set[int]] = {}
        self.forked = False  # a log has two histories
        self.damaged = False  # a file was, so some of its events may be
        self.scrambled = False  # any byte of a file may be another
        self.healed = False
        self.judge = Judge(self)
        hops = {hop for _, hop in self.pairs}
        self.bulky = Hop.TRIM in hops or self.chance.random() < 0.03
        restored = Hop.REREAD in hops or Fault.BACKUP in {fault for fault, _ in self.pairs}
        self.crowded = is_crowded(seed)
        evicts = Hop.EVICT in hops or self.crowded
        self.bulky |= evicts
        self.filling = (
            self.bulky and restored
        ) or evicts  # so fast that the store needs room all the time
        self.stations = self._make_stations()
        self.later_crowded = self.crowded and self.pairs[0][0] in {Fault.BACKUP, Fault.CARD}
        self.gateways = self._make_gateways()
        self.devices = [
            Device(self, gateway, number)
            for gateway in self.gateways
            for number in range(1 if self.bulky else self.chance.choice([1, 2]))
        ]
        if self.later_crowded:  # first there is much that could go, and no need of room
            self.bulky = self.filling = False
        self.striker = Striker(self)

    def _make_stations(self) -> list[StationHost]:
        paths = ("lan", "lte") if self.chance.random() < 0.3 else ("lan",)
        made = [StationHost(self, "alpha", required=True, paths=paths)]
        if self.crowded or self.chance.random() < 0.15:
            required = self.crowded or self.chance.random() < 0.5
            made.append(StationHost(self, "beta", required=required, paths=("lan",)))
        return made

    def _make_gateways(self) -> list[GatewayHost]:
        count = 2 if self.chance.random() < 0.1 else 1
        made = []
        for number in range(1, count + 1):
            name = f"house-{number}"
            bound = 96 * KIB if self.bulky else 4096 * KIB
            gateway = GatewayHost(self, name, key=f"secret-{name}", bound_bytes=bound)
            for station in self.stations:
                station.keys[stage.public_of(gateway.key)] = name
            made.append(gateway)
        return made

    @property
    def hosts(self) -> list[Host]:
        return [*self.stations, *self.gateways, *self.clones]

    def later(self, delay_s: float, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin some work after a delay, unless the world is healed by then."""

        def begin() -> None:
            if not self.healed:
                self.tasks.add(self.loop.create_task(work()))

        self.loop.call_later(delay_s, begin)

    # --- what the hosts and the stage ask and tell

    def now(self) -> float:
        return self.loop.time()

    def say(self, text: str) -> None:
        if self._say is not None:
            self._say(f"{self.now():10.3f}  {text}")

    def reached(self, hop: str, host: Host) -> None:
        if not self.healed:
            self.striker.reached(Hop(hop), host)

    def appended(self, host: Host, log_id: str, items: dict[int, Pending]) -> None:
        """Note what stands under which number of a log."""
        urgent = self.urgent_numbers.setdefault(log_id, set())
        numbers = self.numbers.setdefault((host.name, log_id), {})
        for seq, item in items.items():
            attempt = item.record.observation.details.get("attempt")
            if item.record.urgent:
                urgent.add(seq)
            if isinstance(attempt, int):
                numbers[seq] = attempt

    def trimmed(self, gateway: Host, log_id: str, before: int, first: int) -> None:
        """Note what a gateway forgot, and whether a restored station had yet said what it lacks."""
        numbers = self.numbers.get((gateway.name, log_id), {})
        gone = {numbers[seq] for seq in range(before, first) if seq in numbers}
        self.first[log_id] = first
        self.forgotten |= gone
        self.say(f"{gateway.name} trims {log_id} to {first}")
        for station in self.stations:
            if station.owes_word(gateway.name, log_id):
                self.judge.book.excused[station.name] |= gone

    def evicted(self, gateway: Host, log_id: str, name: str, seqs: tuple[int, ...]) -> None:
        """Note what made room for something of more value; that it went is told."""
        numbers = self.numbers.get((gateway.name, log_id), {})
        gone = {numbers[seq] for seq in seqs if seq in numbers}
        self.forgotten |= gone
        self.evicted_numbers.setdefault(log_id, set()).update(seqs)
        self.say(f"{gateway.name} evicts {len(seqs)} of class {name} from {log_id}: {seqs[0]} on")
        for station in self.stations:
            if name != DELIVERED or any(
                station.owes_word(gateway.name, log_id, lane) for lane in Lane
            ):
                self.judge.book.excused[station.name] |= gone

    def claimed(self, gateway: str, public_key: str, log_id: str, lane: Lane) -> None:
        """Note that a gateway has heard what a station holds now."""
        for station in self.stations:
            run = station.run
            if station.public != public_key or run is None or not run.ready or run.dead:
                continue
            if station.owes_word(gateway, log_id, lane):
                station.claimed.add((gateway, log_id, lane))
                if lane is Lane.MAIN and self.filling and not self.healed:
                    # It has said what it lacks, and now takes nothing while the gateway needs room.
                    station.break_disk(DiskFault.IO_ERROR, 3.5)

    def _between(self) -> None:
        run = HERE.get(None)
        if isinstance(run, Run) and run.committed:
            run.committed = ""
            run.reached(Hop.COMMITTED)

    def _on_message(self, wire: Wire, data: bytes, *, up: bool) -> bool:
        """Look at a message before it goes; False when it is lost with its connection."""
        sender: Process = wire.gateway if up else wire.station
        if sender.dead:
            return False
        message = (
            messages.decode(data) if self._say or self.striker.awaited & MESSAGE_HOPS else None
        )
        if self._say is not None:
            arrow = "->" if up else "<-"
            self.say(f"  {wire.path.name} {arrow} {wire.route.decode()} {_shown(message)}")
        station = wire.station.host
        if isinstance(message, Batch) and message.entries:
            volatile = message.log_id in self.striker.volatile_logs(wire.gateway)
            hop = Hop.VOLATILE if volatile else Hop.BATCH
            if message.log_id in self.striker.salvaged_logs(wire.gateway):
                hop = Hop.SALVAGE
            if station.owes_word(wire.gateway.host.name, message.log_id):
                hop = Hop.REREAD
            self.striker.reached(hop, wire.gateway.host, wire=wire)
        elif isinstance(message, Fetch) and message.stored:
            self.striker.reached(Hop.FETCH, station, wire=wire)
        return wire.router is not None and not sender.dead

    # --- life

    def live(self) -> None:
        """Live, heal, settle, and be judged. Raises `Broken`."""
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(self._defect)
        try:
            self.loop.run_until_complete(self._life())
        finally:
            self._end()

    async def _life(self) -> None:
        for host in self.hosts:
            host.start()
        hops = {hop for _, hop in self.pairs}
        brief = len(self.pairs) == 1 and not hops & {Hop.TRIM, Hop.EVICT, Hop.REREAD}
        life_s = DIRECTED_LIFE_S if brief else LIFE_S
        until = self.now() + (CROWDED_LIFE_S if self.crowded else life_s)
        devices = [self.loop.create_task(each.live(until)) for each in self.devices]
        self.tasks |= set(devices)
        self.striker.prepare()
        while self.now() < until:
            await asyncio.sleep(CHECK_S)
            self._raise_defects()
        self._heal()
        await asyncio.wait(devices)
        end = self.now() + SETTLE_S
        while not self.complete():
            self._raise_defects()
            if self.now() > end:
                raise Broken(
                    f"seed {self.seed}: not settled {SETTLE_S} s after it was healed: {self.why}"
                )
            await asyncio.sleep(CHECK_S)
        await asyncio.sleep(1.0)  # late messages of old connections
        self._raise_defects()
        self.judge.verdict()

    def _heal(self) -> None:
        self.say("-- heal --")
        self.healed = True
        for host in (*self.stations, *self.gateways):
            host.mend_disk()
            host.start()
        for path in self.network.paths.values():
            path.stalled_until = 0.0
        self.striker.heal()

    why = ""

    def complete(self) -> bool:
        """Tell whether every log is at every station, as far as the programs know."""
        for gateway in self.gateways:
            run = gateway.run
            if run is None or run.dead or not run.ready or run.store.status()["state"] != "ok":
                self.why = f"{gateway.name} is not well"
                return False
            head = run.store.heads()[0]
            for station in self.stations:
                there = station.run
                hub = None if there is None or there.dead or not there.ready else there.hub
                known = None if hub is None else hub._gateways.get(gateway.name)
                log = None if known is None else known.progress.logs.get(head.log_id)
                if head.head == 0 and self.forked:
                    continue  # nothing is left to bring
                if log is None or log.main < head.head or log.chain != head.chain:
                    self.why = f"{station.name} has {log}, {gateway.name} {head}"
                    return False
        return True

    def _raise_defects(self) -> None:
        if self.defects:
            raise Broken(f"seed {self.seed}: a program failed:\n{self.defects[0]}")

    def _defect(self, _loop: object, context: dict[str, object]) -> None:
        error = context.get("exception")
        shown = "".join(traceback.format_exception(error)) if isinstance(error, Exception) else ""
        self.defects.append(f"{context.get('message')}: {error!r}\n{shown}")

    def _end(self) -> None:
        """Let every task end, whatever became of the world."""
        self._say = None
        self.healed = True
        for host in self.hosts:
            host.off = True
            if host.run is not None:
                host.run.dead = True
        # Programs end as they do when they are stopped: their own tasks are theirs to end.
        runs = [host.run for host in self.hosts if host.run is not None]
        ending = [task for run in runs for task in (*run.records, run.task)]
        for task in (*ending, *self.tasks):
            if task is not None:
                task.cancel()
        everything = asyncio.all_tasks(self.loop)
        if everything:
            self.loop.run_until_complete(asyncio.wait(everything, timeout=30.0))
        for station in self.stations:
            station.close_reader()
        for disk in (*self.old_disks, *(host.disk for host in self.hosts)):
            disk.unmount()
        left = asyncio.all_tasks(self.loop)
        self.loop.close()
        asyncio.set_event_loop(None)
        shutil.rmtree(self.folder, ignore_errors=True)
        if left:
            raise RuntimeError(f"seed {self.seed}: tasks that do not end: {left}")


def _shown(message: object) -> str:
    match message:
        case Batch():
            count = len(messages.decode_entries(message))
            gaps = "".join(f" gap {gap.first}..{gap.last} {gap.why}" for gap in message.gaps)
            return (
                f"batch {message.id} {message.lane} {message.log_id[:6]} {count} events"
                f" through {message.through} head {message.head}{gaps}"
            )
        case Fetch():
            return (
                f"fetch {message.id} {message.lane} {message.log_id[:6]} after {message.after}"
                f" follows {message.follows} stored {message.stored}"
            )
        case _:
            return type(message).__name__.lower()
