import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from events.kinds import Qualifier
from events.model import Observation
from gateway import conditions as module
from gateway.conditions import Conditions
from tests.gateway.journal import Journal, fault
from tests.gateway.virtual_time import clock, run


@contextlib.asynccontextmanager
async def keeping(journal: Journal) -> AsyncIterator[Conditions]:
    conditions = Conditions(memory=journal, clock=clock)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(conditions.run(journal.record))
        yield conditions
        task.cancel()


def test_a_fault_is_stored_once_until_it_is_over() -> None:
    journal = Journal()

    async def story() -> None:
        async with keeping(journal) as conditions:
            for _ in range(3):
                conditions.set("bus-1", "line", "lost", text="no such port")
                await conditions.settled()
            for _ in range(3):
                conditions.set("bus-1", "line", "")
                await conditions.settled()

    run(story())
    assert journal.faults() == [("bus-1", "line", "new"), ("bus-1", "line", "restore")]
    assert journal.stored[0].text == "no such port"


def test_another_reason_is_another_fault() -> None:
    journal = Journal()

    async def story() -> None:
        async with keeping(journal) as conditions:
            for reason in ("a", "b", "b", ""):
                conditions.set("bus-1", "driver", reason)
                await conditions.settled()

    run(story())
    assert [(seen.qualifier, seen.text) for seen in journal.stored] == [
        ("new", "a"),
        ("new", "b"),
        ("restore", ""),
    ]


def test_the_pair_is_completed_after_a_restart() -> None:
    journal = Journal([fault("bus-1", "line")])

    async def story() -> None:
        async with keeping(journal) as conditions:
            assert conditions.active("bus-1", "line")
            conditions.set("bus-1", "line", "")
            await conditions.settled()

    run(story())
    assert journal.faults() == [("bus-1", "line", "restore")]


def test_a_fault_that_outlived_the_restart_is_not_told_twice() -> None:
    journal = Journal([fault("bus-1", "driver", text="ValueError: x")])

    async def story() -> None:
        async with keeping(journal) as conditions:
            conditions.set("bus-1", "driver", "ValueError: x")
            await conditions.settled()

    run(story())
    assert journal.stored == []


def test_what_the_store_could_not_take_is_owed_with_its_own_time() -> None:
    journal = Journal()

    async def story() -> float:
        async with keeping(journal) as conditions:
            journal.broken = True
            conditions.set("bus-1", "line", "lost")
            at = clock().monotonic
            await asyncio.sleep(100)
            assert journal.stored == []
            journal.broken = False
            await conditions.settled()
            return at

    at = run(story())
    assert journal.faults() == [("bus-1", "line", "new")]
    assert journal.stored[0].edge_us == int(at * 1e6)
    assert 50 < journal.attempts < 200


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", ""]), st.booleans(), st.sampled_from([0.0, 0.3, 2.0])
        ),
        max_size=30,
    )
)
def test_the_last_stored_state_is_the_last_said_state(
    steps: list[tuple[str, bool, float]],
) -> None:
    journal = Journal()
    said = [""]

    async def story() -> None:
        async with keeping(journal) as conditions:
            for reason, broken, pause in steps:
                journal.broken = broken
                conditions.set("x", "line", reason)
                said.append(reason)
                await asyncio.sleep(pause)
            journal.broken = False
            await conditions.settled()

    run(story())
    reasons = ["" if seen.qualifier == Qualifier.RESTORE else seen.text for seen in journal.stored]
    assert (reasons or [""])[-1] == said[-1]
    assert all(one != other for one, other in itertools.pairwise(["", *reasons]))
    told = sum(int(seen.details.get("changes_not_stored", 0)) for seen in journal.stored)
    changes = sum(one != other for one, other in itertools.pairwise(said))
    assert len(reasons) + told <= changes


def test_a_change_during_a_slow_commit_is_not_lost() -> None:
    stored: list[str] = []

    async def slow(observations: Sequence[Observation]) -> None:
        await asyncio.sleep(1)
        stored.extend(seen.qualifier for seen in observations)

    async def story() -> None:
        conditions = Conditions(memory=Journal(), clock=clock)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(conditions.run(slow))
            conditions.set("x", "line", "lost")
            await asyncio.sleep(0.5)
            conditions.set("x", "line", "")
            await conditions.settled()
            task.cancel()

    run(story())
    assert stored == ["new", "restore"]


def test_conditions_are_bounded() -> None:
    async def story() -> Conditions:
        conditions = Conditions(memory=Journal(), clock=clock)
        for number in range(module.CONDITIONS_MAX + 10):
            conditions.set(f"x-{number}", "line", "lost")
        return conditions

    assert run(story()).ignored == 10


def test_a_store_that_could_not_be_read_at_first_is_compared_with_later() -> None:
    journal = Journal()

    async def story() -> None:
        async with keeping(journal) as conditions:
            assert not conditions.set("bus-1", "line", "")
            journal.earlier = (fault("bus-1", "line", reason="lost"),)
            conditions.reread()
            conditions.reread()
            await conditions.settled()

    run(story())
    assert journal.faults() == [("bus-1", "line", "restore")]
