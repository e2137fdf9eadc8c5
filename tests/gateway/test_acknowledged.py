"""The promise on the real process: what the receiver was told is accepted outlives a kill."""

import asyncio
import os
import pty
import signal
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.gateway.site import RECEIVER, Site

ACCEPTED = b"\x06"


class Dialler:
    """An alarm receiver: sends a message and waits for its acknowledgement."""

    def __init__(self, controller: int) -> None:
        self._controller = controller
        self.accepted: list[str] = []

    async def send(self, account: int, zone: int) -> None:
        os.write(self._controller, f"5011 18{account:04}E120010{zone:02}\x14".encode())
        async with asyncio.timeout(10):
            while True:
                try:
                    answer = os.read(self._controller, 100)
                except BlockingIOError:
                    await asyncio.sleep(0.001)
                    continue
                assert answer == ACCEPTED
                self.accepted.append(f"dialler/{account:04}/0{zone:02}")
                return


@asynccontextmanager
async def dialler(folder: Path) -> AsyncIterator[Dialler]:
    controller, port = pty.openpty()
    tty.setraw(port)
    os.set_blocking(controller, False)
    (folder / "receiver").symlink_to(os.ttyname(port))
    try:
        yield Dialler(controller)
    finally:
        os.close(controller)
        os.close(port)


async def killed_after_each_acknowledgement(
    site: Site, rounds: int
) -> tuple[list[str], list[str]]:
    """Return what the receiver saw accepted, and what the gateway holds in the end."""
    async with dialler(site.folder) as device:
        for turn in range(rounds):
            await site.start()
            for zone in range(1, 4):
                await device.send(1000 + turn, zone)
            await site.stop(signal.SIGKILL)
        await site.start()
        held = [event["point"] for event in await site.events() if event["kind"] == "alarm"]
    return device.accepted, held


def test_what_was_acknowledged_is_there_exactly_once_after_a_kill(tmp_path: Path) -> None:
    async def story() -> None:
        async with Site(tmp_path, more=RECEIVER) as site:
            accepted, held = await killed_after_each_acknowledgement(site, rounds=5)
            assert len(accepted) == 15
            assert held == accepted

    asyncio.run(story())


def test_the_same_attack_finds_a_gateway_that_acknowledges_too_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPLUS_MUTANT", "ack-before-commit")

    async def story() -> None:
        async with Site(tmp_path, more=RECEIVER) as site:
            accepted, held = await killed_after_each_acknowledgement(site, rounds=1)
            assert set(accepted) - set(held)

    asyncio.run(story())
