"""gpiozero's own devices on a bench's pins."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from gpiozero import Button, DigitalInputDevice, DigitalOutputDevice, GPIOPinInUse
from gpiozero.exc import PinFixedPull, PinInvalidPull, PinSetInput, PinUnsupported

from protocols.drivers.bench_pins import BenchFactory, connect
from protocols.drivers.gpio_pins import Edge
from tests.protocols.drivers.bench import Bench

Scenario = Callable[[Bench, BenchFactory], Awaitable[None]]


def on_bench(folder: Path, scenario: Scenario, levels: dict[str, int] | None = None) -> None:
    async def run() -> None:
        async with Bench(folder / "pins", levels) as bench:
            factory = await connect(str(folder / "pins"))
            await bench.connected()
            try:
                await scenario(bench, factory)
            finally:
                factory.close()

    asyncio.run(cast("Any", run()))


def test_an_input_reads_the_bench_and_calls_back(tmp_path: Path) -> None:
    async def scenario(bench: Bench, factory: BenchFactory) -> None:
        contact = DigitalInputDevice(5, pull_up=True, pin_factory=factory)
        calls: list[str] = []
        contact.when_activated = lambda: calls.append("activated")
        contact.when_deactivated = lambda: calls.append("deactivated")
        assert (contact.value, contact.pin.info.name, contact.pull_up) == (1, "GPIO5", True)
        bench.move("GPIO5", 1)
        bench.move("GPIO5", 1)  # no edge
        bench.move("GPIO5", 0)
        await bench.settled()
        assert calls == ["deactivated", "activated"]
        contact.close()
        bench.move("GPIO5", 1)
        await bench.settled()
        assert len(calls) == 2

    on_bench(tmp_path, scenario, {"GPIO5": 0})


@pytest.mark.parametrize(("pull_up", "level"), [(True, 1), (False, 0), (None, 0)])
def test_a_line_that_nobody_drives_reads_its_pull(
    tmp_path: Path, pull_up: bool | None, level: int
) -> None:
    async def scenario(bench: Bench, factory: BenchFactory) -> None:
        state = True if pull_up is None else None
        contact = DigitalInputDevice(
            "ZONE-1", pull_up=pull_up, active_state=state, pin_factory=factory
        )
        assert contact.pin.state == level

    on_bench(tmp_path, scenario)


def test_an_output_is_told_to_the_bench_and_given_back_as_an_input(tmp_path: Path) -> None:
    async def scenario(bench: Bench, factory: BenchFactory) -> None:
        siren = DigitalOutputDevice("SIREN", active_high=False, pin_factory=factory)
        siren.on()
        assert siren.value == 1
        siren.off()
        siren.close()
        await bench.settled()
        told = [
            next((k, m[k]) for k in ("function", "out") if k in m)
            for m in bench.heard
            if m.get("pin") == "SIREN"
        ]
        assert told == [
            ("function", "output"),
            ("out", 1),
            ("out", 0),
            ("out", 1),
            ("function", "input"),
        ]

    on_bench(tmp_path, scenario)


def test_edges_bear_the_benchs_time_and_what_it_says_was_lost(tmp_path: Path) -> None:
    async def scenario(bench: Bench, factory: BenchFactory) -> None:
        contact = DigitalInputDevice(5, pull_up=True, pin_factory=factory)
        edges: list[Edge] = []
        contact.pin.listener = edges.append
        before = bench.move("GPIO5", 0)
        bench.move("GPIO5", 1, t=12.5, lost=3)
        bench.move("GPIO5", 1, lost=2)
        await bench.settled()
        assert [(edge.level, edge.lost) for edge in edges] == [(False, 0), (True, 3), (True, 2)]
        assert before <= edges[0].at_us / 1e6 <= time.monotonic()
        assert edges[1].at_us == 12_500_000

    on_bench(tmp_path, scenario)


def test_a_line_in_use_names_its_holder(tmp_path: Path) -> None:
    async def scenario(bench: Bench, factory: BenchFactory) -> None:
        first = DigitalInputDevice(5, pull_up=True, pin_factory=factory)
        with pytest.raises(GPIOPinInUse, match="GPIO5"):
            DigitalOutputDevice("GPIO5", pin_factory=factory)
        first.close()
        assert DigitalOutputDevice("GPIO5", pin_factory=factory).value == 0

    on_bench(tmp_path, scenario)


def test_what_the_bench_cannot_do_is_refused(tmp_path: Path) -> None:
    async def scenario(bench: Bench, factory: BenchFactory) -> None:
        with pytest.raises(PinUnsupported):
            Button(5, bounce_time=0.1, pin_factory=factory)
        contact = DigitalInputDevice(6, pull_up=True, pin_factory=factory)
        with pytest.raises(PinSetInput):
            contact.pin.state = 1
        with pytest.raises(PinInvalidPull):
            contact.pin.pull = "sideways"
        siren = DigitalOutputDevice(7, pin_factory=factory)
        with pytest.raises(PinFixedPull):
            siren.pin.pull = "up"

    on_bench(tmp_path, scenario)


def test_a_device_is_not_kept_alive_by_its_pin(tmp_path: Path) -> None:
    async def scenario(bench: Bench, factory: BenchFactory) -> None:
        contact = DigitalInputDevice(5, pull_up=True, pin_factory=factory)
        del contact
        gc.collect()
        DigitalOutputDevice(5, pin_factory=factory).close()
        bench.move("GPIO5", 0)
        await bench.settled()
        assert factory.lost is None

    on_bench(tmp_path, scenario)


def test_a_bench_that_goes_is_noticed_once(tmp_path: Path) -> None:
    async def scenario(bench: Bench, factory: BenchFactory) -> None:
        gone = asyncio.Event()
        calls: list[str] = []

        def on_lost() -> None:
            calls.append(str(factory.lost))
            gone.set()

        factory.on_lost = on_lost
        contact = DigitalInputDevice(5, pull_up=True, pin_factory=factory)
        await bench.hang_up()
        async with asyncio.timeout(5):
            await gone.wait()
        contact.close()
        factory.drain()
        assert len(calls) == 1
        assert calls[0].startswith("the bench ")  # closed, or reset with words unread

    on_bench(tmp_path, scenario)
