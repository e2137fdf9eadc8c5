"""A real gateway and a real station in one folder, connected, with pins of the bench."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hil.parts.pins import Contact
from tests.gateway.site import Site as GatewaySite
from tests.station.site import PROGRAM, Running
from tests.station.site import Site as StationSite

POINTS = """
[[gpio.point]]
id = "lobby/burglary"
line = 7
contact = "no"
qualify_ms = 20
kind = "alarm"
subkind = "burglary"
[[output]]
id = "lobby/siren"
label = "Siren"
pin = 17
pulse_max_s = 10
[[output]]
id = "lobby/lock"
pin = 18
fail_safe = "on"
"""


class Pair:
    """Both programs. `run` runs a command of the station; `commanded` one to the gateway."""

    def __init__(self, folder: Path) -> None:
        (folder / "gateway").mkdir()
        (folder / "station").mkdir()
        self.station_site = StationSite(folder / "station", lost_after_s=5.0)
        self.gateway = GatewaySite(
            folder / "gateway",
            more=POINTS,
            contacts=(Contact(point="lobby/burglary", pin="GPIO7"),),
        )
        site = self.station_site
        centre = (site.folder / "centre.pub").read_text()
        (self.gateway.folder / "east.pub").write_text(centre)
        self.station: Running = Running(site)
        self.text = self.gateway.file.read_text().replace("127.0.0.1:9", f"127.0.0.1:{site.port}")
        self.gateway.file.write_text(self.text)
        done = site.command("enroll", "hall", str(self.gateway.folder / "hall.pub"))
        assert done.returncode == 0, done.stderr

    async def run(self, *words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *words,
            "--config",
            str(self.station_site.config),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        return await process.wait(), out.decode(), err.decode()

    async def commanded(self, *words: str, by: str = "wang") -> tuple[int, dict[str, Any]]:
        """Give a command; return the exit status and the last line."""
        code, out, err = await self.run("command", "hall", *words, "--by", by, "--json")
        lines = [json.loads(line) for line in out.splitlines()]
        return code, lines[-1] if lines else {"error": err}

    async def connected(self) -> None:
        async def is_so() -> bool:
            code, out, _ = await self.run("gateways", "--json")
            return code == 0 and [r["state"] for r in json.loads(out)] == ["connected"]

        await self.until(is_so)
        await asyncio.sleep(0.3)

    async def events(self, *subkinds: str) -> list[dict[str, Any]]:
        """Return what the station holds of the gateway, in its order."""
        code, out, err = await self.run("events", "--json", "--gateway", "hall")
        assert code in {0, 69}, err
        found = [json.loads(line) for line in out.splitlines()]
        return [each for each in found if not subkinds or each["subkind"] in subkinds]

    async def until(self, holds: Callable[[], Awaitable[bool]], limit_s: float = 30.0) -> None:
        async with asyncio.timeout(limit_s):
            while not await holds():  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(0.1)


@asynccontextmanager
async def pair(folder: Path, *, start: bool = True) -> AsyncIterator[Pair]:
    both = Pair(folder)
    try:
        await asyncio.to_thread(both.station.wait_ready)
        async with both.gateway:
            if start:
                await both.gateway.start()
                await both.connected()
            yield both
    finally:
        both.station.kill()
