import asyncio
import time
from pathlib import Path

import pytest

from buffer import clock as clock_module
from buffer.clock import EARLIEST_BELIEVED_S, SystemClock
from events.calendar import parse_rfc3339
from events.model import ClockQuality, Instant


def test_monotonic_is_the_loops_clock() -> None:
    async def both() -> tuple[float, float, float]:
        loop = asyncio.get_running_loop()
        return loop.time(), SystemClock().now().monotonic, loop.time()

    before, now, after = asyncio.run(both())
    assert before <= now <= after


def test_wall_time_is_believed_from_2026_on() -> None:
    assert parse_rfc3339("2026-01-01T00:00:00Z") == EARLIEST_BELIEVED_S * 1_000_000


@pytest.mark.parametrize(
    ("wall", "believed"),
    [(0.0, False), (EARLIEST_BELIEVED_S - 0.001, False), (EARLIEST_BELIEVED_S + 0.0, True)],
)
def test_a_clock_of_the_past_gives_no_wall_time(
    monkeypatch: pytest.MonkeyPatch, wall: float, believed: bool
) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda _: wall)
    now = SystemClock().now()
    assert (now.wall == wall) if believed else (now.wall is None)
    assert (now.clock is ClockQuality.UNSET) is not believed


def test_quality_follows_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(state: int, status: int) -> object:
        def adjtimex(argument: object) -> int:
            argument._obj.status = status  # type: ignore[attr-defined] # what byref() refers to
            return state

        return adjtimex

    monkeypatch.setattr(time, "clock_gettime", lambda _: EARLIEST_BELIEVED_S + 1.0)
    cases = [(0, 0, "synchronised"), (5, 0x40, "free"), (0, 0x40, "free"), (-1, 0, "free")]
    for state, status, expected in cases:
        monkeypatch.setattr(
            clock_module, "_adjtimex", lambda state=state, status=status: kernel(state, status)
        )
        assert SystemClock().now().clock == expected
    monkeypatch.setattr(clock_module, "_adjtimex", lambda: None)
    assert SystemClock().now().clock == "free"


def test_the_kernel_call_answers_here() -> None:
    clock = SystemClock()
    assert clock._adjtimex is not None
    assert clock._ask_quality() in {ClockQuality.FREE, ClockQuality.SYNCHRONISED}


def test_boot_id_is_the_kernels() -> None:
    kernel = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert SystemClock().boot_id == kernel.replace("-", "")
    assert len(SystemClock().boot_id) == 32


def test_stamp_is_the_instant_in_microseconds() -> None:
    clock = SystemClock()
    stamp = clock.stamp(
        Instant(monotonic=12.3456785, wall=1_800_000_000.25, clock=ClockQuality.FREE)
    )
    assert (stamp.monotonic_us, stamp.wall_us) == (12_345_678, 1_800_000_000_250_000)
    assert (stamp.boot_id, stamp.clock) == (clock.boot_id, ClockQuality.FREE)
    assert clock.stamp(Instant(monotonic=1.0)).wall_us is None


def test_a_stations_word_stands_in_for_a_clock_that_is_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wall, monotonic = [0.0], [100.0]
    monkeypatch.setattr(time, "clock_gettime", lambda _: wall[0])
    monkeypatch.setattr(time, "monotonic", lambda: monotonic[0])
    clock = SystemClock()
    clock.learn(1.8e9, 6.0)  # it travelled for too long to say anything
    assert clock.now() == Instant(monotonic=100.0)
    clock.learn(1.8e9, 0.5)
    clock.learn(1.8e9 + 0.4, 0.6)
    assert clock.now() == Instant(monotonic=100.0, wall=1.8e9 + 100.0)
    assert clock.stamp(clock.now()).clock is ClockQuality.UNSET
    clock.learn(1.8e9 - 0.1, 0.2)
    assert clock.now().wall == 1.8e9 + 99.9
    monotonic[0] += 5000.0  # in which our crystal may have gone wrong by half a second
    clock.learn(1.8e9 + 0.3, 0.6)
    assert clock.now().wall == 1.8e9 + 5100.3
    wall[0] = EARLIEST_BELIEVED_S + 1.0
    assert clock.now().wall == wall[0]  # its own clock is always believed before any other
    assert clock.now().clock is not ClockQuality.UNSET
