"""The faults, and the moments at which they strike."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from buffer.log import FILE_NAME
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
DAY_S = 86_400.0
TRAP_EVERY_S = 1.1
QUIET_S = 1.2  # of a world's life, before the first strike
MESSAGE_HOPS = frozenset({Hop.BATCH, Hop.FETCH, Hop.VOLATILE, Hop.REREAD})


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
        began = world.now() + QUIET_S
        self.traps = [
            _Trap(fault, hop, self.chance.choice([0, 0, 0, 1, 2]), began + TRAP_EVERY_S * number)
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

    def _go_deaf(self) -> None:
        """Let no station hear for a while, so that a store fills."""
        for path in self.world.network.paths.values():
            self.world.network.stall(path, 4.0)

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
            self.traps.remove(trap)
            self.awaited = {each.hop for each in self.traps}
            self.world.met[trap.fault, hop] += 1
            self.world.say(f"!! {trap.fault} at {hop} ({host.name})")
            self.strike(trap.fault, host, wire)
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

    def strike(self, fault: Fault, host: Host | None, wire: Wire | None) -> None:
        if self.world.healed:
            return
        self.world.struck.add(fault)
        gateway = self._gateway(wire.gateway.host if wire is not None else host)
        station = self._station(wire.station.host if wire is not None else host)
        self._actions(gateway, station, wire)[fault]()

    def _actions(
        self, gateway: GatewayHost, station: StationHost, wire: Wire | None
    ) -> dict[Fault, Callable[[], None]]:
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

    def _stop(self, host: Host) -> None:
        if host.run is not None and not host.run.dead:
            self.world.tasks.add(self.world.loop.create_task(host.stop(host.run)))

    def _network(self, fault: Fault, gateway: GatewayHost, wire: Wire | None) -> None:
        paths = [
            path
            for (name, _), path in self.world.network.paths.items()
            if name == gateway.name and path.wires
        ]
        if wire is None and not paths:
            return
        path = wire.path if wire is not None else self.chance.choice(paths)
        if fault is Fault.STALL:
            self.world.network.stall(path, self.chance.uniform(0.2, 9.0))
            return
        for each in list(path.wires) if wire is None else [wire]:
            if fault is Fault.CUT:
                each.cut()
            else:
                each.cut_at_gateway(self.chance.uniform(0.0, 3.0))

    def _corrupt(self, gateway: GatewayHost) -> None:
        """Damage the file: what only it held is lost with the medium."""
        gateway.die(power=False)
        self._excuse(gateway)
        self.world.damaged = True
        path = gateway.disk.folder / FILE_NAME
        content = bytearray(path.read_bytes())
        match self.chance.choice(["header", "pages", "short", "empty"]):
            case "header":
                content[:16] = self.chance.randbytes(16)
            case "pages":
                for _ in range(8):
                    at = self.chance.randrange(100, max(101, len(content)))
                    content[at : at + 64] = self.chance.randbytes(min(64, len(content) - at))
            case "short":
                del content[len(content) // 2 :]
            case _:
                content.clear()
        path.write_bytes(content)

    def _step_clock(self, host: Host) -> None:
        clock = host.clock
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

    def _restore_card(self, gateway: GatewayHost) -> None:
        """The card is replaced by an older image of itself; what only the newer held is gone."""
        if gateway.image is None:
            return
        gateway.die(power=True, kept=Kept.ALL)
        self._excuse(gateway)
        gateway.replace_disk(gateway.image)
        self.world.forked = True

    def _clone(self, gateway: GatewayHost) -> None:
        """A second machine starts with an image of the card, under the same key, for a while."""
        if gateway.image is None or self.world.clones:
            return
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

    def _restore_ledger(self, station: StationHost) -> None:
        if station.image is None:
            return
        judge = self.world.judge
        before, volatile = judge.held(station), judge.volatile(station)
        station.die(power=False)
        station.replace_disk(station.image)
        judge.forgive(station, before.keys() - judge.held(station).keys(), volatile)
        station.restored = True
        station.claimed.clear()

    def _change_key(self, gateway: GatewayHost, station: StationHost) -> None:
        """Revoke a key; a little later it, or a new one, is enrolled."""
        station.keys.pop(stage.public_of(gateway.key), None)
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
