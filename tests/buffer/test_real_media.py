"""The store on a small file system of its own that is really full, and really turns read-only."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import buffer.recovery
from events.errors import StoreFull, StoreReadOnly
from hil.parts.disks import DEVICES
from hil.parts.namespaces import missing
from tests.buffer.stores import of_devices, panic, records, routine, store_at, until

LACKING = missing("mkfs.ext4", "mount", "umount", devices=DEVICES[1:])
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"needs {', '.join(LACKING)}")

DISK_BYTES = 8 * 1024 * 1024
TOLD_S = 1.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer.recovery, "RETRY_FIRST_S", 0.02)
    monkeypatch.setattr(buffer.recovery, "RETRY_MAX_S", 0.1)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def medium(tmp_path: Path) -> Iterator[Path]:
    image, place = tmp_path / "image", tmp_path / "mounted"
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    place.mkdir()
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image))
    run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        run("umount", "--lazy", str(place))


def fill(ballast: Path) -> None:
    """Take every byte that the file system still has."""
    with ballast.open("wb") as file:
        for block in (65536, 512):
            with suppress(OSError):
                while True:
                    os.write(file.fileno(), bytes(block))


def test_a_full_disk_is_told_within_a_second_alarms_wait_and_it_recovers(medium: Path) -> None:
    ballast = medium / "ballast"

    async def scenario() -> None:
        folder = medium / "data"
        async with store_at(folder) as store, asyncio.TaskGroup() as group:
            await store.record([routine(1)])
            fill(ballast)
            number, began = 1, 0.0
            with pytest.raises(StoreFull) as caught:  # noqa: PT012 - which of them it is, is open
                while number < 2000:
                    number += 1
                    began = time.monotonic()
                    await store.record([routine(number, text="x" * 900)])
            assert time.monotonic() - began < TOLD_S
            assert caught.value.hint
            assert store.status()["state"] == "full"
            refused = number
            waiting = group.create_task(store.record([panic(5000, text="x" * 900)]))
            await until(lambda: len(store.heads()) == 2)
            await asyncio.sleep(0.3)
            assert not waiting.done()
            ballast.unlink()
            await waiting
            await until(lambda: store.status()["state"] == "ok")
            await store.record([routine(5001)])
            expected.extend([*range(1, refused), 5000, 5001])

    expected: list[int] = []
    asyncio.run(scenario())
    assert of_devices(records(medium / "data")) == expected


def test_a_file_system_that_turns_read_only_is_named_and_left_once_it_is_mounted_anew(
    medium: Path,
) -> None:
    async def scenario() -> None:
        async with store_at(medium / "data") as store, asyncio.TaskGroup() as group:
            await store.record([routine(1)])
            run("mount", "-o", "remount,abort", str(medium))  # what the kernel does after errors
            began = time.monotonic()
            with pytest.raises(StoreReadOnly):
                await store.record([routine(2)])
            assert time.monotonic() - began < TOLD_S
            waiting = group.create_task(store.record([panic(3)]))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            run("umount", "--lazy", str(medium))  # the store still holds its file
            run("mount", "-o", "loop", str(medium.parent / "image"), str(medium))
            await waiting
            await until(lambda: store.status()["state"] == "ok")

    asyncio.run(scenario())
    assert of_devices(records(medium / "data")) == [1, 3]
