"""What clock, log and restart do, and what they refuse."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from events.commands import Challenge, Command, Verdict
from events.errors import UsageError
from events.model import ClockQuality, Instant
from gateway.command_actions import ProgramActions
from gateway.command_desk import Done
from sync.payload import unpack

STATION_US = 1_800_000_000_000_000


class Machine:
    """A machine whose clock is `ahead_s` ahead of the station's; None: it was never set."""

    def __init__(self, ahead_s: float | None, quality: ClockQuality) -> None:
        self.wall = None if ahead_s is None else 1_800_000_000.0 + ahead_s
        self.quality = quality
        self.was_set: list[float] = []
        self.restarts = 0
        self.denied = False

    def clock(self) -> Instant:
        return Instant(monotonic=100.4, wall=self.wall, clock=self.quality)

    def set_wall(self, wall_s: float) -> None:
        if self.denied:
            raise PermissionError(1, "Operation not permitted")
        self.was_set.append(wall_s)

    def restart(self) -> None:
        self.restarts += 1

    async def do(self, target: str, action: str, **arguments: Any) -> Done:
        actions = ProgramActions(
            self.clock,
            log_tail=lambda: b"line\n" * 100_000,
            restart=self.restart,
            set_wall=self.set_wall,
        ).actions()
        command = Command(
            id="c",
            challenge=Challenge(boot_id="b", counter=100_000),  # 0.4 s ago
            expires_s=30.0,
            target=target,
            action=action,
            arguments=arguments,
            issued_by="wang",
        )
        done = await actions[target, action]("east", command)
        assert done is not None
        return done


def run(work: Coroutine[Any, Any, Done]) -> Done:
    return asyncio.run(work)


def test_the_offset_counts_from_the_middle_of_the_round_trip() -> None:
    done = run(Machine(2.0, ClockQuality.FREE).do("clock", "report", station_us=STATION_US))
    assert done.value == pytest.approx(2.0 - 0.2)
    assert "within 0.200 s" in done.text


def test_an_unset_clock_says_so() -> None:
    done = run(Machine(None, ClockQuality.UNSET).do("clock", "report", station_us=STATION_US))
    assert (done.value, "never set" in done.text) == (None, True)


def test_the_clock_is_stepped_to_the_stations() -> None:
    machine = Machine(-3600.0, ClockQuality.FREE)
    done = run(machine.do("clock", "set", station_us=STATION_US))
    assert machine.was_set == [pytest.approx(1_800_000_000.2)]
    assert done.value == pytest.approx(3600.2)


def test_a_clock_that_is_steered_is_left_alone() -> None:
    machine = Machine(5.0, ClockQuality.SYNCHRONISED)
    with pytest.raises(UsageError, match="time service"):
        run(machine.do("clock", "set", station_us=STATION_US))
    assert machine.was_set == []


def test_without_the_right_it_fails_and_says_what_is_needed() -> None:
    machine = Machine(5.0, ClockQuality.FREE)
    machine.denied = True
    done = run(machine.do("clock", "set", station_us=STATION_US))
    assert (done.verdict, "CAP_SYS_TIME" in done.text) == (Verdict.FAILED, True)


@pytest.mark.parametrize("given", [{}, {"station_us": "now"}, {"station_us": True}])
def test_without_the_stations_time_nothing_is_set(given: dict[str, Any]) -> None:
    machine = Machine(5.0, ClockQuality.FREE)
    with pytest.raises(UsageError):
        run(machine.do("clock", "set", **given))
    assert machine.was_set == []


def test_the_log_comes_packed_and_bounded() -> None:
    done = run(Machine(0.0, ClockQuality.FREE).do("program", "log"))
    assert len(done.payload) < 48 * 1024
    assert unpack(done.payload) == b"line\n" * 100_000


def test_a_restart_waits_until_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.command_actions.RESTART_AFTER_S", 0.01)
    machine = Machine(0.0, ClockQuality.FREE)

    async def story() -> Done:
        done = await machine.do("program", "restart")
        assert machine.restarts == 0
        assert done.after is not None
        done.after()
        await asyncio.sleep(0.05)
        return done

    run(story())
    assert machine.restarts == 1
