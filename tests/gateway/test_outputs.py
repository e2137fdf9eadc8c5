"""Outputs that are switched: pins of a bench, coils of units that answer, refuse or are silent."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from events.commands import Verdict
from events.errors import UsageError
from events.kinds import Kind, Subkind
from events.model import Instant, Observation, Scalar
from gateway.conditions import Conditions
from gateway.output_config import Output
from gateway.outputs import Outputs
from gateway.sections import Configuration, GatewaySection
from hil.parts.network import free_port
from protocols.drivers.base import Context
from protocols.drivers.modbus import ModbusDriver
from protocols.gpio.config import Gpio, GpioPoint
from protocols.modbus.sections import Bus, Unit
from protocols.modbus.simulated import Misbehaviour, SimulatedUnit
from tests.gateway.site import Site
from tests.protocols.drivers.bench import Bench
from tests.protocols.drivers.modbus_rig import Served, until
from tests.protocols.modbus.world import Remembered, contact

GATEWAY = GatewaySection(name="hall", data_dir="d", key_file="k", socket="s", bench=True)
WHY: dict[str, Scalar] = {"why": "command"}


def now() -> Instant:
    return Instant(monotonic=time.monotonic())


class World:
    """Outputs that run, what they recorded, and the drivers of their buses."""

    def __init__(self, outputs: Sequence[Output], **sections: Any) -> None:
        self.seen: list[Observation] = []
        self.drivers: dict[str, Any] = {}
        memory = Remembered()
        self.conditions = Conditions(memory=memory, clock=now)
        self.outputs = Outputs(
            Configuration(gateway=GATEWAY, output=tuple(outputs), **sections),
            memory=memory,
            clock=now,
            conditions=self.conditions,
            driver_of=self.drivers.get,
        )

    async def record(self, observations: Sequence[Observation]) -> None:
        self.seen += observations

    def switched(self, output: str) -> list[str]:
        return [o.qualifier for o in self.seen if (o.point, o.kind) == (output, Kind.OUTPUT)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self.outputs.run(self.record))
            try:
                yield
            finally:
                task.cancel()
        self.outputs.close()


def test_pins_are_switched_beside_the_inputs_of_the_same_bench(tmp_path: Path) -> None:
    from protocols.drivers.gpio import GpioDriver  # noqa: PLC0415 - this test alone

    async def scenario() -> None:
        pins = Gpio(
            factory="bench",
            bench_socket=str(tmp_path / "pins"),
            point=(GpioPoint(id="panic", line=5, contact="no", kind="alarm", qualify_ms=10),),
        )
        siren = Output(id="siren", pin=17)
        lock = Output(id="lock", pin="LOCK", active_high=False, fail_safe="on")
        world = World([siren, lock], gpio=pins)
        inputs = GpioDriver(pins, Context(clock=now, memory=Remembered()))
        async with Bench(tmp_path / "pins", {"GPIO5": 1}) as bench, asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(inputs.run(world.record))
            async with world.running():
                await until(lambda: len([m for m in bench.heard if "out" in m]) == 2)
                outs = [m for m in bench.heard if "out" in m]
                assert {(m["pin"], m["out"]) for m in outs} == {("GPIO17", 0), ("LOCK", 0)}
                ordered = await world.outputs.order("siren", "set", duration_s=0, why=WHY)
                assert ordered == (Verdict.APPLIED, "")
                assert (await bench.hears("out", 1))["pin"] == "GPIO17"
                bench.move("GPIO5", 0)
                await until(lambda: any(o.point == "panic" for o in world.seen))
                assert len([m for m in bench.heard if "hello" in m]) == 1  # one connection
                watching.cancel()
            await until(lambda: world.switched("siren") == ["restore", "new"])

    asyncio.run(scenario())


def test_a_bench_that_comes_back_finds_its_outputs_as_they_are_to_be(tmp_path: Path) -> None:
    async def scenario() -> None:
        pins = Gpio(factory="bench", bench_socket=str(tmp_path / "pins"))
        world = World([Output(id="siren", pin=17)], gpio=pins)
        async with Bench(tmp_path / "pins") as bench, world.running():
            await bench.hears("out", 0)
            world.outputs.set("siren", True)
            await bench.hears("out", 1)
            await bench.hang_up()
            bench.heard.clear()
            await bench.hears("out", 1)
            assert world.switched("siren") == ["restore", "new"]

    asyncio.run(scenario())


def test_a_pulse_lasts_as_long_as_it_was_ordered(tmp_path: Path) -> None:
    async def scenario() -> None:
        pins = Gpio(factory="bench", bench_socket=str(tmp_path / "pins"))
        world = World([Output(id="siren", pin=17, pulse_max_s=1.0)], gpio=pins)
        async with Bench(tmp_path / "pins") as bench, world.running():
            await bench.hears("out", 0)
            bench.heard.clear()
            with pytest.raises(UsageError, match="up to 1 s"):
                await world.outputs.order("siren", "pulse", duration_s=2.0, why=WHY)
            await world.outputs.order("siren", "pulse", duration_s=0.3, why=WHY)
            rise = (await bench.hears("out", 1))["t"]
            fall = (await bench.hears("out", 0))["t"]
            assert 0.3 <= fall - rise < 1.0

    asyncio.run(scenario())


Scenario = Callable[[World, SimulatedUnit, ModbusDriver], Awaitable[None]]


def on_bus(scenario: Scenario, *, period_s: float = 0.05, up: bool = True) -> None:
    async def run() -> None:
        unit = SimulatedUnit(unit=7, coils=[False] * 8, discrete_inputs=[False] * 4)
        port = free_port()
        bus = Bus(
            id="pumps",
            driver="modbus-tcp",
            address=f"127.0.0.1:{port}",
            timeout_ms=200,
            unit=(
                Unit(
                    id="cellar",
                    unit=7,
                    period_s=period_s,
                    point=(contact("di", table="discrete", address=0),),
                ),
            ),
        )
        pump = Output(id="pump", bus="pumps", unit="cellar", coil=3)
        world = World([pump], bus=(bus,))
        driver = ModbusDriver(bus, Context(clock=now, memory=Remembered()))
        far = Served([unit])
        async with far.tcp(port), asyncio.TaskGroup() as tasks:
            line = tasks.create_task(driver.run(world.record))
            if up:
                world.drivers["pumps"] = driver
            await until(lambda: driver.health().up)
            async with world.running():
                await scenario(world, unit, driver)
            line.cancel()

    asyncio.run(run())


def test_a_coil_is_switched_at_once_though_the_bus_has_nothing_to_read() -> None:
    async def scenario(world: World, unit: SimulatedUnit, driver: ModbusDriver) -> None:
        await until(lambda: world.switched("pump") == ["restore"])
        before = time.monotonic()
        verdict, _ = await world.outputs.order("pump", "set", duration_s=0, why=WHY)
        assert (verdict, unit.coils[3]) == (Verdict.APPLIED, True)
        assert time.monotonic() - before < 5.0  # a reading is due once a minute
        await until(lambda: world.switched("pump") == ["restore", "new"])

    on_bus(scenario, period_s=60.0)


def test_an_order_that_nobody_answered_is_unknown_and_taken_back() -> None:
    async def scenario(world: World, unit: SimulatedUnit, driver: ModbusDriver) -> None:
        await until(lambda: world.switched("pump") == ["restore"])
        unit.misbehaviour = Misbehaviour.SILENT
        verdict, text = await world.outputs.order("pump", "set", duration_s=0, why=WHY)
        assert verdict is Verdict.OUTCOME_UNKNOWN
        assert "pumps/cellar" in text
        unit.misbehaviour = None
        await until(lambda: not world.outputs.status()[0]["fault"])
        assert unit.coils[3] is False
        assert world.switched("pump") == ["restore"]

    on_bus(scenario)


def test_what_the_program_itself_wants_is_tried_until_it_is_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.outputs.FAULT_AFTER_S", 0.5)

    async def scenario(world: World, unit: SimulatedUnit, driver: ModbusDriver) -> None:
        await until(lambda: world.switched("pump") == ["restore"])
        unit.misbehaviour = Misbehaviour.SILENT
        world.outputs.set("pump", True)
        await until(lambda: world.conditions.active("pump", Subkind.EQUIPMENT), 20)
        unit.misbehaviour = None
        await until(lambda: unit.coils[3] is True, 20)
        await until(lambda: not world.conditions.active("pump", Subkind.EQUIPMENT))

    on_bus(scenario)


def test_a_unit_that_refuses_says_so() -> None:
    async def scenario(world: World, unit: SimulatedUnit, driver: ModbusDriver) -> None:
        unit.coils.clear()
        unit.coils.extend([False] * 3)  # coil 3 is gone
        verdict, text = await world.outputs.order("pump", "set", duration_s=0, why=WHY)
        assert (verdict, "exception 2" in text) == (Verdict.FAILED, True)

    on_bus(scenario)


def test_a_bus_that_does_not_run_fails_the_order() -> None:
    async def scenario(world: World, unit: SimulatedUnit, driver: ModbusDriver) -> None:
        verdict, text = await world.outputs.order("pump", "set", duration_s=0, why=WHY)
        assert (verdict, text) == (Verdict.FAILED, "bus pumps does not run")
        assert world.outputs.status()[0]["wanted"] is False

    on_bus(scenario, up=False)


def test_a_newer_order_ends_the_one_that_waits() -> None:
    async def scenario(world: World, unit: SimulatedUnit, driver: ModbusDriver) -> None:
        await until(lambda: world.switched("pump") == ["restore"])
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(world.outputs.order("pump", "set", duration_s=0, why=WHY))
            second = tasks.create_task(world.outputs.order("pump", "clear", duration_s=0, why=WHY))
        assert first.result()[0] is Verdict.FAILED
        assert second.result() == (Verdict.APPLIED, "")
        assert unit.coils[3] is False

    on_bus(scenario)


OUTPUTS = """
[[output]]
id = "lobby/lock"
pin = 17
fail_safe = "on"
[[output]]
id = "lobby/siren"
pin = 18
"""


def test_the_program_rests_its_outputs_at_start_at_stop_and_after_a_kill(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Site(tmp_path, more=OUTPUTS) as site:
            pins: dict[str, list[bool]] = {}
            site.pins.journal.listen(
                lambda entry: (
                    pins.setdefault(entry.point, []).append(entry.on is True)
                    if entry.event == "output"
                    else None
                )
            )
            await site.start()
            await site.until(lambda: pins == {"GPIO17": [True], "GPIO18": [False]})
            status = await site.status()
            assert [(o["id"], o["on"]) for o in status["outputs"]] == [
                ("lobby/lock", True),
                ("lobby/siren", False),
            ]
            await site.stop(signal.SIGKILL)
            await site.start()
            await site.until(lambda: pins == {"GPIO17": [True] * 2, "GPIO18": [False] * 2})
            told = [
                (e["point"], e["qualifier"]) for e in await site.events() if e["kind"] == "output"
            ]
            assert told == [("lobby/lock", "new"), ("lobby/siren", "restore")]
            assert await site.stop() == 0

    asyncio.run(scenario())
