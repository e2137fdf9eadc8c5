"""The faults, and the moments at which they strike."""

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from buffer.log import FILE_NAME
from buffer.schema import PAGE_BYTES
from buffer.store import Store
from events.model import ClockQuality
from tests.world import stage
from tests.world.devices import Device
from tests.world.disk import DiskFault, Kept
from tests.world.hosts import GatewayHost, Host, StationHost
from tests.world.network import Process, Wire
from tests.world.plan import Fault, Hop

if TYPE_CHECKING:
    from tests.world.world import World

CLONE_LINE = 20
CLONE_DEVICE = f"line-{CLONE_LINE}"
DAMAGES = ("header", "hole", "pages", "short", "empty")
HEADER_BYTES = 100  # of a SQLite file
DAY_S = 86_400.0
TRAP_EVERY_S = 0.8
SALVAGED_S = 0.6  # for so long events gather in a file before it is damaged
QUIET_S = 1.0  # of a world's life, before the first strike
MESSAGE_HOPS = frozenset({Hop.BATCH, Hop.FETCH, Hop.VOLATILE, Hop.REREAD, Hop.SALVAGE})

SCARCE = frozenset({Hop.VOLATILE, Hop.REREAD, Hop.SALVAGE})  # the first that comes by is taken


@dataclass(slots=True)
class _Trap:
    fault: Fault
    hop: Hop
    skip: int  # how often the hop passes unharmed before
    ready_at: float


class Striker:
    """Waits at the hops with the faults that the world is to have."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.chance: random.Random = world.chance
        began = world.now() + QUIET_S + (TRAP_EVERY_S if world.crowded else 0.0)
        self.traps = [
            _Trap(
                fault,
                hop,
                0 if hop in SCARCE else self.chance.choice([0, 0, 0, 1, 2]),
                began + TRAP_EVERY_S * number,
            )
            for number, (fault, hop) in enumerate(world.pairs)
        ]
        self.awaited = {trap.hop for trap in self.traps}

    def prepare(self) -> None:
        """Arrange what has to be so that a hop comes by at all."""
        loop = self.world.loop
        for host in (*self.world.stations, *self.world.gateways):
            loop.call_later(self.chance.uniform(0.6, QUIET_S), host.take_image)
        for trap in self.traps:
            delay_s = trap.ready_at - self.world.now() - 0.3
            if trap.hop in {Hop.VOLATILE, Hop.MOVE}:
                unheard = trap.hop is Hop.MOVE
                loop.call_later(delay_s, partial(self._make_volatile, unheard=unheard))
            elif trap.hop is Hop.EVICT:
                loop.call_later(delay_s, self._go_deaf)
            elif trap.hop is Hop.REREAD:
                loop.call_later(delay_s, lambda: self.strike(Fault.BACKUP, self._station(), None))
            elif trap.hop is Hop.SALVAGE:
                loop.call_later(max(0.0, delay_s - SALVAGED_S), self._make_salvage)

    def _make_volatile(self, *, unheard: bool) -> None:
        """Break a gateway's disk and press a button there; `unheard`: no station hears of it."""
        if self.world.healed:
            return
        fault = self.chance.choice([DiskFault.FULL, DiskFault.READ_ONLY, DiskFault.IO_ERROR])
        gateway = self._gateway()
        self.world.say(f"{gateway.name}: disk {fault}, to make it volatile")
        for_s = self.chance.uniform(1.0, 3.0)
        gateway.break_disk(fault, for_s)
        button = Device(self.world, gateway, 10 + len(self.traps))
        self.world.later(0.2, lambda: button.press(gateway))
        if unheard:
            for path in self.world.network.paths.values():
                self.world.network.stall(path, for_s + 2.0)

    def _make_salvage(self) -> None:
        """Damage a file that holds what no station has heard of yet."""
        if self.world.healed:
            return
        gateway = self._gateway()
        for path in self.world.network.paths.values():
            self.world.network.stall(path, SALVAGED_S)
        button = Device(self.world, gateway, 30 + len(self.traps))
        self.world.later(SALVAGED_S / 2, lambda: button.press(gateway))
        self.world.loop.call_later(SALVAGED_S, lambda: self._spoil(gateway))

    def _go_deaf(self) -> None:
        """Let no station hear for a while, so that a store fills."""
        for path in self.world.network.paths.values():
            self.world.network.stall(path, 4.0)

    def salvaged_logs(self, process: Process) -> frozenset[str]:
        store = getattr(process, "store", None)
        if not isinstance(store, Store):
            return frozenset()
        return frozenset(head.log_id for head in store._salvaging.heads())

    def volatile_logs(self, process: Process) -> frozenset[str]:
        store = getattr(process, "store", None)
        if not isinstance(store, Store):
            return frozenset()
        return frozenset(head.log_id for head in store.heads() if head.volatile)

    def reached(self, hop: Hop, host: Host, wire: Wire | None = None) -> None:
        now = self.world.now()
        if self.world.healed:
            return
        for trap in self.traps:
            if trap.hop is not hop or now < trap.ready_at:
                continue
            if trap.skip:
                trap.skip -= 1
                continue
            self.world.say(f"!! {trap.fault} at {hop} ({host.name})")
            self.traps.remove(trap)
            if self.strike(trap.fault, host, wire):
                self.world.met[trap.fault, hop] += 1
            else:
                self.traps.append(trap)  # it waits for the next that passes
            self.awaited = {each.hop for each in self.traps}
            return

    def heal(self) -> None:
        self._end_clone()
        for station in self.world.stations:
            for gateway in self.world.gateways:
                station.keys[stage.public_of(gateway.key)] = gateway.name
        for host in (*self.world.stations, *self.world.gateways):
            host.clock.offset_s, host.clock.quality = 0.0, ClockQuality.SYNCHRONISED

    # --- the faults

    def _gateway(self, host: Host | None = None) -> GatewayHost:
        return host if isinstance(host, GatewayHost) else self.chance.choice(self.world.gateways)

    def _station(self, host: Host | None = None) -> StationHost:
        return host if isinstance(host, StationHost) else self.chance.choice(self.world.stations)

    def strike(self, fault: Fault, host: Host | None, wire: Wire | None) -> bool:
        """Let a fault happen; False when nothing came of it, as everything was so already."""
        if self.world.healed:
            return False
        gateway = self._gateway(wire.gateway.host if wire is not None else host)
        station = self._station(wire.station.host if wire is not None else host)
        if self._actions(gateway, station, wire)[fault]() is False:
            return False
        self.world.struck.add(fault)
        if self.world.later_crowded:
            self.world.bulky = self.world.filling = True
            if fault is Fault.CARD:  # by the time it is heard, only its history tells
                self._go_deaf()
        return True

    def _actions(
        self, gateway: GatewayHost, station: StationHost, wire: Wire | None
    ) -> dict[Fault, Callable[[], bool | None]]:
        short_s, long_s = self.chance.uniform(0.3, 4.0), self.chance.uniform(0.5, 5.0)
        kept = self.chance.choice(list(Kept))
        host: Host = self.chance.choice([gateway, gateway, station])

        def locked() -> None:
            gateway.die(power=False)
            gateway.break_disk(DiskFault.LOCKED, long_s)

        return {
            Fault.GATEWAY_STOP: lambda: self._stop(gateway),
            Fault.GATEWAY_KILL: lambda: gateway.die(power=False),
            Fault.GATEWAY_CUT: lambda: gateway.die(power=True, kept=kept),
            Fault.STATION_KILL: lambda: station.die(power=False),
            Fault.STATION_CUT: lambda: station.die(power=True, kept=kept),
            Fault.CUT: lambda: self._network(Fault.CUT, gateway, wire),
            Fault.RECONNECT: lambda: self._network(Fault.RECONNECT, gateway, wire),
            Fault.STALL: lambda: self._network(Fault.STALL, gateway, wire),
            Fault.GATEWAY_FULL: lambda: gateway.break_disk(DiskFault.FULL, short_s),
            Fault.GATEWAY_READ_ONLY: lambda: gateway.break_disk(DiskFault.READ_ONLY, short_s),
            Fault.GATEWAY_IO: lambda: gateway.break_disk(DiskFault.IO_ERROR, short_s),
            Fault.GATEWAY_LOCKED: locked,
            Fault.STATION_FULL: lambda: station.break_disk(DiskFault.FULL, short_s),
            Fault.STATION_IO: lambda: station.break_disk(DiskFault.IO_ERROR, short_s),
            Fault.CORRUPT: lambda: self._corrupt(gateway),
            Fault.CLOCK: lambda: self._step_clock(host),
            Fault.CARD: lambda: self._restore_card(gateway),
            Fault.CLONE: lambda: self._clone(gateway),
            Fault.BACKUP: lambda: self._restore_ledger(station),
            Fault.KEY: lambda: self._change_key(gateway, station),
        }

    def _stop(self, host: Host) -> bool:
        if host.run is None or host.run.dead:
            return False
        self.world.tasks.add(self.world.loop.create_task(host.stop(host.run)))
        return True

    def _network(self, fault: Fault, gateway: GatewayHost, wire: Wire | None) -> bool:
        paths = [
            path
            for (name, _), path in self.world.network.paths.items()
            if name == gateway.name and path.wires
        ]
        if wire is None and not paths:
            return False
        path = wire.path if wire is not None else self.chance.choice(paths)
        if fault is Fault.STALL:
            self.world.network.stall(path, self.chance.uniform(0.2, 9.0))
            return True
        for each in list(path.wires) if wire is None else [wire]:
            if fault is Fault.CUT:
                each.cut()
            else:
                each.cut_at_gateway(self.chance.uniform(0.0, 3.0))
        return True

    def _spoil(self, gateway: GatewayHost) -> None:
        if not self.world.healed:
            self._corrupt(gateway, ("hole", "hole", "header", "pages"), folded=True)

    def _corrupt(
        self, gateway: GatewayHost, ways: Sequence[str] = DAMAGES, *, folded: bool = False
    ) -> None:
        """Damage the file: what only it held is lost with the medium.

        folded: with all events in the file, and none in the write-ahead log that would mend it.
        """
        self.world.struck.add(Fault.CORRUPT)
        gateway.die(power=False)
        self._excuse(gateway)
        self.world.damaged = True
        path = gateway.disk.folder / FILE_NAME
        if folded or self.chance.random() < 0.5:
            with (
                suppress(sqlite3.Error, UnicodeDecodeError),
                closing(sqlite3.connect(path)) as file,
            ):
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = bytearray(path.read_bytes())
        way = self.chance.choice(ways)
        match way if len(content) > HEADER_BYTES else "empty":
            case "header":
                content[:16] = self.chance.randbytes(16)
            case "hole":
                content[:16] = self.chance.randbytes(16)
                at = self.chance.choice(_leaves(content))
                content[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)
            case "pages":
                self.world.scrambled = True
                for _ in range(8):
                    at = self.chance.randrange(HEADER_BYTES, len(content))
                    content[at : at + 64] = self.chance.randbytes(min(64, len(content) - at))
            case "short":
                del content[len(content) // 2 :]
            case _:
                content.clear()
        path.write_bytes(content)

    def _step_clock(self, host: Host) -> bool:
        clock = host.clock
        before = (clock.offset_s, clock.quality, clock.drift)
        match self.chance.choice(["forward", "back", "unset", "free", "drift", "ntp"]):
            case "forward":
                clock.offset_s += DAY_S
            case "back":
                clock.offset_s -= DAY_S
            case "unset":
                clock.quality = ClockQuality.UNSET
            case "free":
                clock.quality, clock.offset_s = ClockQuality.FREE, self.chance.uniform(-900, 900)
            case "drift":
                clock.drift = self.chance.uniform(-0.01, 0.01)
            case _:
                clock.quality, clock.offset_s = ClockQuality.SYNCHRONISED, 0.0
        return before != (clock.offset_s, clock.quality, clock.drift)

    def _restore_card(self, gateway: GatewayHost) -> bool:
        """The card is replaced by an older image of itself; what only the newer held is gone."""
        if gateway.image is None:
            return False
        gateway.die(power=True, kept=Kept.ALL)
        self._excuse(gateway)
        gateway.replace_disk(gateway.image)
        self.world.forked = True
        return True

    def _clone(self, gateway: GatewayHost) -> bool:
        """A second machine starts with an image of the card, under the same key, for a while."""
        if gateway.image is None or self.world.clones:
            return False
        clone = GatewayHost(
            self.world, f"{gateway.name}-clone", key=gateway.key, bound_bytes=gateway.bound_bytes
        )
        clone.replace_disk(gateway.image)
        self.world.clones.append(clone)
        self.world.forked = True
        clone.start()
        button = Device(self.world, gateway, CLONE_LINE)
        self.world.later(self.chance.uniform(0.1, 1.0), lambda: button.press(clone))
        self.world.loop.call_later(self.chance.uniform(0.5, 4.0), self._end_clone)
        return True

    def _end_clone(self) -> None:
        """Take the clone away, with what only it held."""
        for clone in self.world.clones:
            if not clone.off:
                clone.off = True
                clone.die(power=True)
                book = self.world.judge.book
                own = {each.id for each in book.attempts.values() if each.device == CLONE_DEVICE}
                self.world.forgotten |= own
                for station in self.world.stations:
                    book.excused[station.name] |= own - self.world.judge.held(station).keys()

    def _excuse(self, gateway: GatewayHost) -> None:
        """Excuse what lay on a medium that was taken and was at no station yet."""
        book = self.world.judge.book
        self.world.forgotten |= {
            each.id for each in book.attempts.values() if each.gateway == gateway.name
        }
        for station in self.world.stations:
            held = self.world.judge.held(station)
            book.excused[station.name] |= {
                each.id
                for each in book.attempts.values()
                if each.gateway == gateway.name and not held[each.id]
            }

    def _restore_ledger(self, station: StationHost) -> bool:
        if station.image is None:
            return False
        judge = self.world.judge
        before, volatile = judge.held(station), judge.volatile(station)
        station.die(power=False)
        station.replace_disk(station.image)
        judge.forgive(station, before.keys() - judge.held(station).keys(), volatile)
        station.restored = True
        station.claimed.clear()
        return True

    def _change_key(self, gateway: GatewayHost, station: StationHost) -> bool:
        """Revoke a key; a little later it, or a new one, is enrolled."""
        if station.keys.pop(stage.public_of(gateway.key), None) is None:
            return False
        fresh = self.chance.random() < 0.5

        def enrol() -> None:
            if self.world.healed:
                return
            if fresh:
                gateway.key = f"secret-{gateway.name}-{gateway.runs}"
                gateway.die(power=False)
            for each in self.world.stations:
                each.keys = {k: n for k, n in each.keys.items() if n != gateway.name}
                each.keys[stage.public_of(gateway.key)] = gateway.name

        self.world.loop.call_later(self.chance.uniform(0.3, 3.0), enrol)
        return True


def _leaves(content: bytearray) -> list[int]:
    """Return where the pages with events of devices lie, without the last; any if there is none."""
    pages = range(PAGE_BYTES, len(content), PAGE_BYTES)
    held = [at for at in pages if b"attempt" in content[at : at + PAGE_BYTES]]
    return held[:-1] or held or list(pages) or [0]
