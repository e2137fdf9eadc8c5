"""Damaged files: what can be read comes back under its own number, what cannot is a gap."""

import asyncio
import os
import random
import shutil
import time
from pathlib import Path

import pytest

import buffer.salvaging
from buffer.log import FILE_NAME, EventLog
from buffer.salvage import Salvage
from events.errors import StoreError
from events.replication import Entry, Lane, LogHead, Reading
from events.wire import decode
from tests.buffer.logs import alarm, copy_states, item, open_log, read
from tests.buffer.stores import STATION, file, of_devices, panic, records, routine, store_at, until

PAGE = 1024


def whole(salvage: Salvage, lane: Lane = Lane.MAIN, limit_bytes: int = 20_000) -> list[Entry]:
    """Read a lane to its end and assert that every number is accounted for."""
    assert salvage.head is not None
    entries: list[Entry] = []
    after = 0
    while after < salvage.head.head:
        reading = slices(salvage, lane, after, limit_bytes)
        assert reading.through > after
        if lane is Lane.MAIN:
            places = sorted(
                [(each.seq, each.seq) for each in reading.entries]
                + [(gap.first, gap.last) for gap in reading.gaps]
            )
            for first, last in places:
                assert first == after + 1
                after = last
            assert after == reading.through
        after = reading.through
        entries += reading.entries
    return entries


def slices(salvage: Salvage, lane: Lane, after: int, limit_bytes: int) -> Reading:
    steps = salvage.read(lane, after, limit_bytes=limit_bytes)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            reading: Reading = stop.value
            return reading


def salvaged(path: Path, known: LogHead | None = None) -> Salvage:
    salvage = Salvage(path, known=known)
    for _ in salvage.scan():
        pass
    return salvage


def filled(folder: Path, count: int = 2000) -> tuple[EventLog, dict[int, bytes]]:
    log = open_log(folder)
    for start in range(1, count + 1, 100):
        numbers = range(start, start + 100)
        log.append(
            [
                (alarm if n % 20 == 0 else item)(
                    n, text="x" * (n * 7 % 300 + 3000 * (n % 97 == 0))
                )
                for n in numbers
            ]
        )
    bodies = {entry.seq: entry.body or b"" for entry in read(log, Lane.MAIN).entries}
    return log, bodies


@pytest.mark.parametrize("folded", [True, False])
def test_a_whole_file_comes_back_whole_and_is_not_touched(tmp_path: Path, folded: bool) -> None:
    """Also what is in the write-ahead log alone, as a killed run leaves it."""
    log, bodies = filled(tmp_path / "a")
    if folded:
        log.fold()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    head = log.head
    log.close()
    path = file(tmp_path / "b")
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    salvage = salvaged(path)
    assert salvage.head == head
    assert {entry.seq: entry.body for entry in whole(salvage)} == bodies
    urgent = whole(salvage, Lane.URGENT)
    assert [entry.seq for entry in urgent] == [n for n in bodies if n % 20 == 0]
    assert salvage.missing() == 0
    salvage.close()
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


def test_an_append_that_did_not_commit_is_not_salvaged(tmp_path: Path) -> None:
    log, bodies = filled(tmp_path / "a", 100)
    log.connection.execute("PRAGMA cache_size = 1")
    log.connection.execute("BEGIN IMMEDIATE")
    for seq in range(101, 400):
        log._rows.insert("routine_event", [(seq, b"c" * 16, "status", "p", None, b"body" * 200)])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "events.db-wal").stat().st_size > 200 * PAGE, "it spilled"
    log.connection.execute("ROLLBACK")
    log.close()
    salvage = salvaged(file(tmp_path / "b"))
    assert {entry.seq for entry in whole(salvage)} == set(bodies)
    salvage.close()


@pytest.mark.parametrize("seed", range(12))
def test_damage_costs_what_it_hit_and_every_number_is_accounted_for(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    log, bodies = filled(tmp_path)
    copy_states(log)
    log.trim(150)
    for _ in range(3):
        log.evict(held=0, urgent=False)
    kept = {entry.seq for entry in read(log, Lane.MAIN).entries}
    head = log.head
    log.close()
    path = file(tmp_path)
    data = bytearray(path.read_bytes())
    pages = len(data) // PAGE
    hit = 0
    match seed % 4:
        case 0:
            del data[len(data) // 2 + rng.randrange(PAGE) :]
            hit = pages // 2 + 1
        case 1:
            hit = 20
            for page in rng.sample(range(1, pages), hit):
                data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        case 2:
            hit = 30
            for at in rng.sample(range(PAGE, len(data)), hit):
                data[at] ^= 1 << rng.randrange(8)
        case _:
            hit = 8
            data[: 3 * PAGE] = rng.randbytes(3 * PAGE)
            for page in rng.sample(range(3, pages), 5):
                data[page * PAGE : (page + 1) * PAGE] = rng.randbytes(PAGE)
    path.write_bytes(data)
    salvage = salvaged(path, known=head)
    found = {entry.seq: entry.body for entry in whole(salvage)}
    assert salvage.head is not None
    assert (salvage.head.log_id, salvage.head.head) == (head.log_id, head.head)
    right = {seq for seq, body in found.items() if bodies.get(seq) == body}
    assert len(kept - right) <= 12 * hit, "a page holds no more"
    assert len(set(found) - right) <= hit
    salvage.close()


@pytest.mark.parametrize("content", [b"", b"x", bytes(5000), os.urandom(50_000)])
def test_a_file_with_nothing_in_it_gives_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "nothing"
    path.write_bytes(content)
    assert salvaged(path).head is None


def test_a_file_that_is_delivered_meanwhile_ends_a_reading_with_an_error(tmp_path: Path) -> None:
    """Anything else would end the thread that writes the log."""
    log, _ = filled(tmp_path)
    log.close()
    salvage = salvaged(tmp_path / FILE_NAME)
    steps = salvage.read(Lane.MAIN, 0, limit_bytes=1 << 20)
    next(steps)
    salvage.close()
    with pytest.raises(StoreError, match="no longer offered"):
        for _ in steps:
            pass


def test_a_corrupt_store_is_delivered_under_its_old_numbers_across_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer.salvaging, "PAUSE_S", 0)
    old: list[str] = []

    async def before() -> None:
        async with store_at(tmp_path) as store:
            for start in range(0, 3000, 100):
                seen = [routine(start + n, text="x" * 200) for n in range(99)]
                await store.record([*seen, panic(start + 99)])
            old.append(store.heads()[0].log_id)

    async def damaged(deliver: bool) -> list[Entry]:
        async with store_at(tmp_path) as store:
            await store.record([panic(9999)])
            assert store.heads()[0].log_id != old[0]
            await until(lambda: len(store.heads()) == 2)
            head = store.heads()[1]
            assert head.log_id == old[0]
            entries: list[Entry] = []
            after = 0
            while after < head.head:
                reading = await store.read(old[0], Lane.MAIN, after, limit_bytes=100_000)
                entries += reading.entries
                after = reading.through
            store.acknowledge(STATION, old[0], Lane.MAIN, after if deliver else after - 1)
            if deliver:
                await until(lambda: len(store.heads()) == 1)
                (told,) = store.status()["salvage"]
                assert (told["state"], told["events"]) == ("salvaged", len(entries))
            return entries

    async def after() -> None:
        async with store_at(tmp_path) as store:
            await asyncio.sleep(0.1)
            assert len(store.heads()) == 1
            assert [each["state"] for each in store.status()["salvage"]] == ["salvaged"]
            told = store.latest("store", "information", "store")
            assert told is not None
            assert told.details["state"] == "salvaged"

    asyncio.run(before())
    data = bytearray(file(tmp_path).read_bytes())
    data[: 2 * PAGE] = os.urandom(2 * PAGE)
    data[100 * PAGE : 104 * PAGE] = os.urandom(4 * PAGE)
    file(tmp_path).write_bytes(data)
    first = asyncio.run(damaged(deliver=False))
    again = asyncio.run(damaged(deliver=True))
    assert first == again
    values = [decode(entry.body or b"").observation.value for entry in again]
    assert len(set(values)) == len(values) >= 2900
    assert all(entry.seq == value + 1 for entry, value in zip(again, values, strict=True))  # type: ignore[operator]
    asyncio.run(after())
    assert of_devices(records(tmp_path)).count(9999) == 2


def test_recording_goes_on_at_once_beside_a_large_damaged_file(tmp_path: Path) -> None:
    log, _ = filled(tmp_path, 20_000)
    log.close()
    with file(tmp_path).open("r+b") as damaged:
        damaged.write(b"damage" * 100)

    async def scenario() -> None:
        started = time.monotonic()
        async with store_at(tmp_path) as store:
            await store.record([panic(1)])
            assert time.monotonic() - started < 5
            slowest = 0.0
            while len(store.heads()) < 2:
                at = time.monotonic()
                await store.record([panic(2)])
                slowest = max(slowest, time.monotonic() - at)
            assert slowest < 1.0
            assert store.heads()[1].head == 20_000

    asyncio.run(scenario())
