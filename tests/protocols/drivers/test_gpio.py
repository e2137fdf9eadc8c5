"""The contact driver on a bench's pins over a real socket, and on gpiozero's own pins."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from gpiozero.pins.mock import MockPin

from events.errors import ConfigError, LinkLost, StoreFull, StoreReadOnly
from events.model import POSSIBLE_REPEAT, Instant, Observation, condition
from protocols.drivers.base import Context
from protocols.drivers.gpio import GpioDriver
from protocols.drivers.gpio_outbox import WAITING_MAX, Outbox
from protocols.gpio.config import Gpio
from tests.protocols.drivers.bench import Bench
from tests.protocols.gpio.memory import Remembered

PANIC = {
    "id": "panic",
    "line": 5,
    "contact": "no",
    "kind": "alarm",
    "subkind": "panic",
    "qualify_ms": 50,
    "restore_ms": 50,
}
DOOR = {**PANIC, "id": "door", "line": "ZONE-1", "contact": "nc", "subkind": "burglary"}


class Store:
    """Takes reports; refuses them while `broken`, keeps them waiting while `slow`."""

    def __init__(self) -> None:
        self.stored: list[Observation] = []
        self.at: list[float] = []
        self.broken = False
        self.slow: Callable[[Observation], bool] = lambda _: False
        self.released = asyncio.Event()
        self.refused = asyncio.Event()
        self._changed = asyncio.Event()

    async def report(self, observations: Sequence[Observation]) -> None:
        if any(self.slow(seen) for seen in observations):
            await self.released.wait()
        if self.broken:
            self.refused.set()
            raise StoreReadOnly("no writes")
        self.stored.extend(observations)
        self.at.extend(time.monotonic() for _ in observations)
        self._changed.set()

    def of(self, point: str, kind: str = "alarm") -> list[Observation]:
        return [seen for seen in self.stored if (seen.point, seen.kind) == (point, kind)]

    async def holds(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not wanted():
                self._changed.clear()
                await self._changed.wait()


class Rig:
    """A bench, a store and a driver that runs."""

    def __init__(self, bench: Bench, driver: GpioDriver, store: Store) -> None:
        self.bench = bench
        self.driver = driver
        self.store = store

    async def watching(self, *points: str) -> None:
        await self.store.holds(
            lambda: all(self.store.of(point, "information") for point in points)
        )


def gpio(path: Path, *points: dict[str, Any], **section: Any) -> Gpio:
    base = {"factory": "bench", "bench": True, "bench_socket": str(path), "point": points}
    return msgspec.convert({**base, **section}, Gpio)


def context(*past: Observation) -> Context:
    return Context(clock=lambda: Instant(monotonic=time.monotonic()), memory=Remembered(*past))


@asynccontextmanager
async def rig(
    folder: Path,
    *points: dict[str, Any],
    levels: dict[str, int] | None = None,
    past: Sequence[Observation] = (),
) -> Any:
    path = folder / "pins"
    store = Store()
    driver = GpioDriver(gpio(path, *points), context(*past))
    async with Bench(path, levels) as bench, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(driver.run(store.report))
        made = Rig(bench, driver, store)
        await made.watching(*(point["id"] for point in points))
        yield made
        running.cancel()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(cast("Any", scenario()))


def test_a_press_is_reported_after_it_has_held_with_the_time_of_its_first_edge(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, PANIC, DOOR, levels={"GPIO5": 1, "ZONE-1": 0}) as made:
            before = made.bench.move("GPIO5", 0)
            await made.store.holds(lambda: made.store.of("panic"))
            (pressed,) = made.store.of("panic")
            assert before <= pressed.edge_us / 1e6
            assert made.store.at[-1] >= pressed.edge_us / 1e6 + 0.05
            made.bench.move("GPIO5", 1)
            await made.store.holds(lambda: len(made.store.of("panic")) == 2)
            assert [seen.qualifier for seen in made.store.of("panic")] == ["new", "restore"]
            made.bench.move("ZONE-1", 1)
            await made.store.holds(lambda: made.store.of("door"))
            assert made.store.of("door")[0].native.code == "open"
            health = made.driver.health()
            assert health.up
            assert health.counters["edges"] == 3
            assert health.counters["lost_edges"] == 0
            assert health.units["door"]["active"] is True

    run(scenario)


def test_the_bench_hears_how_its_lines_are_used(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, PANIC, {**DOOR, "pull": "external"}) as made:
            await made.bench.settled()
            told = [
                (m["pin"], m.get("function"), m.get("pull"))
                for m in made.bench.heard
                if "pin" in m
            ]
            assert ("GPIO5", "input", None) in told
            assert [pull for pin, _, pull in told if pin == "GPIO5" and pull][-1] == "up"
            assert [pull for pin, _, pull in told if pin == "ZONE-1" and pull][-1] == "floating"
            assert all(message["t"] <= time.monotonic() for message in made.bench.heard)

    run(scenario)


def test_pulses_too_short_and_hum_report_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, PANIC) as made:
            await asyncio.sleep(0.7)
            now = time.monotonic()
            for half_wave in range(60):
                made.bench.move("GPIO5", half_wave % 2, t=now - 0.65 + half_wave / 100)
            made.bench.move("GPIO5", 0, t=now)
            made.bench.move("GPIO5", 1, t=now + 0.049)
            await made.bench.settled()
            await asyncio.sleep(0.2)
            assert made.store.of("panic") == []
            assert made.driver.health().counters["edges"] == 62

    run(scenario)


def test_a_pulse_that_held_reports_even_when_it_is_heard_of_too_late(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, PANIC) as made:
            await asyncio.sleep(0.5)
            now = time.monotonic()
            made.bench.move("GPIO5", 0, t=now - 0.4)
            made.bench.move("GPIO5", 1, t=now - 0.3)
            await made.store.holds(lambda: len(made.store.of("panic")) == 2)
            assert [seen.qualifier for seen in made.store.of("panic")] == ["new", "restore"]
            assert made.store.of("panic")[0].edge_us == pytest.approx((now - 0.4) * 1e6, abs=2)

    run(scenario)


def test_a_level_changed_while_nobody_watched_is_an_event_at_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        pressed = Observation(point="panic", kind="alarm", subkind="panic")
        async with rig(
            tmp_path, PANIC, DOOR, levels={"GPIO5": 1, "ZONE-1": 1}, past=[pressed]
        ) as made:
            await made.store.holds(lambda: made.store.of("panic") and made.store.of("door"))
            assert [seen.qualifier for seen in made.store.of("panic")] == ["restore"]
            assert [seen.qualifier for seen in made.store.of("door")] == ["new"]
            assert made.store.of("door")[0].flags == ("initial",)
            (unwatched,) = made.store.of("panic", "information")
            assert unwatched.details["from_boot_id"] == "boot-1"

    run(scenario)


def test_equal_levels_at_start_store_nothing_but_the_unwatched_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        pressed = Observation(point="panic", kind="alarm", subkind="panic")
        async with rig(tmp_path, PANIC, levels={"GPIO5": 0}, past=[pressed]) as made:
            await asyncio.sleep(0.2)
            assert [seen.subkind for seen in made.store.stored] == ["unwatched"]

    run(scenario)


def test_lost_edges_are_told_and_the_level_still_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, PANIC) as made:
            made.bench.move("GPIO5", 0, lost=4)
            await made.store.holds(lambda: made.store.of("panic"))
            (fault,) = made.store.of("panic", "fault")
            assert (fault.subkind, fault.qualifier) == ("lost-edge", "new")
            assert fault.details == {"lost_edges": 4, "gaps": 1}
            assert made.driver.health().counters["gaps"] == 1

    run(scenario)


def test_a_bench_that_goes_away_loses_the_link_and_the_next_run_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "pins"
        store = Store()
        driver = GpioDriver(gpio(path, PANIC), context())
        with pytest.raises(LinkLost, match="no bench says hello"):
            await driver.run(store.report)
        async with Bench(path, {"GPIO5": 1}) as bench:
            async with asyncio.TaskGroup() as tasks:
                lost = tasks.create_task(_lose(driver, store))
                await store.holds(lambda: bool(store.of("panic", "information")))
                bench.move("GPIO5", 0)
                await bench.settled()
                await bench.hang_up()
            assert lost.result().startswith("the bench ")
            assert not driver.health().up
            bench.heard.clear()
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(driver.run(store.report))
                await store.holds(lambda: bool(store.of("panic")))
                running.cancel()
        (pressed,) = store.of("panic")
        assert pressed.flags == ("initial",)  # the run that the loss broke is not believed
        assert len(store.of("panic", "information")) == 1

    run(scenario)


async def _lose(driver: GpioDriver, store: Store) -> str:
    with pytest.raises(LinkLost) as caught:
        await driver.run(store.report)
    return str(caught.value)


@pytest.mark.parametrize(
    "garbage", [b"\xff\xfe\n", b"[1, 2]\n", b'{"pin": 5}\n', b"x" * 70_000], ids=repr
)
def test_what_is_no_message_loses_the_link_and_raises_nothing_else(
    tmp_path: Path, garbage: bytes
) -> None:
    async def scenario() -> None:
        path = tmp_path / "pins"
        store = Store()
        driver = GpioDriver(gpio(path, PANIC), context())
        async with Bench(path) as bench, asyncio.TaskGroup() as tasks:
            lost = tasks.create_task(_lose(driver, store))
            await bench.connected()
            bench.write(garbage)
        assert "the bench sent" in lost.result()

    run(scenario)


def test_a_bench_that_names_lines_without_end_is_not_listened_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "pins"
        driver = GpioDriver(gpio(path, PANIC), context())
        async with Bench(path) as bench, asyncio.TaskGroup() as tasks:
            lost = tasks.create_task(_lose(driver, Store()))
            await bench.connected()
            for number in range(1100):
                bench.say({"pin": f"LINE-{number}", "level": 1})
        assert "more than 1024 lines" in lost.result()

    run(scenario)


def test_no_socket_is_a_fault_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIL_GPIO", raising=False)
    config = msgspec.convert({"factory": "hil", "bench": True, "point": [PANIC]}, Gpio)
    with pytest.raises(ConfigError, match="no bench socket"):
        asyncio.run(GpioDriver(config, context()).run(Store().report))


def test_the_socket_may_be_named_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HIL_GPIO", str(tmp_path / "nobody"))
    config = msgspec.convert({"factory": "hil", "bench": True, "point": [PANIC]}, Gpio)
    with pytest.raises(LinkLost, match="nobody"):
        asyncio.run(GpioDriver(config, context()).run(Store().report))


def test_a_store_that_refuses_is_asked_again_and_the_order_kept(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, PANIC) as made:
            made.store.broken = True
            await asyncio.sleep(0.5)
            now = time.monotonic()
            for index in range(4):
                made.bench.move("GPIO5", index % 2, t=now - 0.4 + index / 10)
            await made.bench.settled()
            await asyncio.sleep(0.2)
            assert made.store.of("panic") == []
            made.store.broken = False
            await made.store.holds(lambda: len(made.store.of("panic")) == 4)
            assert [seen.qualifier for seen in made.store.of("panic")] == ["new", "restore"] * 2
            assert made.driver.health().counters["store_retries"] >= 1

    run(scenario)


def test_a_report_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with rig(tmp_path, PANIC, DOOR, levels={"ZONE-1": 0}) as made:
            made.store.slow = lambda seen: seen.point == "door"
            made.bench.move("ZONE-1", 1)
            await asyncio.sleep(0.15)
            made.bench.move("GPIO5", 0)
            await made.store.holds(lambda: made.store.of("panic"))
            assert made.store.of("door") == []
            made.store.released.set()
            await made.store.holds(lambda: made.store.of("door"))

    run(scenario)


def test_the_outbox_is_bounded_and_ends_in_the_true_state() -> None:
    async def scenario() -> None:
        store = Store()
        store.broken = True
        outbox = Outbox()
        async with asyncio.TaskGroup() as tasks:
            outbox.open(store.report, tasks)
            for number in range(WAITING_MAX * 3 + 1):
                outbox.put(
                    [
                        Observation(
                            point="p",
                            kind="alarm",
                            qualifier="restore" if number % 2 else "new",
                            value=number,
                        )
                    ]
                )
            assert outbox.dropped == 2 * WAITING_MAX + 2
            store.broken = False
        values = [cast("int", seen.value) for seen in store.stored]
        assert values == sorted(values)
        assert values[-1] == WAITING_MAX * 3
        assert [seen.qualifier for seen in store.stored[:2]] == ["new", "restore"]
        assert len({condition(seen) for seen in store.stored}) == 1

    run(scenario)


def _changes(numbers: range) -> list[Observation]:
    """Return changes of one contact, each with its number for a value, 100 ms apart."""
    return [
        Observation(
            point="p",
            kind="alarm",
            qualifier="restore" if number % 2 else "new",
            value=number,
            edge_us=number * 100_000,
            details={"kept": True},
        )
        for number in numbers
    ]


def _accounted(seen: Observation) -> list[int]:
    """Return the numbers of the changes that an observation says were dropped before it."""
    if "unrecorded_changes" not in seen.details:
        return []
    first, last = (
        cast("int", seen.details[f"unrecorded_{name}_us"]) // 100_000 for name in ("from", "to")
    )
    numbers = list(range(first, last + 1))
    assert seen.details["unrecorded_changes"] == len(numbers)
    return numbers


def test_every_change_is_stored_or_accounted_for_in_the_one_after_it() -> None:
    async def scenario() -> None:
        store = Store()
        store.slow = lambda _: True
        outbox = Outbox()
        async with asyncio.TaskGroup() as tasks:
            outbox.open(store.report, tasks)
            outbox.put(_changes(range(10)))
            await asyncio.sleep(0)  # these are on their way while the others come
            outbox.put(_changes(range(10, WAITING_MAX * 2)))
            store.broken = True
            store.released.set()
            await store.refused.wait()
            outbox.put(_changes(range(WAITING_MAX * 2, WAITING_MAX * 3 + 1)))
            store.broken = False
        told = [
            number
            for seen in store.stored
            for number in (*_accounted(seen), cast("int", seen.value))
        ]
        assert told == list(range(WAITING_MAX * 3 + 1))
        assert len(told) - len(store.stored) == outbox.dropped > WAITING_MAX
        assert all(seen.details["kept"] for seen in store.stored)

    run(scenario)


def test_what_was_dropped_without_an_edge_is_counted() -> None:
    async def scenario() -> None:
        store = Store()
        outbox = Outbox()
        for _ in range(WAITING_MAX + 2):
            outbox.put([Observation(point="p", kind="fault", subkind="line")])
        async with asyncio.TaskGroup() as tasks:
            outbox.open(store.report, tasks)
        assert store.stored[0].details == {"unrecorded_changes": 2}
        assert all(seen.details == {} for seen in store.stored[1:])

    run(scenario)


def test_what_was_on_its_way_when_the_line_ended_is_marked_and_what_was_refused_is_not() -> None:
    async def scenario() -> None:
        outbox = Outbox()
        asked: list[str] = []

        async def never_told(observations: Sequence[Observation]) -> None:
            asked.extend(seen.point for seen in observations)
            if observations[0].point == "refused":
                raise StoreFull("full")
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as tasks:
            outbox.open(never_told, tasks)
            for point in ("cut", "refused"):
                outbox.put([Observation(point=point, kind="alarm")])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await outbox.close()
        assert asked[:2] == ["cut", "refused"]
        store = Store()
        async with asyncio.TaskGroup() as tasks:
            outbox.open(store.report, tasks)
        assert {seen.point: seen.flags for seen in store.stored} == {
            "cut": (POSSIBLE_REPEAT,),
            "refused": (),
        }

    run(scenario)


def test_gpiozeros_own_pins_call_from_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = Store()
        config = msgspec.convert({"factory": "mock", "point": [PANIC]}, Gpio)
        driver = GpioDriver(config, context())
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(driver.run(store.report))
            await store.holds(lambda: bool(store.of("panic", "information")))
            pin = driver._factory.pin(5)  # the mock's hand on the line
            assert isinstance(pin, MockPin)
            thread = threading.Thread(target=pin.drive_low)
            before = time.monotonic()
            thread.start()
            await store.holds(lambda: bool(store.of("panic")))
            thread.join()
            (pressed,) = store.of("panic")
            assert pressed.edge_us is not None
            assert before <= pressed.edge_us / 1e6 <= time.monotonic() - 0.05
            pin.drive_high()
            await store.holds(lambda: len(store.of("panic")) == 2)
            running.cancel()
        assert [seen.qualifier for seen in store.of("panic")] == ["new", "restore"]

    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    run(scenario)


@pytest.mark.parametrize("factory", ["native", "lgpio", "rpigpio"])
def test_a_factory_that_does_not_work_here_says_so(factory: str) -> None:
    config = msgspec.convert({"factory": factory, "point": [PANIC]}, Gpio)
    with pytest.raises((ConfigError, LinkLost), match=factory) as caught:
        asyncio.run(GpioDriver(config, context()).run(Store().report))
    assert "libgpiod" in caught.value.hint
