"""What each command does. Raises `UsageError` to refuse; anything else that fails is a failure."""

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog

from events.calendar import rfc3339
from events.commands import Command, Verdict
from events.errors import StoreError, UsageError
from events.model import ClockQuality, Observation
from gateway.bypasses import FOR_S_DEFAULT, Bypasses
from gateway.command_desk import Action, Done
from gateway.command_journal import Journal, JournalThread
from gateway.outputs import Action as Switching
from gateway.outputs import Outputs
from protocols.drivers.base import Clock, Report
from protocols.drivers.gpio_outbox import Outbox
from sync.payload import pack_tail

Actions = Mapping[tuple[str, str], Action]

RETRY_S = 1.0
LOOK_S = 1.0
RESTART_AFTER_S = 0.3  # so that the station hears the outcome

_SWITCHINGS: dict[str, Switching] = {"set": "set", "clear": "clear", "pulse": "pulse"}


class OutputActions:
    """`set`, `clear` and `pulse` of an output."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def actions(self) -> Actions:
        return {("", name): self._order for name in _SWITCHINGS}

    async def _order(self, _station: str, command: Command) -> Done:
        verdict, text = await self._outputs.order(
            command.target,
            _SWITCHINGS[command.action],
            duration_s=_number(command, "duration_s", 0.0),
            why={"why": "command", "command": command.id, "by": command.issued_by},
        )
        return Done(verdict=verdict, text=text)


class BypassActions:
    """`bypass` and `unbypass` of a point. `run` takes up what the disk holds, and ends what is over."""

    def __init__(
        self,
        bypasses: Bypasses,
        journal: JournalThread,
        clock: Clock,
        silenced: Callable[[], list[Observation]],
    ) -> None:
        self._bypasses = bypasses
        self._silenced = silenced
        self._loaded = self._readable = self._recalled = False
        self._journal = journal
        self._clock = clock
        self._outbox = Outbox()
        self._changed = asyncio.Event()

    def actions(self) -> Actions:
        return {("", "bypass"): self._begin, ("", "unbypass"): self._end}

    async def run(self, record: Report) -> None:
        """Work until cancelled. The journal is opened by the desk."""
        async with asyncio.TaskGroup() as tasks:
            self._outbox.open(record, tasks)
            await self._load()
            self._loaded = True
            self._recall()
            while True:
                self._changed.clear()
                for point in self._bypasses.due(self._clock()):
                    self._outbox.put(self._bypasses.end(point, why="time"))
                    await self._forget(point)
                deadline = self._bypasses.deadline()
                wait_s = None if deadline is None else deadline - self._clock().monotonic
                try:
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                except TimeoutError:
                    continue

    def reread(self) -> None:
        """Compare with the store, which can be read now; only the first time matters."""
        self._readable = True
        self._recall()

    def _recall(self) -> None:
        if self._loaded and self._readable and not self._recalled:
            self._recalled = True
            self._outbox.put(self._bypasses.recall(self._silenced()))

    async def _load(self) -> None:
        while True:
            try:
                kept = await self._journal.run(Journal.bypasses)
            except StoreError:
                await asyncio.sleep(RETRY_S)
                continue
            for bypass in self._bypasses.load(kept, self._clock()):
                self._outbox.put([self._bypasses.ended(bypass)])
                await self._forget(bypass.point)
            return

    async def _begin(self, _station: str, command: Command) -> Done:
        for_s = _number(command, "for_s", FOR_S_DEFAULT)
        bypass = self._bypasses.judge(
            command.target, for_s, by=command.issued_by, now=self._clock()
        )
        body = self._bypasses.packed(bypass)
        await self._journal.run(lambda journal: journal.keep_bypass(bypass.point, body))
        self._outbox.put([self._bypasses.begin(bypass)])
        self._changed.set()
        return Done(text=f"bypassed for {for_s:g} s", value=for_s)

    async def _end(self, _station: str, command: Command) -> Done:
        self._outbox.put(self._bypasses.end(command.target, why="command", by=command.issued_by))
        await self._journal.run(lambda journal: journal.keep_bypass(command.target, None))
        return Done(text="watched again")

    async def _forget(self, point: str) -> None:
        """Forget a bypass that is over; where the disk does not take it, it ends again next time."""
        try:
            await self._journal.run(lambda journal: journal.keep_bypass(point, None))
        except StoreError as error:
            structlog.get_logger().error("end of bypass not kept", point=point, error=str(error))


class ProgramActions:
    """`clock report`, `clock set`, `program log` and `program restart`."""

    def __init__(
        self,
        clock: Clock,
        *,
        log_tail: Callable[[], bytes],
        restart: Callable[[], None],
        set_wall: Callable[[float], None] = lambda wall_s: time.clock_settime(
            time.CLOCK_REALTIME, wall_s
        ),
    ) -> None:
        self._clock = clock
        self._log_tail = log_tail
        self._restart = restart
        self._set_wall = set_wall

    def actions(self) -> Actions:
        return {
            ("clock", "report"): self._report_clock,
            ("clock", "set"): self._step_clock,
            ("program", "log"): self._log,
            ("program", "restart"): self._begin_anew,
        }

    async def _report_clock(self, _station: str, command: Command) -> Done:
        now = self._clock()
        wall_s, error_s = self._station_time(command)
        if now.wall is None:
            return Done(text=f"the clock is {now.clock}: it was never set")
        offset_s = now.wall - wall_s
        text = (
            f"{rfc3339(round(now.wall * 1_000_000))}, {now.clock},"
            f" {offset_s:+.3f} s against the station (within {error_s:.3f} s)"
        )
        return Done(text=text, value=round(offset_s, 6))

    async def _step_clock(self, _station: str, command: Command) -> Done:
        now = self._clock()
        if now.clock is ClockQuality.SYNCHRONISED:
            raise UsageError(
                "the clock is steered by a time service: it is not set from afar",
                hint="correct the time service instead",
            )
        wall_s, error_s = self._station_time(command)
        try:
            self._set_wall(wall_s)
        except OSError as error:
            text = (
                f"the clock was not set: {error.strerror};"
                " the gateway's service needs CAP_SYS_TIME, or a time service of its own"
            )
            return Done(verdict=Verdict.FAILED, text=text)
        moved_s = None if now.wall is None else round(wall_s - now.wall, 6)
        return Done(text=f"set, within {error_s:.3f} s", value=moved_s)

    def _station_time(self, command: Command) -> tuple[float, float]:
        """Return the station's wall time now, and how wrong that may be: half the round trip."""
        sent_us = command.arguments.get("station_us")
        if type(sent_us) is not int:
            raise UsageError("the command does not say the station's time")
        round_trip_s = self._clock().monotonic - command.challenge.counter / 1000
        return sent_us / 1_000_000 + round_trip_s / 2, round_trip_s / 2

    async def _log(self, _station: str, _command: Command) -> Done:
        tail = self._log_tail()
        return Done(text=f"the last {len(tail)} bytes of the log", payload=pack_tail(tail))

    async def _begin_anew(self, _station: str, _command: Command) -> Done:
        loop = asyncio.get_running_loop()
        return Done(
            text="restarting", after=lambda: loop.call_later(RESTART_AFTER_S, self._restart)
        )


def _number(command: Command, name: str, default: float) -> float:
    value = command.arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{name} is a number of seconds")
    return float(value)
