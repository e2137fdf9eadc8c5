import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from events.errors import StoreError
from events.model import Origin
from events.replication import Gap
from station import backup, schema
from station.store import Store
from station.verification import LogVerdict, verify
from sync.ledger import Cursor
from tests.station.gateway_log import GatewayLog, record
from tests.station.ledger import CLOCK, NOW, listed, with_store


def verdict(folder: Path) -> LogVerdict:
    (found,) = verify(folder, "g1", lambda _name, _seq: None)
    return found


def damaged(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / schema.FILE_NAME, isolation_level=None)) as connection:
        assert connection.execute(statement).rowcount == 1


def a_log(length: int) -> GatewayLog:
    log = GatewayLog()
    for seq in range(1, length + 1):
        log.append(record(monotonic_s=float(seq), urgent=seq % 50 == 0))
    return log


def fill(folder: Path) -> GatewayLog:
    """Store 1,500 numbers on two lanes, with a gap in which an urgent event is held."""
    log = a_log(1500)
    gap = Gap(690, 720, log.chain_at(720), "evicted")

    async def work(store: Store) -> None:
        await store.commit("g1", log.early(50, 700, 1450), NOW)
        await store.commit("g1", log.main(1, 600, skip=(50,)), NOW)
        await store.commit("g1", log.main(601, 1500, skip=(1450,), gaps=[gap]), NOW)

    with_store(folder, work)
    return log


def test_what_was_stored_as_it_came_fits(tmp_path: Path) -> None:
    fill(tmp_path)
    found = verdict(tmp_path)
    assert (found.misfits, found.gaps, found.unchecked) == (0, 31, 1)
    assert found.checked == 1500 - 31


@pytest.mark.parametrize(
    ("statement", "seq"),
    [
        ("UPDATE event SET body = CAST(body || x'00' AS BLOB) WHERE seq = 321", 321),
        ("UPDATE event SET chain = zeroblob(16) WHERE seq = 1450", 1450),
        ("DELETE FROM event WHERE seq = 1023", 1023),
        ("DELETE FROM gap", 690),
        ("UPDATE gap SET first = 691", 690),
    ],
)
def test_the_first_place_that_does_not_fit_is_named(
    tmp_path: Path, statement: str, seq: int
) -> None:
    fill(tmp_path)
    damaged(tmp_path, statement)
    found = verdict(tmp_path)
    assert found.misfits
    assert found.first[0].seq == seq


def test_two_histories_and_copies_of_one_log_fit_both(tmp_path: Path) -> None:
    ours, clone = a_log(300), GatewayLog()
    for _ in range(400):
        clone.append(record(qualifier="restore"))
    memory, disk = GatewayLog("memory", volatile=True), GatewayLog("disk")
    memory.append(record(urgent=True))
    disk.append(record(urgent=True, origin=Origin("memory", 1)))

    async def work(store: Store) -> None:
        await store.commit("g1", ours.main(1, 300), NOW)
        await store.commit("g1", replace(clone.main(1, 400), restart=True), NOW)
        await store.commit("g1", memory.early(1), NOW)
        await store.commit("g1", disk.main(1, 1), NOW)

    with_store(tmp_path, work)
    found = {each.log_id: each for each in verify(tmp_path, None, lambda _name, _seq: None)}
    assert {each.misfits for each in found.values()} == {0}
    assert (found["log-1"].checked, found["disk"].checked) == (700, 1)


def test_a_snapshot_made_while_the_station_commits_is_whole_and_can_be_restored(
    tmp_path: Path,
) -> None:
    log, copy = a_log(900), tmp_path / "yesterday.db"
    live, restored = tmp_path / "live", tmp_path / "restored"

    async def work(store: Store) -> None:
        await store.commit("g1", log.main(1, 100), NOW)

        async def go_on() -> None:
            for first in range(101, 901, 20):
                await store.commit("g1", log.main(first, first + 19), NOW)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(go_on())
            await asyncio.to_thread(backup.snapshot, live, copy)
        with pytest.raises(StoreError, match="exists"):
            backup.snapshot(live, copy)

    with_store(live, work)
    restored.mkdir()
    copy.rename(restored / schema.FILE_NAME)
    assert verdict(restored).misfits == 0
    held = len(listed(restored))
    assert 100 <= held <= 900
    # The gateway was told that it may forget up to 850, and did: of the rest nothing is left.
    gap = Gap(held + 1, max(held, 850) + 1, log.chain_at(max(held, 850) + 1), "trimmed")

    async def again(store: Store) -> Cursor:
        gaps = [gap] if held < 850 else []
        await store.commit("g1", log.main(held + 1, 900, gaps=gaps), NOW)
        (report,) = (await store.logs({})).values()
        assert report.missing == sum(each.last - each.first + 1 for each in gaps)
        return (await store.cursors("g1", ["log-1"]))["log-1"]

    async def reopened() -> Cursor:
        async with Store(restored, clock=CLOCK) as store:
            return await again(store)

    assert asyncio.run(reopened()).main == 900
    assert verdict(restored).misfits == 0


@pytest.mark.parametrize("make", [lambda folder: folder / "no" / "x.db"])
def test_a_snapshot_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    fill(tmp_path)
    with pytest.raises(StoreError):
        backup.snapshot(tmp_path, make(tmp_path))
    assert not list(tmp_path.rglob("*.partial"))
