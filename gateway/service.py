"""The tree of tasks that is a running gateway, from the open store to the last event."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import structlog

from buffer.clock import SystemClock
from buffer.store import Store
from buffer.written import DAY_S
from events import __version__
from events.commands import Asked
from events.errors import EX_SOFTWARE, ConfigError, StoreError
from events.kinds import Kind, Subkind
from events.model import Observation, Scalar
from gateway.annunciation import Annunciator
from gateway.clock_watch import ClockWatch
from gateway.command_desk import Reply
from gateway.commanding import Commanding
from gateway.conditions import RETRY_S, Conditions
from gateway.config_checks import GATEWAY_POINT
from gateway.lines import lines, urgent_points
from gateway.mutants import Mutant
from gateway.outputs import Outputs
from gateway.requests import Requests
from gateway.sections import Configuration, StationSection
from gateway.status import Status
from gateway.supervisor import Supervisor
from gateway.uplink_faults import UplinkFaults
from protocols.drivers.base import Report
from protocols.levels import unwatched
from sync.keys import read_public, read_secret
from sync.local_socket import serve
from sync.peers import Path as StationPath
from sync.peers import Station
from sync.service_notify import notify, watchdog_period_s
from sync.zmq_source import Uplink

SETTLE_S = 0.5
LAST_DELIVERY_S = 1.5
LAST_RECORD_S = 1.0
CLOCK_PERIOD_S = 1.0
BEAT_S = 2.0
SILENT_BEATS_MAX = 3  # one alone may be our own sleep: a process that was stopped and goes on
WRITER_SILENT_S = 15.0  # a disk may be slow for seconds; a writer silent for longer hangs
_SET_ASIDE_HINT = (
    "a newer program reads what it wrote: install it again and put the file back; a damaged one is"
    " read behind everything else and delivered as far as it can be: `status` says how far"
)
COMPARE_AFTER_S = 3.0  # what was refused is offered again every second: first that
NO_SOCKET = "no status socket"


class Service:
    """One gateway, from configuration to clean stop. `mutant` breaks it on purpose (see there).

    `file` is the configuration's, `loaded` its digest as it was loaded. A command may want the
    program to begin anew: then it calls `ask_to_stop`, and `restarting` is True after `run`.
    """

    def __init__(
        self,
        configuration: Configuration,
        mutant: tuple[str, Mutant] | None = None,
        *,
        file: Path,
        loaded: str,
    ) -> None:
        section = configuration.gateway
        self._configuration = configuration
        self._mutant_name = "" if mutant is None else mutant[0]
        self._mutant = None if mutant is None else mutant[1]
        self._log = structlog.get_logger()
        self._clock = SystemClock()
        self._started = self._clock.now()
        self.restarting = False
        self.ask_to_stop: Callable[[], None] = lambda: None
        self._recording = 0
        self._recorded = asyncio.Event()
        stations = [_station(station) for station in configuration.station]
        self._store = Store(
            Path(section.data_dir),
            clock=self._clock,
            urgent_points=urgent_points(configuration),
            required_stations=frozenset(
                station.public_key
                for station, asked in zip(stations, configuration.station, strict=True)
                if asked.required
            ),
            keep_s=_keep_s(configuration),
            **_bound(configuration),
        )
        self._conditions = Conditions(memory=self._store, clock=self._clock.now)
        faults = UplinkFaults(
            self._conditions,
            {each.name: frozenset(path.name for path in each.paths) for each in stations},
        )
        self._uplink = Uplink(
            stations,
            log=self._store,
            clock=self._clock,
            secret_key=read_secret(Path(section.key_file)),
            name=section.name,
            program=__version__,
            on_fault=faults.heard,
            on_asked=self._asked,
            on_rewound=faults.rewound,
            on_time=lambda told: self._clock.learn(told.offset_s, told.error_s),
        )
        self._lines = [
            (
                kind,
                Supervisor(
                    line,
                    build,
                    conditions=self._conditions,
                    memory=self._store,
                    clock=self._clock.now,
                ),
            )
            for kind, line, build in lines(configuration)
        ]
        self._outputs = Outputs(
            configuration,
            memory=self._store,
            clock=self._clock.now,
            conditions=self._conditions,
            driver_of=lambda bus: next(line.driver for _, line in self._lines if line.id == bus),
        )
        self._commanding = Commanding(
            file,
            configuration,
            loaded,
            clock=self._clock.now,
            boot_id=self._clock.boot_id,
            outputs=self._outputs,
            silenced=self._store.silenced,
            fetches=self._uplink.fetches,
            restart=self._begin_anew,
        )
        self._annunciator = Annunciator(
            configuration.annunciation,
            oldest_s=self._store.oldest_unsent_s,
            conditions=self._conditions,
            outputs=self._outputs,
            clock=self._clock.now,
        )
        self._status = Status(
            name=section.name,
            started=self._started,
            boot_id=self._clock.boot_id,
            store=self._store,
            uplink=self._uplink,
            station_keys={station.name: station.public_key for station in stations},
            conditions=self._conditions,
            lines=self._lines,
            outputs=self._outputs.status,
            commanding=self._commanding.status,
            annunciation=self._annunciator.status,
            mutant=self._mutant_name,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then leave with everything recorded."""
        async with self._store, self._socket(), asyncio.TaskGroup() as services:
            beside = [
                services.create_task(self._conditions.run(self._store.record)),
                services.create_task(self._uplink.run()),
                services.create_task(self._announce()),
                services.create_task(self._commanding.run(self._store.record)),
                services.create_task(self._beat()),
                services.create_task(self._watch_clock()),
            ]
            try:
                await self._watch_lines(stop)
                await self._finish()
            finally:
                for task in beside:
                    task.cancel()
        self._log.info("stopped")

    async def _watch_lines(self, stop: asyncio.Event) -> None:
        record: Report = self._record
        async with asyncio.TaskGroup() as group:
            tasks = []
            if self._mutant is not None:
                record, commit = self._mutant(record)
                tasks.append(group.create_task(commit()))
            tasks += [group.create_task(line.run(record)) for _, line in self._lines]
            tasks.append(group.create_task(self._outputs.run(self._store.record)))
            tasks.append(group.create_task(self._annunciator.run()))
            notify(f"READY=1\nSTATUS=watching {len(self._lines)} lines")
            self._log.info(
                "started",
                name=self._configuration.gateway.name,
                version=__version__,
                lines=len(self._lines),
                mutant=self._mutant_name or None,
            )
            await stop.wait()
            self._log.info("stopping")
            await self._outputs.stop()
            await self._deliver_last()
            for task in tasks:
                task.cancel()
        self._outputs.close()

    async def _record(self, observations: Sequence[Observation]) -> None:
        self._recording += 1
        try:
            await self._store.record(self._commanding.passed(observations))
        finally:
            self._recording -= 1
            if not self._recording:
                self._recorded.set()

    async def _deliver_last(self) -> None:
        """Let what is being recorded finish: without a disk that means to reach a station."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_DELIVERY_S):
                while self._recording:
                    self._recorded.clear()
                    await self._recorded.wait()

    def _asked(self, station: str, asked: Asked, reply: Reply) -> None:
        self._commanding.heard(station, asked, reply)

    def _begin_anew(self) -> None:
        self.restarting = True
        self.ask_to_stop()

    async def _finish(self) -> None:
        """Record that this was a clean stop."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                await self._conditions.settled()
        try:
            async with asyncio.timeout(LAST_RECORD_S):
                await self._store.record([_own(Subkind.STOPPED, {})])
        except (StoreError, TimeoutError) as error:
            self._log.warning("stop not recorded", error=str(error))

    async def _announce(self) -> None:
        """Record the start: the version, and how the last run ended."""
        while True:
            # Asked anew each time: a store that was not readable at first knows nothing yet.
            interval = unwatched(
                self._store,
                point=GATEWAY_POINT,
                source=GATEWAY_POINT,
                level=None,
                now=self._started,
            ).details
            started = _own(
                Subkind.STARTED,
                {**interval, "version": __version__},
                edge_us=int(self._started.monotonic * 1_000_000),
            )
            try:
                await self._store.record([started])
            except StoreError:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _watch_clock(self) -> None:
        """Tell the stations and the log when somebody sets or steers the clock."""
        last = self._store.last_record()
        same_boot = last is not None and last.stamp.boot_id == self._clock.boot_id
        watch = ClockWatch(
            self._clock.now(), last.stamp if last is not None and same_boot else None
        )
        while True:
            await asyncio.sleep(CLOCK_PERIOD_S)
            change = watch.look(self._clock.now())
            if change is None:
                continue
            observation = change.observation(GATEWAY_POINT)
            self._log.info("clock", text=observation.text, **observation.details)
            self._uplink.greet_again()
            with suppress(StoreError):  # looked at again, and told, once the store takes it
                await self._store.record([observation])
                watch.tell(change)

    async def _beat(self) -> None:
        """Feed the watchdog while the writer answers, and tell the manager how things are."""
        period_s = watchdog_period_s()
        pause_s = BEAT_S if period_s is None else min(BEAT_S, period_s)
        state = ""
        silent_beats = 0
        compare_at = float("inf")
        while True:
            silent_s = self._clock.now().monotonic - self._store.answered_at()
            if silent_s < WRITER_SILENT_S:
                silent_beats = 0
                notify("WATCHDOG=1")
            else:
                silent_beats += 1
                self._log.critical("store writer hangs", silent_s=round(silent_s, 1))
            if silent_beats >= SILENT_BEATS_MAX:
                os._exit(EX_SOFTWARE)  # a stop would wait for the same thread
            store = self._store.status()
            self._name_set_aside(store["set_aside"])
            if store["state"] != state:
                state = store["state"]
                notify(f"STATUS=store {state}, watching {len(self._lines)} lines")
                say = self._log.info if state == "ok" else self._log.error
                if state == "ok":
                    self._conditions.reread()
                    self._commanding.reread()
                    if self._store.opened_late:
                        compare_at = self._clock.now().monotonic + COMPARE_AFTER_S
                say("store", state=state, text=store.get("text", ""), hint=store.get("hint", ""))
            if self._clock.now().monotonic >= compare_at:
                compare_at = float("inf")
                for _, line in self._lines:
                    line.compare_again()
            await asyncio.sleep(pause_s)

    def _name_set_aside(self, names: Sequence[str]) -> None:
        """Keep a fault for as long as a file lies there that may hold undelivered events."""
        text = f"set aside, and not yet delivered from: {', '.join(names)}; {_SET_ASIDE_HINT}"
        if self._conditions.set(
            GATEWAY_POINT,
            Subkind.STORE,
            ", ".join(names),
            text=text if names else "",
            source=GATEWAY_POINT,
        ):
            self._log.error("store files set aside", files=list(names), hint=_SET_ASIDE_HINT)

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[None]:
        """Answer questions. Alarms are worth more than answers: without a socket it goes on."""
        path = Path(self._configuration.gateway.socket)
        requests = Requests(self._store, lambda: self._status.at(self._clock.now()))
        async with AsyncExitStack() as opened:
            reason = text = ""
            try:
                await opened.enter_async_context(serve(path, requests.answer))
            except ConfigError as error:
                reason, text = NO_SOCKET, f"{error}; {error.hint}"
                self._log.error("no status socket", error=text)
            self._conditions.set(
                GATEWAY_POINT, Subkind.CONFIGURATION, reason, text=text, source=GATEWAY_POINT
            )
            yield


def _own(subkind: str, details: dict[str, Scalar], *, edge_us: int | None = None) -> Observation:
    return Observation(
        point=GATEWAY_POINT,
        kind=Kind.STATUS,
        subkind=subkind,
        source=GATEWAY_POINT,
        edge_us=edge_us,
        details=details,
    )


def _station(section: StationSection) -> Station:
    return Station(
        name=section.name,
        public_key=read_public(Path(section.public_key_file)),
        paths=tuple(
            StationPath(name=path.name, address=path.address, period_s=path.idle_period_s())
            for path in section.path
        ),
        next_key=read_public(Path(section.next_public_key_file))
        if section.next_public_key_file is not None
        else "",
    )


def _keep_s(configuration: Configuration) -> float | None:
    days = configuration.store.keep_days
    return None if days is None else days * DAY_S


def _bound(configuration: Configuration) -> dict[str, int]:
    bound_bytes = configuration.store.bound_bytes
    return {} if bound_bytes is None else {"bound_bytes": bound_bytes}
