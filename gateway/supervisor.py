"""One supervisor around each driver: restart, back-off, staleness, counters, and the line's faults.

A driver that raises `LinkError` has lost its line: `fault`/`line`, once, until the line is up
again. A driver that raises anything else is broken: `fault`/`driver`, once per distinct failure.
Either way it is started again, and no other line notices.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from events.errors import LinkError, NplusError, StoreError
from events.kinds import Subkind
from events.model import Observation
from gateway.conditions import Conditions
from gateway.recollection import Recollection
from protocols.drivers.base import Clock, Context, Driver, Health, Report
from protocols.levels import Memory

Build = Callable[[Context], Driver]

BACK_OFF_MIN_S = 1.0
BACK_OFF_MAX_S = 5.0
STABLE_S = 30.0  # a run that lasted this long starts the back-off anew, and ends a driver's fault
STALE_S = 10.0  # a driver that runs this long without its line being up has lost it unsaid
LOOK_S = 0.25
LOOK_WHILE_DOWN_S = 0.05

LOST = "lost"


class _CompareAgain(Exception):  # noqa: N818 - no error: the driver is to be built anew
    """Levels are compared with the last stored ones when a driver starts."""


class Supervisor:
    """Runs one driver until cancelled. `build` makes it, at first and after each of its failures."""

    def __init__(
        self, line: str, build: Build, *, conditions: Conditions, memory: Memory, clock: Clock
    ) -> None:
        self.id = line
        self._build = build
        self._conditions = conditions
        self._recollection = Recollection(memory)
        self._again = asyncio.Event()
        self._context = Context(clock=clock, memory=self._recollection)
        self._clock = clock
        self._log = structlog.get_logger().bind(line=line)
        self._driver: Driver | None = None
        self._health = Health(up=False)
        self._running_since: float | None = None
        self._watched = False
        self._starts = 0
        self._lost = 0
        self._failed = 0
        self._observations = 0
        self._refused = 0
        self._last_error = ""

    @property
    def driver(self) -> Driver | None:
        """Return the driver, while there is one."""
        return self._driver

    async def run(self, record: Report) -> None:
        """Keep the driver running; give what it reports to `record`."""

        async def report(observations: Sequence[Observation]) -> None:
            try:
                await record(observations)
            except StoreError:
                self._refused += len(observations)
                raise
            self._observations += len(observations)
            self._watched = True

        back_off_s = BACK_OFF_MIN_S
        while True:
            started = self._clock().monotonic
            await self._run_once(report)
            if self._clock().monotonic - started >= STABLE_S:
                back_off_s = BACK_OFF_MIN_S
            await asyncio.sleep(back_off_s)
            back_off_s = min(2 * back_off_s, BACK_OFF_MAX_S)

    def compare_again(self) -> None:
        """Build the driver anew: what it was built with knew nothing of the last stored levels."""
        self._again.set()

    def status(self) -> dict[str, Any]:
        """Return the line's state, the driver's own account of it, and the counters."""
        return {
            "id": self.id,
            "up": self._running_since is not None and self._health.up,
            "last_error": self._last_error,
            "starts": self._starts,
            "lost": self._lost,
            "failed": self._failed,
            "observations": self._observations,
            "refused": self._refused,
            "counters": self._health.counters,
            "details": self._health.details,
            "units": [{"id": unit, **facts} for unit, facts in self._health.units.items()],
        }

    async def _run_once(self, report: Report) -> None:
        self._starts += 1
        self._watched = False
        self._health = replace(self._health, up=False)
        self._running_since = self._clock().monotonic
        try:
            if self._driver is None:
                self._driver = self._build(self._context)
            await self._run_watched(self._driver, report)
            self._note_failure("it ended by itself")
        # The one place where every error is caught: a defect in one driver must not silence the
        # other lines. It becomes a stored event, a log line and a restart.
        except Exception as error:  # noqa: BLE001 - the reason stands above
            self._judge(error)
        finally:
            self._running_since = None
            if self._watched:
                self._recollection.ended(self.id, self._clock())

    async def _run_watched(self, driver: Driver, report: Report) -> None:
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._watch(driver)),
                group.create_task(self._end_to_compare()),
            ]
            try:
                await driver.run(report)
            finally:
                for task in beside:
                    task.cancel()
        own = asyncio.current_task()
        if own is not None and own.cancelling():
            raise asyncio.CancelledError  # a driver that swallows it must not outlive us

    async def _end_to_compare(self) -> None:
        await self._again.wait()
        self._again.clear()
        raise _CompareAgain

    def _judge(self, error: Exception) -> None:
        causes = _leaves(error)
        if any(isinstance(cause, _CompareAgain) for cause in causes):
            self._driver = None
            return
        defects = [cause for cause in causes if not isinstance(cause, (LinkError, StoreError))]
        if defects:
            self._note_failure(f"{type(defects[0]).__name__}: {defects[0]}", defects[0])
            return
        lost = [cause for cause in causes if isinstance(cause, LinkError)]
        self._last_error = str((lost or causes)[0])
        if lost:
            self._note_loss(self._last_error)

    def _note_failure(self, text: str, defect: Exception | None = None) -> None:
        self._failed += 1
        self._last_error = text
        self._driver = None
        if self._conditions.set(
            self.id, Subkind.DRIVER, text, text=f"driver failed: {text}", source=self.id
        ):
            self._log.error(
                "driver failed",
                error=text,
                exc_info=None if isinstance(defect, NplusError) else defect,
            )

    def _note_loss(self, text: str) -> None:
        self._lost += 1
        if self._conditions.set(self.id, Subkind.LINE, LOST, text=text, source=self.id):
            self._log.warning("line lost", error=text)

    async def _watch(self, driver: Driver) -> None:
        """While the driver runs: end the faults that are over, and find a line that stays down."""
        down_since: float | None = self._clock().monotonic
        while True:
            await asyncio.sleep(LOOK_S if self._health.up else LOOK_WHILE_DOWN_S)
            now = self._clock().monotonic
            self._health = driver.health()
            if self._health.up:
                down_since = None
                self._note_up(now)
            elif down_since is None:
                down_since = now
            elif now - down_since >= STALE_S:
                self._note_stale()

    def _note_up(self, now: float) -> None:
        self._watched = True
        if self._conditions.set(self.id, Subkind.LINE, "", source=self.id):
            self._log.info("line up")
        settled = self._running_since is not None and now - self._running_since >= STABLE_S
        if settled and self._conditions.set(self.id, Subkind.DRIVER, "", source=self.id):
            self._log.info("driver runs again")

    def _note_stale(self) -> None:
        if not self._conditions.active(self.id, Subkind.LINE):
            held_back = self._health.details.get("not_polling")
            if held_back:
                self._note_loss(f"not polled for {STALE_S:g} s: {held_back}")
            else:
                self._note_loss(f"no answer on the line for {STALE_S:g} s")


def _leaves(error: Exception) -> list[Exception]:
    """Return the errors in a (nested) group, or the error itself."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
