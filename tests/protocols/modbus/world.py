"""A bus on a virtual clock: the engine at one end, simulated units at the other."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from events.model import Instant, Observation, Record
from protocols.modbus.bus import ModbusBus
from protocols.modbus.sections import TCP, Bus, Point, Unit
from protocols.modbus.simulated import SimulatedBus, SimulatedUnit
from protocols.modbus.timing import transmission_s
from protocols.ports import SerialPort

STEPS_AT_ONE_INSTANT_MAX = 5000


class Remembered:
    """A memory: what a store held when the run began."""

    def __init__(
        self, stored: list[Observation] | None = None, record: Record | None = None
    ) -> None:
        self._stored = stored or []
        self._record = record

    def latest(self, point: str, kind: str, subkind: str) -> Observation | None:
        for observation in reversed(self._stored):
            if (observation.point, observation.kind, observation.subkind) == (
                point,
                kind,
                subkind,
            ):
                return observation
        return None

    def last_raw(self, source: str) -> bytes | None:
        return None

    def last_record(self) -> Record | None:
        return self._record

    @property
    def boot_id(self) -> str:
        return "boot"


def contact(name: str = "door", **changes: Any) -> Point:
    fields: dict[str, Any] = {
        "id": name,
        "table": "discrete",
        "address": 0,
        "kind": "alarm",
        "subkind": "burglary",
    }
    return Point(**{**fields, **changes})


def serial_bus(units: list[Unit], *, baud: int = 9600, **changes: Any) -> Bus:
    return Bus(
        id="bus",
        driver="modbus-rtu",
        port=SerialPort(path="/dev/null", baud=baud),
        unit=tuple(units),
        **changes,
    )


def tcp_bus(units: list[Unit], **changes: Any) -> Bus:
    return Bus(
        id="bus",
        driver="modbus-tcp",
        address="127.0.0.1",
        unit=tuple(units),
        **changes,
    )


class World:
    """Runs one engine against simulated units.

    seen: what was observed, with its time. asked: what the engine sent, with its time.
    recorded: what was stored of it; the store refuses what `refuses` says.
    `wire` may change the bytes from the units: it returns (delay, bytes) for each reply.
    """

    def __init__(
        self,
        config: Bus,
        units: list[SimulatedUnit],
        memory: Remembered | None = None,
    ) -> None:
        self.now_s = 100.0
        self.engine = ModbusBus(config, memory or Remembered())
        self.units = {unit.unit: unit for unit in units}
        self.seen: list[tuple[float, Observation]] = []
        self.asked: list[tuple[float, bytes]] = []
        self.stores = True
        self.refuses: Callable[[Observation], bool] = lambda _: False
        self.recorded: list[Observation] = []
        self.wire: Callable[[float, bytes], list[tuple[float, bytes]]] = lambda after, data: [
            (after, data)
        ]
        self._tcp = config.driver == TCP
        self._baud = config.port.baud if config.port is not None else 0
        self._far = SimulatedBus(units, tcp=self._tcp)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._idle_steps = 0
        self._heard_until = 0.0
        self.engine.start(self.now)
        self._pump()

    @property
    def now(self) -> Instant:
        return Instant(monotonic=self.now_s)

    def at(self, time_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (time_s, next(self._serial), action))

    def hears(self, time_s: float, data: bytes) -> None:
        """Have the engine receive bytes then."""
        self.at(time_s, lambda: self.engine.receive(data, self.now))

    def run(self, seconds: float) -> None:
        until = self.now_s + seconds
        self._pump()
        while True:
            deadline = self.engine.deadline()
            due = self._heap[0][0] if self._heap else None
            times = [time for time in (deadline, due) if time is not None]
            if not times or min(times) > until:
                self.now_s = until
                return
            step = max(self.now_s, min(times))
            self._idle_steps = 0 if step > self.now_s else self._idle_steps + 1
            assert self._idle_steps < STEPS_AT_ONE_INSTANT_MAX, "the engine spins"
            self.now_s = step
            if due is not None and due <= self.now_s:
                heapq.heappop(self._heap)[2]()
            else:
                self.engine.timeout(self.now)
            self._pump()

    def observed(self, point: str, kind: str | None = None) -> list[Observation]:
        return [
            observation
            for _, observation in self.seen
            if observation.point == point and kind in {None, observation.kind}
        ]

    def polls(self, unit: int) -> list[float]:
        """Return when requests to a unit were sent."""
        place = 6 if self._tcp else 0
        return [time for time, data in self.asked if data[place] == unit]

    def settle(self) -> None:
        """Store what was handed out, as a store that works again would."""
        self._pump()

    def _pump(self) -> None:
        data = self.engine.to_send()
        if data:
            self.asked.append((self.now_s, data))
            sent_s = self._wire_s(data)
            for reply in self._far.receive(data, self.now_s):
                for after_s, heard in self.wire(reply.after_s, reply.data):
                    at_s = self.now_s + sent_s + after_s + self._wire_s(heard)
                    if self._tcp:  # a connection keeps the order of its bytes
                        at_s = self._heard_until = max(at_s, self._heard_until)
                    self.hears(at_s, heard)
        observations = self.engine.observations()
        self.seen += [(self.now_s, observation) for observation in observations]
        if observations and self.stores:
            for observation in observations:
                if self.refuses(observation):
                    self.engine.dropped(1, self.now)
                else:
                    self.recorded.append(observation)
                    self.engine.stored(1, self.now)
            self._pump()

    def _wire_s(self, data: bytes) -> float:
        return transmission_s(len(data), self._baud) if self._baud else 0.0002
