import asyncio
from pathlib import Path

from events.kinds import Qualifier, Subkind
from station.store import Store
from station.told import Told
from station.withheld import Withheld
from sync.peers import Notice
from tests.station.gateway_log import FixedClock

NOTICE = Notice(
    reason=Subkind.EVENTS_WITHHELD, text="none arrives", gateway="g1", log_id="disk", head=40
)


def test_the_fault_lasts_until_everything_that_was_announced_is_here() -> None:
    withheld = Withheld()
    withheld.note(NOTICE)
    withheld.note(Notice(reason=Subkind.LOG_GAP, text="", gateway="g1", log_id="other", head=9))
    assert withheld.waiting() == [("g1", "disk")]
    assert withheld.come("g1", "disk", 39) is None
    come = withheld.come("g1", "disk", 40)
    assert come is not None
    assert (come.gateway, come.subkind, come.qualifier) == (
        "g1", "events-withheld", Qualifier.RESTORE,
    )  # fmt: skip
    assert withheld.come("g1", "disk", 41) is None


def test_it_is_told_anew_after_it_was_over() -> None:
    told = Told()
    first = told.take(NOTICE, 0.0)
    assert first is not None
    assert first.details == {"log_id": "disk", "announced": 40}
    assert told.take(NOTICE, 60.0) is None
    told.ended(NOTICE.reason, "g1", "disk")
    assert told.take(NOTICE, 70.0) is not None


def test_a_restart_of_the_station_does_not_forget_it(tmp_path: Path) -> None:
    clock, told, withheld = FixedClock(), Told(), Withheld()
    withheld.note(NOTICE)

    async def scenario() -> None:
        announcement = told.take(NOTICE, 0.0)
        assert announcement is not None
        async with Store(tmp_path, clock=clock) as store:
            await store.announce([announcement], clock.now())
        async with Store(tmp_path, clock=clock) as store:
            assert await store.withheld() == {("g1", "disk"): 40}
            come = withheld.come("g1", "disk", 40)
            assert come is not None
            await store.announce([come], clock.now())
            assert await store.withheld() == {}

    asyncio.run(scenario())
