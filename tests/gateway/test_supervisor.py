import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest
import structlog

from events.errors import LinkLost, StoreError
from events.kinds import Kind
from events.model import Observation, Scalar
from gateway.conditions import Conditions
from gateway.supervisor import BACK_OFF_MAX_S, STABLE_S, STALE_S, Supervisor
from protocols.drivers.base import Context, Health, Report
from tests.gateway.journal import Journal, fault
from tests.gateway.virtual_time import clock, run

Act = Callable[["Player", Report], Awaitable[None]]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())


class Player:
    """A driver that plays one act per start, and the last one from then on."""

    def __init__(self, *acts: Act) -> None:
        self.acts = acts
        self.id = "bus-1"
        self.up = False
        self.details: dict[str, Scalar] = {}
        self.starts: list[float] = []
        self.built: list[Context] = []

    def __call__(self, context: Context) -> "Player":
        self.built.append(context)
        return self

    async def run(self, report: Report) -> None:
        self.starts.append(clock().monotonic)
        act = self.acts[min(len(self.starts), len(self.acts)) - 1]
        try:
            await act(self, report)
        finally:
            self.up = False

    def health(self) -> Health:
        return Health(up=self.up, counters={"frames": len(self.starts)}, details=self.details)


async def works(player: Player, report: Report) -> None:
    player.up = True
    await asyncio.Event().wait()


async def cannot_open(player: Player, report: Report) -> None:
    raise LinkLost("no such port", hint="plug it in")


async def defect(player: Player, report: Report) -> None:
    raise ZeroDivisionError("in the parser")


async def defect_in_a_group(player: Player, report: Report) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(defect(player, report))


async def unplugged_in_a_group(player: Player, report: Report) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(cannot_open(player, report))


async def says_nothing(player: Player, report: Report) -> None:
    await asyncio.Event().wait()


async def returns(player: Player, report: Report) -> None:
    return


def works_for(seconds: float, then: Act) -> Act:
    async def act(player: Player, report: Report) -> None:
        player.up = True
        await asyncio.sleep(seconds)
        await then(player, report)

    return act


def play(player: Player, journal: Journal, seconds: float) -> Supervisor:
    async def story() -> Supervisor:
        conditions = Conditions(memory=journal, clock=clock)
        supervisor = Supervisor(
            "bus-1", player, conditions=conditions, memory=journal, clock=clock
        )
        async with asyncio.TaskGroup() as group:
            tasks = (
                group.create_task(conditions.run(journal.record)),
                group.create_task(supervisor.run(journal.record)),
            )
            await asyncio.sleep(seconds)
            for task in tasks:
                task.cancel()
        return supervisor

    return run(story())


def test_a_lost_line_is_one_fault_and_one_restore_however_often_it_is_tried() -> None:
    player, journal = Player(*[cannot_open] * 20, works), Journal()
    supervisor = play(player, journal, 300)
    assert journal.faults() == [("bus-1", "line", "new"), ("bus-1", "line", "restore")]
    assert "no such port" in journal.stored[0].text
    assert supervisor.status()["lost"] == 20


def test_the_back_off_doubles_to_its_limit_and_starts_anew_after_a_stable_run() -> None:
    player = Player(*[cannot_open] * 6, works_for(STABLE_S + 1, cannot_open), cannot_open, works)
    play(player, Journal(), 120)
    pauses = [later - one for one, later in itertools.pairwise(player.starts)]
    assert pauses[:6] == pytest.approx([1, 2, 4, 5, 5, BACK_OFF_MAX_S])
    assert pauses[6:] == pytest.approx([STABLE_S + 1 + 1, 2])


@pytest.mark.parametrize("act", [defect, defect_in_a_group])
def test_a_defect_in_a_driver_is_a_stored_fault_and_a_restart(act: Act) -> None:
    player, journal = Player(act, act, act, works), Journal()
    play(player, journal, 60)
    assert journal.faults() == [("bus-1", "driver", "new"), ("bus-1", "driver", "restore")]
    assert "ZeroDivisionError: in the parser" in journal.stored[0].text
    assert len(player.built) == 4  # a broken driver is made anew


def test_a_lost_line_inside_a_group_is_still_a_lost_line() -> None:
    player, journal = Player(unplugged_in_a_group, works), Journal()
    play(player, journal, 60)
    assert journal.faults() == [("bus-1", "line", "new"), ("bus-1", "line", "restore")]
    assert len(player.built) == 1


def test_a_driver_that_cannot_be_made_silences_nobody() -> None:
    journal = Journal()

    def build(context: Context) -> Player:
        raise ImportError("gpiod is not installed")

    async def story() -> None:
        conditions = Conditions(memory=journal, clock=clock)
        supervisor = Supervisor("gpio", build, conditions=conditions, memory=journal, clock=clock)
        async with asyncio.TaskGroup() as group:
            tasks = (
                group.create_task(conditions.run(journal.record)),
                group.create_task(supervisor.run(journal.record)),
            )
            await asyncio.sleep(60)
            for task in tasks:
                task.cancel()
        assert supervisor.status()["up"] is False

    run(story())
    assert journal.faults() == [("gpio", "driver", "new")]


def test_a_driver_that_ends_by_itself_is_a_fault() -> None:
    player, journal = Player(returns, works), Journal()
    play(player, journal, 10)
    assert journal.faults() == [("bus-1", "driver", "new")]


def test_a_line_that_stays_down_without_a_word_is_lost() -> None:
    player, journal = Player(says_nothing), Journal()
    play(player, journal, STALE_S - 1)
    assert journal.faults() == []
    play(Player(says_nothing), journal, STALE_S + 1)
    assert journal.faults() == [("bus-1", "line", "new")]


def test_a_line_that_is_held_back_on_purpose_says_so() -> None:
    player, journal = Player(says_nothing), Journal()
    player.details = {"not_polling": "urgent events wait for the store"}
    play(player, journal, STALE_S + 1)
    (lost,) = [seen for seen in journal.stored if seen.subkind == "line"]
    assert lost.text == "not polled for 10 s: urgent events wait for the store"


def test_a_fault_of_an_earlier_run_is_restored_when_the_line_is_up() -> None:
    journal = Journal([fault("bus-1", "line", reason="lost")])
    play(Player(cannot_open, works), journal, 60)
    assert journal.faults() == [("bus-1", "line", "restore")]


def test_a_store_that_takes_nothing_is_no_fault_of_the_driver() -> None:
    async def reports(player: Player, report: Report) -> None:
        player.up = True
        await report([Observation(point="p", kind=Kind.ALARM)])

    journal = Journal()
    journal.broken = True
    supervisor = play(Player(reports), journal, 60)
    journal.broken = False
    assert journal.faults() == []
    assert supervisor.status()["failed"] == 0
    assert supervisor.status()["refused"] == supervisor.status()["starts"]


def test_a_driver_may_handle_the_stores_refusal_itself() -> None:
    refused: list[str] = []

    async def reports(player: Player, report: Report) -> None:
        player.up = True
        try:
            await report([Observation(point="p", kind=Kind.ALARM)])
        except StoreError as error:
            refused.append(str(error))
        await asyncio.Event().wait()

    journal = Journal()
    journal.broken = True
    player = Player(reports)
    play(player, journal, 60)
    assert len(player.starts) == 1
    assert refused == ["no writes"]


def test_a_driver_that_swallows_its_cancellation_does_not_outlive_us() -> None:
    async def stubborn(player: Player, report: Report) -> None:
        player.up = True
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    player = Player(stubborn)
    play(player, Journal(), 5)
    assert len(player.starts) == 1


def test_a_restarted_driver_remembers_what_it_stored_before() -> None:
    first = Observation(point="door", kind=Kind.ALARM, subkind="panic", source="bus-1", raw=b"1")
    old = Observation(
        point="door", kind=Kind.ALARM, subkind="panic", qualifier="restore", source="bus-1"
    )
    journal = Journal([old])
    seen: list[object] = []

    async def reports(player: Player, report: Report) -> None:
        player.up = True
        memory = player.built[-1].memory
        seen.append(memory.latest("door", Kind.ALARM, "panic"))
        last = memory.last_record()
        seen.append(last.stamp.boot_id if last else None)
        await report([first])
        raise ZeroDivisionError

    player = Player(reports, reports, works)
    play(player, journal, 10)
    assert seen == [old, "boot-0", first, "boot-1"]
    assert player.built[-1].memory.last_raw("bus-1") == b"1"


def test_the_interval_nobody_watched_begins_when_the_line_was_last_up() -> None:
    seen: list[int] = []

    async def remembers(player: Player, report: Report) -> None:
        last = player.built[-1].memory.last_record()
        seen.append(last.stamp.monotonic_us if last else 0)
        await works(player, report)

    player = Player(works_for(10, cannot_open), *[cannot_open] * 5, remembers)
    play(player, Journal(), 60)
    assert seen == [pytest.approx((player.starts[0] + 10) * 1e6)]
