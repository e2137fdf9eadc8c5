"""A real gateway and a real station in one folder, connected, with pins and a silent bus."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from events.errors import StoreError
from hil.parts.pins import Contact
from station.follow import print_events
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
id = "cellar/pump"
bus = "pumps"
unit = "cellar"
coil = 3
[[bus]]
id = "pumps"
driver = "modbus-tcp"
address = "127.0.0.1:{port}"
timeout_ms = 1000
[[bus.unit]]
id = "cellar"
unit = 1
period_s = 60
[[bus.unit.point]]
id = "cellar/water"
table = "discrete"
address = 0
kind = "status"
subkind = "level"
"""
WRITE_COIL_ON = b"\x05\x00\x03\xff\x00"


class Pump:
    """A Modbus TCP device that takes everything and answers nothing. `on` counts its orders."""

    def __init__(self) -> None:
        self.on = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Pump":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                self.on += data.count(WRITE_COIL_ON)
        except (ConnectionError, asyncio.CancelledError):
            pass
        writer.close()


class Pair:
    """Both programs. `run` runs a command of the station; `order` asks it over its socket."""

    def __init__(self, folder: Path, pump: Pump) -> None:
        (folder / "gateway").mkdir()
        (folder / "station").mkdir()
        self.pump = pump
        self.station_site = site = StationSite(folder / "station", lost_after_s=5.0)
        self.gateway = GatewaySite(
            folder / "gateway",
            more=POINTS.replace("{port}", str(pump.port)),
            contacts=(Contact(point="lobby/burglary", pin="GPIO7"),),
        )
        (self.gateway.folder / "east.pub").write_text((site.folder / "centre.pub").read_text())
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

    async def ask(self, message: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Ask the running station; end where its answer ends, or the station."""
        reader, writer = await asyncio.open_unix_connection(self.station_site.folder / "s.sock")
        writer.write(json.dumps(message).encode() + b"\n")
        try:
            while line := await reader.readline():
                if line.strip():
                    yield json.loads(line)
        except ConnectionError:
            return
        finally:
            writer.close()

    async def order(self, target: str, action: str, **arguments: Any) -> AsyncIterator[Any]:
        """Give a command; yield what is said of it as it comes."""
        message = {"request": "command", "gateway": "hall", "by": "wang", "wait_s": 60.0}
        given = {"target": target, "action": action, "arguments": arguments}
        async for line in self.ask({**message, **given}):
            yield line

    async def commanded(self, target: str, action: str, **arguments: Any) -> dict[str, Any]:
        """Give a command; return the last that is said of it."""
        last: dict[str, Any] = {}
        async for line in self.order(target, action, **arguments):
            last = line
        return last

    async def listed(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        async for answer in self.ask({"request": "commands"}):
            rows = answer
        return rows

    async def connected(self) -> None:
        """Wait until the gateway takes commands."""

        async def takes() -> bool:
            last = await self.commanded("clock", "report")
            return last.get("verdict") == "applied"

        await self.until(takes)

    def events(self, *subkinds: str) -> list[dict[str, Any]]:
        """Return what the station holds of the gateway, in its order."""
        found: list[dict[str, Any]] = []

        def keep(event: Any) -> None:
            found.append(event)

        try:
            print_events(
                self.station_site.folder / "data",
                keep,
                after=None,
                gateway="hall",
                limit=None,
                follow=False,
            )
        except StoreError:
            return []
        return [each for each in found if not subkinds or each["subkind"] in subkinds]

    async def until(self, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        async with asyncio.timeout(40):
            while True:
                answer = holds()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.1)


@asynccontextmanager
async def pair(folder: Path) -> AsyncIterator[Pair]:
    async with Pump() as pump:
        both = Pair(folder, pump)
        try:
            async with both.gateway:
                await both.gateway.start()
                await asyncio.to_thread(both.station.wait_ready)
                await both.connected()
                yield both
        finally:
            both.station.kill()
