"""The outputs of a running gateway: the engine says what each is to be, pins and buses are switched.

Whoever rules an output calls `set`, which lasts and is tried for as long as it takes, or `order`,
which waits for what came of it. An order that did not reach its output is taken back: nothing
switches on an hour late.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import structlog

from events.commands import Verdict
from events.errors import ConfigError, LinkLost, LocalProtocolError
from events.kinds import Subkind
from events.model import Scalar
from gateway.conditions import Conditions
from gateway.output_config import Output
from gateway.output_engine import OutputEngine
from gateway.sections import Configuration
from protocols.drivers.base import Clock, Driver, Report
from protocols.drivers.gpio_outbox import Outbox
from protocols.gpio.config import Gpio
from protocols.levels import Memory

LOOK_S = 1.0  # how often a way that was lost is noticed
FAULT_AFTER_S = 3.0  # a bus that is just being opened is no fault of its outputs
RETRY_S = 0.5
RETRY_MAX_S = 5.0
STOP_S = 1.0

Action = Literal["set", "clear", "pulse"]
DriverOf = Callable[[str], Driver | None]
Result = tuple[Verdict, str]


class Outputs:
    """Every configured output. `driver_of` returns the running driver of a bus."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        memory: Memory,
        clock: Clock,
        conditions: Conditions,
        driver_of: DriverOf,
    ) -> None:
        self._outputs = {each.id: each for each in configuration.output}
        self._units = {
            (bus.id, unit.id): unit.unit for bus in configuration.bus for unit in bus.unit
        }
        self._engine = OutputEngine(configuration.output, memory)
        self._clock = clock
        self._conditions = conditions
        self._driver_of = driver_of
        self._pins_config = configuration.gpio or Gpio()
        self._pins: Any = None
        self._outbox = Outbox()
        self._wake = {name: asyncio.Event() for name in self._outputs}
        self._driven: dict[str, bool] = {}
        self._orders: dict[str, asyncio.Future[Result]] = {}
        self._faults: dict[str, str] = {}
        self._failing_since: dict[str, float] = {}
        self._pulsing = asyncio.Event()
        self._log = structlog.get_logger()

    def __contains__(self, output: str) -> bool:
        return output in self._engine

    def set(self, output: str, on: bool, *, why: str = "program") -> None:
        """Rule an output from within; it is switched as soon as it can be, however long that takes.

        Setting what is set already does nothing. Raises `UsageError` for an unknown output.
        """
        if self._engine.level(output) == on and output not in self._orders:
            return
        self._engine.set(output, on=on, why={"why": why})
        self._supersede(output)
        self._wake[output].set()

    async def order(
        self, output: str, action: Action, *, duration_s: float, why: dict[str, Scalar]
    ) -> Result:
        """Do what a command asks, once; return what came of it and a sentence.

        Raises `UsageError` for what cannot be asked of this output.
        """
        engine = self._engine
        if action == "pulse":
            engine.pulse(output, duration_s, why=why)
        else:
            engine.set(output, on=action == "set", why=why)
        self._supersede(output)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._orders[output] = future
        self._wake[output].set()
        return await future

    async def run(self, record: Report) -> None:
        """Switch until cancelled; what was switched is recorded through `record`."""
        if not self._outputs:
            return
        async with asyncio.TaskGroup() as tasks:
            self._outbox.open(record, tasks)
            tasks.create_task(self._time())
            for output in self._outputs.values():
                tasks.create_task(self._follow(output))

    async def stop(self) -> None:
        """Bring every output to its fail-safe state, as far as that works within a second."""
        self._engine.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while True:
                    for name, wake in self._wake.items():
                        if self._driven.get(name) != self._engine.level(name):
                            wake.set()
                            break
                    else:
                        break
                    await asyncio.sleep(0.01)
                await self._outbox.close()

    def close(self) -> None:
        """Give the pins back."""
        if self._pins is not None:
            self._pins.close()

    def status(self) -> list[dict[str, Any]]:
        """Return what each output is, is to be, and why it is not."""
        return [
            {**each, "fault": self._faults.get(str(each["id"]), "")}
            for each in self._engine.status(self._clock())
        ]

    async def _time(self) -> None:
        """End pulses."""
        while True:
            self._pulsing.clear()
            now = self._clock()
            deadline = self._engine.deadline()
            if deadline is not None and deadline <= now.monotonic:
                self._engine.timeout(now)
                for wake in self._wake.values():
                    wake.set()
                continue
            wait_s = None if deadline is None else deadline - now.monotonic
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._pulsing.wait()

    async def _follow(self, output: Output) -> None:
        """Keep one output as it is to be."""
        name, wake = output.id, self._wake[output.id]
        retry_s = RETRY_S
        while True:
            wake.clear()
            if output.pin is not None and self._pins is not None and self._pins.lost:
                self._driven.pop(name, None)
            on = self._engine.level(name)
            if self._driven.get(name) != on or name in self._orders:
                if await self._switch(output, on=on):
                    retry_s = RETRY_S
                    continue
                wait_s, retry_s = retry_s, min(2 * retry_s, RETRY_MAX_S)
            else:
                wait_s = LOOK_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await wake.wait()

    async def _switch(self, output: Output, *, on: bool) -> bool:
        """Switch once, and settle the order that waits for it."""
        name = output.id
        waiting = self._orders.pop(name, None)
        verdict, text = await self._drive(output, high=on == output.active_high)
        done = verdict in {Verdict.APPLIED, Verdict.APPLIED_UNCONFIRMED}
        if done:
            self._driven[name] = on
            self._engine.driven(name, on=on, now=self._clock())
            self._outbox.put(self._engine.observations())
            self._pulsing.set()
        else:
            self._driven.pop(name, None)
            self._engine.lost(name)
            if waiting is not None and name not in self._orders:
                self._engine.release(name, why={"why": "order-failed"})
        self._tell(name, "" if done else text)
        if waiting is not None and not waiting.done():
            waiting.set_result((verdict, text))
        return done

    async def _drive(self, output: Output, *, high: bool) -> Result:
        try:
            if output.pin is None:
                return await self._write_coil(output, on=high)
            if self._pins is None:
                from protocols.drivers.output_pins import OutputPins  # noqa: PLC0415 - if used

                self._pins = OutputPins(self._pins_config)
            await self._pins.drive(output.pin, high=high)
        except (LinkLost, ConfigError, LocalProtocolError) as error:
            return Verdict.FAILED, f"{error}. {error.hint}" if error.hint else str(error)
        return Verdict.APPLIED, ""

    async def _write_coil(self, output: Output, *, on: bool) -> Result:
        driver: Any = self._driver_of(output.bus or "")
        if driver is None:
            return Verdict.FAILED, f"bus {output.bus} does not run"
        unit = self._units[output.bus or "", output.unit or ""]
        written = await driver.write_coil(unit, output.coil, on=on)
        where = f"coil {output.coil} of {output.bus}/{output.unit}"
        match written.verdict:
            case Verdict.FAILED:
                text = f"{where}: the unit refused with exception {written.exception}"
            case Verdict.EXPIRED:
                text = f"{where}: the bus was busy for too long, nothing was sent"
                return Verdict.FAILED, text
            case Verdict.OUTCOME_UNKNOWN:
                text = f"{where}: no answer; whether it was switched is unknown"
            case _:
                text = ""
        return written.verdict, text

    def _supersede(self, output: str) -> None:
        waiting = self._orders.pop(output, None)
        if waiting is not None and not waiting.done():
            waiting.set_result((Verdict.FAILED, "another order came before it was carried out"))

    def _tell(self, output: str, text: str) -> None:
        now_s = self._clock().monotonic
        since = self._failing_since.setdefault(output, now_s)
        if not text:
            del self._failing_since[output]
        self._faults[output] = text
        if text and now_s - since < FAULT_AFTER_S:
            return
        if self._conditions.set(
            output, Subkind.EQUIPMENT, "not-switched" if text else "", text=text, source=output
        ):
            say = self._log.warning if text else self._log.info
            say("output fails" if text else "output works", output=output, text=text)
