"""One station and one gateway as real programs in one folder, for measuring from outside."""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from events.errors import NplusError
from hil.parts.network import free_port
from hil.parts.programs import Program, answer, find
from sync.local_socket import request_one

COMMIT_POLL_S = 0.0002


class Site:
    """Configuration files and keys under `folder`; the station's list read by its own file.

    host: where the station listens. inside: what goes before the gateway's command, to run it in
    another network. second: where the station is reached by a
    second, metered path.
    """

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        inside: Sequence[str] = (),
        second: str = "",
    ) -> None:
        self.folder = folder
        self.host = host
        self.inside = list(inside)
        self.second = second
        self.port = free_port()
        self.station_config = folder / "station.toml"
        self.gateway_config = folder / "gateway.toml"

    async def prepare(self, sections: str, *, bench: bool = False) -> None:
        """Write both configurations, make the keys and enrol the gateway."""
        folder = self.folder
        (folder / "gateways").mkdir()
        self.station_config.write_text(
            f'[station]\nname = "station"\ndata_dir = "station"\nkey_file = "station.key"\n'
            f'listen = "{"*" if self.second else self.host}:{self.port}"\ngateways_dir = "gateways"\n'
            f'socket = "s.sock"\nlost_after_s = 90.0\n'
        )
        self.gateway_config.write_text(
            f'[gateway]\nname = "hall"\ndata_dir = "gateway"\nkey_file = "hall.key"\n'
            f'socket = "g.sock"\nbench = {json.dumps(bench)}\n\n'
            f'[[station]]\nname = "station"\npublic_key_file = "station.pub"\nrequired = true\n'
            f'[[station.path]]\nname = "lan"\naddress = "tcp://{self.host}:{self.port}"\n'
            f"{self._second_path()}\n{sections}"
        )
        for command in (
            [find("nplus-station"), "keygen", "--out", str(folder), "--name", "station"],
            [find("nplus-gateway"), "keygen", "--out", str(folder), "--name", "hall"],
            [
                find("nplus-station"),
                "enroll",
                "hall",
                str(folder / "hall.pub"),
                "--config",
                str(self.station_config),
            ],
        ):
            status, _, error = await answer(command)
            if status:
                raise RuntimeError(f"{command}: {error}")

    def _second_path(self) -> str:
        if not self.second:
            return ""
        address = f"tcp://{self.second}:{self.port}"
        return f'[[station.path]]\nname = "lte"\naddress = "{address}"\nmetered = true\n'

    def station(self) -> Program:
        command = [find("nplus-station"), "run", "--config", str(self.station_config)]
        return Program(command, log=self.folder / "station.log")

    def gateway(self) -> Program:
        run = [find("nplus-gateway"), "run", "--config", str(self.gateway_config)]
        return Program([*self.inside, *run], log=self.folder / "gateway.log")

    def ledger(self) -> "closing[sqlite3.Connection]":
        path = self.folder / "station" / "station.db"
        return closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None))

    def rows(self) -> int:
        """Return how many events the station has committed."""
        try:
            with self.ledger() as connection:
                return int(connection.execute("SELECT count(*) FROM event").fetchone()[0])
        except sqlite3.OperationalError:
            return 0

    def answering(self) -> bool:
        """Tell whether the station's program answers."""
        try:
            request_one(self.folder / "s.sock", {"request": "status"})
        except NplusError:
            return False
        return True

    def stored(self) -> int:
        """Return up to which number of the gateway's log the station holds every event."""
        rows: list[dict[str, Any]] = request_one(self.folder / "s.sock", {"request": "gateways"})
        return next((row["seq"] or 0 for row in rows if row["name"] == "hall"), 0)


async def until(true: Callable[[], bool], what: str, *, within_s: float = 60.0) -> None:
    """Wait until something is so. Raises `RuntimeError` with `what` when it takes too long."""
    end = time.monotonic() + within_s
    while not await asyncio.to_thread(true):
        if time.monotonic() > end:
            raise RuntimeError(f"not within {within_s:.0f} s: {what}")
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[tuple[Program, Program]]:
    """Run both programs until the station has committed the gateway's first events."""
    async with site.station() as station, site.gateway() as gateway:
        end = time.monotonic() + 30
        while not site.rows():
            if time.monotonic() > end:
                raise RuntimeError(f"no event at the station\n{gateway.last_words(20)}")
            await asyncio.sleep(0.05)
        await asyncio.sleep(2.0)
        yield station, gateway
