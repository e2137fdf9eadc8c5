"""The gateway's end: every connection to every station, and what is to be said about them."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import zmq

from events.commands import Asked, Told
from events.replication import Lane
from sync.diagnosis import LaneState, PathWatch
from sync.keys import public_of
from sync.log import Log
from sync.peers import Clock, Path, PathChange, Rewound, Station
from sync.source import Mark, Source
from sync.station_time import StationTime
from sync.zmq_lane import LaneRunner
from sync.zmq_loop import endpoint, set_common_options, set_heartbeat, wait

HEARTBEAT_PERIOD_S_MAX = (
    5.0  # a path that is to be idle for longer gets no heartbeats of the library
)

OnAsked = Callable[[str, Asked, Callable[[Told], None]], None]


class Uplink:
    """Every connection of a gateway to its stations: two for each path, one a lane.

    `on_fault` hears of each change of a path, and of its first known state; `on_time` of what a
    station's clock says; `on_asked` of what a station asks beside the events, by its name, and how
    to answer. Raises `ConfigError` for an address that is none.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        *,
        log: Log,
        clock: Clock,
        secret_key: str,
        name: str,
        program: str,
        on_fault: Callable[[PathChange], None],
        on_time: Callable[[StationTime], None] = lambda _: None,
        on_asked: OnAsked = lambda _station, _asked, _tell: None,
        on_rewound: Callable[[Rewound], None] = lambda _: None,
    ) -> None:
        self._stations = tuple(stations)
        self._log = log
        self._clock = clock
        self._secret_key = secret_key
        self._name = name
        self._program = program
        self._on_fault = on_fault
        self._on_time = on_time
        self._sources: list[tuple[str, Source]] = []
        self._on_asked = on_asked
        self._on_rewound = on_rewound
        self._marks: dict[tuple[str, str, Lane], int] = {}
        self._instance = secrets.token_hex(8)
        self._lanes: dict[tuple[str, str, Lane], LaneRunner] = {}
        self._rewound: dict[tuple[str, str], Rewound] = {}
        self._stirred = asyncio.Event()
        self._watches: dict[tuple[str, str], PathWatch] = {}
        for station in stations:
            for path in station.paths:
                endpoint(path.address)
                self._watches[station.name, path.name] = PathWatch()

    async def run(self) -> None:
        """Serve every station until cancelled."""
        context = zmq.Context()
        self._lanes = {
            (station.name, path.name, lane): self._runner(context, station, path, lane)
            for station in self._stations
            for path in station.paths
            for lane in Lane
        }

        def grown() -> None:
            for each in self._lanes.values():
                each.awake.set()

        unwatch = self._log.watch(grown)
        try:
            async with asyncio.TaskGroup() as tasks:
                for each in self._lanes.values():
                    tasks.create_task(each.run())
                tasks.create_task(self._tell())
        finally:
            unwatch()
            context.destroy(linger=0)

    def greet_again(self) -> None:
        """Tell every station anew what our clock says: it was set, or is worth more now."""
        for each in self._lanes.values():
            each.greet_again()

    def fetches(self, station: str) -> int:
        """Return how many fetches a station has sent since the start."""
        return sum(source.fetches for name, source in self._sources if name == station)

    def status(self) -> list[dict[str, Any]]:
        """Return for each station what it holds of the main log, and how its paths are."""
        heads = self._log.heads()
        main = heads[0].log_id if heads else ""
        return [
            {
                "name": station.name,
                "stored": self._marks.get((station.name, main, Lane.MAIN), 0),
                "urgent_stored": self._marks.get((station.name, main, Lane.URGENT), 0),
                "paths": [self._path_status(station, path) for path in station.paths],
            }
            for station in self._stations
        ]

    def _runner(
        self, context: zmq.Context[Any], station: Station, path: Path, lane: Lane
    ) -> LaneRunner:
        def socket(broken: int) -> zmq.Socket[bytes]:
            dealer: zmq.Socket[bytes] = context.socket(zmq.DEALER)
            set_common_options(dealer, path.address)
            if path.period_s <= HEARTBEAT_PERIOD_S_MAX:
                set_heartbeat(dealer)
            dealer.curve_secretkey = self._secret_key.encode("ascii")
            dealer.curve_publickey = public_of(self._secret_key).encode("ascii")
            station_key = (
                station.next_key if broken % 2 and station.next_key else station.public_key
            )
            dealer.curve_serverkey = station_key.encode("ascii")
            return dealer

        def state_changed(state: LaneState) -> None:
            now = self._clock.now().monotonic
            self._watches[station.name, path.name].report(lane, state, now)
            self._stirred.set()
            self._tell_others(station, lane)

        source = Source(
            name=self._name,
            program=self._program,
            boot_id=self._clock.boot_id,
            lane=lane,
            path=path.name,
            instance=self._instance,
            rank=station.paths.index(path),
            period_s=path.period_s,
        )
        self._sources.append((station.name, source))
        return LaneRunner(
            source=source,
            log=self._log,
            clock=self._clock,
            address=path.address,
            socket=socket,
            on_state=state_changed,
            on_mark=lambda mark: self._acknowledged(station, mark),
            on_time=self._on_time,
            on_asked=lambda asked, tell: self._on_asked(station.name, asked, tell),
            on_ceiling=lambda mark: self._asked_again(station, mark),
            station_keys=2 if station.next_key else 1,
        )

    def _tell_others(self, station: Station, lane: Lane) -> None:
        """Let the other paths carry what a lost one carried, at once, however long they idle."""
        lost = {
            path.name
            for path in station.paths
            if self._watches[station.name, path.name].lost(lane)
        }
        for path in station.paths:
            others = tuple(sorted(lost - {path.name}))
            self._lanes[station.name, path.name, lane].others_lost(others)

    def _asked_again(self, station: Station, ceiling: Mark) -> None:
        """Keep what a station asks for again, although it acknowledged it: it lost what it had."""
        known = self._log.mark(station.public_key, ceiling.log_id, ceiling.lane)
        if ceiling.stored >= known:
            return
        self._log.acknowledge(station.public_key, ceiling.log_id, ceiling.lane, ceiling.stored)
        self._marks.pop((station.name, ceiling.log_id, ceiling.lane), None)
        standing = (station.name, ceiling.log_id) in self._rewound  # told, until it holds it all
        if ceiling.lane is Lane.MAIN and not standing:
            # on the other lane numbers without events are acknowledged too
            first = next(
                (log.first for log in self._log.heads() if log.log_id == ceiling.log_id), 0
            )
            rewound = Rewound(
                station=station.name,
                log_id=ceiling.log_id,
                held=ceiling.stored,
                acknowledged=known,
                first=first,
            )
            self._rewound[station.name, ceiling.log_id] = rewound
            self._on_rewound(rewound)

    def _caught_up(self, station: Station, mark: Mark) -> None:
        rewound = self._rewound.get((station.name, mark.log_id))
        if rewound is not None and mark.lane is Lane.MAIN and mark.stored >= rewound.acknowledged:
            del self._rewound[station.name, mark.log_id]
            self._on_rewound(replace(rewound, held=None))

    def _acknowledged(self, station: Station, mark: Mark) -> None:
        key = (station.name, mark.log_id, mark.lane)
        self._marks[key] = max(mark.stored, self._marks.get(key, 0))
        offered = {head.log_id for head in self._log.heads()}
        for gone in [each for each in self._marks if each[1] not in offered]:
            del self._marks[gone]
        self._log.acknowledge(station.public_key, mark.log_id, mark.lane, mark.stored)
        self._caught_up(station, mark)

    def _path_status(self, station: Station, path: Path) -> dict[str, Any]:
        state = self._watches[station.name, path.name].state()
        return {
            "name": path.name,
            "address": path.address,
            "up": state.up,
            "fault": "" if state.fault is None else state.fault.value,
            "text": state.text,
        }

    async def _tell(self) -> None:
        while True:
            self._stirred.clear()
            now = self._clock.now().monotonic
            for (station, path), watch in self._watches.items():
                state = watch.change(now)
                if state is not None:
                    self._on_fault(self._path_change(station, path, state))
            due = [each for watch in self._watches.values() if (each := watch.deadline())]
            await wait(self._stirred, min(due, default=None))

    def _path_change(self, station: str, path: str, state: LaneState) -> PathChange:
        return PathChange(
            station=station,
            path=path,
            up=state.up,
            station_up=any(
                watch.state().up for (name, _), watch in self._watches.items() if name == station
            ),
            fault="" if state.fault is None else state.fault.value,
            text=state.text,
        )
