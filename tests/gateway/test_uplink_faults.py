import asyncio

from gateway.conditions import Conditions
from gateway.uplink_faults import UplinkFaults
from sync.peers import PathChange, PathFault
from tests.gateway.journal import Journal
from tests.gateway.virtual_time import clock, run


def change(path: str, fault: str, *, station_up: bool) -> PathChange:
    return PathChange(
        station="east",
        path=path,
        up=not fault,
        station_up=station_up,
        fault=fault,
        text=fault and f"the path is {fault}",
    )


def told(*changes: PathChange, paths: tuple[str, ...] = ("fibre", "mobile")) -> list[object]:
    journal = Journal()

    async def story() -> None:
        conditions = Conditions(memory=journal, clock=clock)
        faults = UplinkFaults(conditions, {"east": frozenset(paths)})
        async with asyncio.TaskGroup() as group:
            task = group.create_task(conditions.run(journal.record))
            for each in changes:
                faults.heard(each)
                await conditions.settled()
            task.cancel()

    run(story())
    return [(seen.point, seen.subkind, seen.qualifier) for seen in journal.stored]


def test_a_first_path_that_works_is_no_news() -> None:
    assert told(change("fibre", "", station_up=True)) == []


def test_one_lost_path_is_named_while_the_station_is_still_there() -> None:
    assert told(
        change("fibre", "", station_up=True),
        change("mobile", PathFault.UNREACHABLE, station_up=True),
        change("mobile", "", station_up=True),
    ) == [
        ("gateway/east/mobile", "path-lost", "new"),
        ("gateway/east/mobile", "path-lost", "restore"),
    ]


def test_a_station_is_unreachable_only_when_every_path_is_known_to_be_down() -> None:
    assert told(
        change("fibre", PathFault.UNREACHABLE, station_up=False),
        change("mobile", PathFault.STATION_SILENT, station_up=False),
        change("mobile", "", station_up=True),
    ) == [
        ("gateway/east/fibre", "path-lost", "new"),
        ("gateway/east/mobile", "path-lost", "new"),
        ("gateway/east", "station-unreachable", "new"),
        ("gateway/east/mobile", "path-lost", "restore"),
        ("gateway/east", "station-unreachable", "restore"),
    ]


def test_a_refused_key_and_a_foreign_version_have_their_own_names() -> None:
    assert told(
        change("fibre", PathFault.KEY_REFUSED, station_up=False),
        change("fibre", PathFault.VERSION_MISMATCH, station_up=False),
        change("fibre", "", station_up=True),
        paths=("fibre",),
    ) == [
        ("gateway/east/fibre", "key-refused", "new"),
        ("gateway/east", "station-unreachable", "new"),
        ("gateway/east/fibre", "key-refused", "restore"),
        ("gateway/east/fibre", "version-mismatch", "new"),
        ("gateway/east/fibre", "version-mismatch", "restore"),
        ("gateway/east", "station-unreachable", "restore"),
    ]


def test_every_fault_of_a_path_has_a_subkind() -> None:
    for fault in PathFault:
        assert told(change("fibre", fault, station_up=False), paths=("fibre",))
