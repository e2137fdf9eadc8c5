import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import StoreError
from events.kinds import Qualifier, Subkind
from station import backlog
from station.announcements import Announcement
from station.backlog import Backlog
from station.config import StationConfig
from station.enrolment import Enrolment
from station.intake import Intake
from station.listing import Listing
from station.store import Store
from sync.peers import Notice
from tests.station.gateway_log import FixedClock
from tests.station.ledger import gathering

CLOCK = FixedClock()


def numbered(number: int) -> Announcement:
    return Announcement(
        gateway=f"g{number}", subkind="log-gap", qualifier=Qualifier.NEW, text=str(number)
    )


@given(st.lists(st.one_of(st.integers(1, 9), st.sampled_from(["stored", "refused"]))))
def test_every_announcement_is_handed_out_or_counted_and_in_order(steps: list[int | str]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(backlog, "WAITING_MAX", 7)
        patched.setattr(backlog, "BATCH_MAX", 3)
        waiting, given_, told = Backlog(), 0, list[Announcement]()
        for step in (*steps, *["stored"] * 4):
            if isinstance(step, int):
                waiting.add(numbered(given_ + each) for each in range(step))
                given_ += step
                continue
            batch = waiting.take()
            if step == "stored":
                told += batch.announcements
            else:
                waiting.add([numbered(given_)])  # while the others are on their way
                given_ += 1
                waiting.put_back(batch)
            assert len(waiting) <= 7 + 1
        assert not waiting
    expected = 0
    stands = False
    for one in told:
        if one.subkind == Subkind.STORE:
            assert stands == (one.qualifier == Qualifier.RESTORE)
            stands = not stands
        if one.subkind == Subkind.STORE and one.qualifier == Qualifier.RESTORE:
            continue
        if one.subkind == Subkind.STORE:
            expected += one.count
        else:
            assert one == numbered(expected)
            expected += 1
    assert expected == given_
    assert not stands


def intake(folder: Path, store: Store) -> Intake:
    config = StationConfig(
        file=folder / "station.toml",
        name="centre",
        data_dir=folder,
        key_file=folder / "centre.key",
        listen="tcp://127.0.0.1:1",
        gateways_dir=folder / "gateways",
        socket=folder / "s.sock",
        lost_after_s=5.0,
    )
    return Intake(config, store=store, enrolment=Enrolment(config.gateways_dir), clock=CLOCK)


def gap(gateway: str) -> Notice:
    return Notice(reason="log-gap", text="numbers are missing", gateway=gateway)


def listed(folder: Path) -> list[tuple[str, int]]:
    """Return subkind, or gateway of a gap, and count of each event of the station's own."""
    with closing(Listing(folder)) as listing:
        events: list[dict[str, Any]] = list(listing.after(0, None, None))
    return [
        (event["subkind"] if event["gateway"] == "" else event["gateway"],
         event["details"].get("count", 1))
        for event in events
    ]  # fmt: skip


def test_what_comes_while_the_ledger_is_busy_is_stored_or_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "WAITING_MAX", 3)

    async def work() -> None:
        async with Store(tmp_path, clock=CLOCK) as store:
            made = intake(tmp_path, store)
            async with gathering(store):
                for number in range(3):
                    made.on_notice(gap(f"g{number}"))
                finishing = asyncio.ensure_future(made.finish())
                await asyncio.sleep(0)
                for number in range(3, 8):
                    made.on_notice(gap(f"g{number}"))
            await finishing

    asyncio.run(work())
    assert listed(tmp_path) == [
        ("g0", 1), ("g1", 1), ("g2", 1), ("store", 2), ("store", 2), ("g5", 1), ("g6", 1), ("g7", 1),
    ]  # fmt: skip


def test_what_the_ledger_refuses_is_kept_and_what_does_not_fit_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "WAITING_MAX", 3)

    async def work() -> None:
        async with Store(tmp_path, clock=CLOCK) as store:
            made = intake(tmp_path, store)
            for number in range(5):
                made.on_notice(gap(f"g{number}"))
            await store.ping()
            async with gathering(store):
                finishing = asyncio.ensure_future(made.finish())
                await asyncio.sleep(0)
                undone = store._writer.submit(undo)
            with pytest.raises(StoreError):
                await undone
            await finishing
            assert len(made._backlog) == 3 + 1
            await made.finish()

    asyncio.run(work())
    assert listed(tmp_path) == [("store", 2), ("store", 2), ("g2", 1), ("g3", 1), ("g4", 1)]


def undo(connection: sqlite3.Connection) -> None:
    """End the transaction under the jobs beside this one: all of them fail."""
    connection.execute("ROLLBACK")
