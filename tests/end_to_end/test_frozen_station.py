"""The real programs: a station that stands still is named at the gateway in time, and recovers."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from events.errors import NplusError
from sync.local_socket import request_one
from tests.benchmarks.catchup import IDLE_INPUT
from tests.benchmarks.site import Site

NAMED_S = 10.0
PATIENCE_S = 30.0


def _path(site: Site) -> dict[str, Any]:
    try:
        status = request_one(site.folder / "g.sock", {"request": "status"})
    except NplusError:
        return {}
    path: dict[str, Any] = status["stations"][0]["paths"][0]
    return path


async def _until(site: Site, *, up: bool, limit_s: float) -> float:
    began = time.monotonic()
    while (path := await asyncio.to_thread(_path, site)).get("up") is not up or (
        not up and not path.get("fault")
    ):
        assert time.monotonic() - began <= limit_s, path
        await asyncio.sleep(0.1)
    return time.monotonic() - began


def test_a_station_that_is_stopped_is_named_within_ten_seconds(tmp_path: Path) -> None:
    async def scenario() -> None:
        site = Site(tmp_path)
        await site.prepare(IDLE_INPUT)
        async with site.station() as station, site.gateway():
            await _until(site, up=True, limit_s=PATIENCE_S)
            os.kill(station.pid, signal.SIGSTOP)
            try:
                await _until(site, up=False, limit_s=NAMED_S)
            finally:
                os.kill(station.pid, signal.SIGCONT)
            await _until(site, up=True, limit_s=PATIENCE_S)

    asyncio.run(scenario())
