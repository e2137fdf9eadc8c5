"""A real station program with a real configuration, and gateways that are uplinks over lists."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from buffer.clock import SystemClock
from events.model import Observation, Record
from events.wire import encode
from hil.parts.network import free_port
from station.store import Store
from sync import peers
from sync.keys import keygen, read_public, read_secret
from sync.zmq_source import Uplink
from tests.station.gateway_log import GatewayLog
from tests.sync.fakes import ListLog

PROGRAM = [sys.executable, "-c", "from station.cli import main; main()"]
CLOCK = SystemClock()


class Site:
    """One station in a folder."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.port = free_port()
        self.config = folder / "station.toml"
        keygen(folder, "centre")
        given: dict[str, object] = {
            "name": "centre",
            "data_dir": "data",
            "key_file": "centre.key",
            "listen": f"127.0.0.1:{self.port}",
            "gateways_dir": "gateways",
            "socket": "s.sock",
            "lost_after_s": 5.0,
        } | settings
        lines = [f"{key} = {json.dumps(value)}" for key, value in given.items()]
        self.config.write_text("[station]\n" + "\n".join(lines) + "\n")

    def command(self, *words: str, config: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        place = ["--config", str(self.config)] if config else []
        return subprocess.run(
            [*PROGRAM, *words, *place], capture_output=True, text=True, timeout=60, check=False
        )

    def enrol(self, name: str) -> None:
        keygen(self.folder, name)
        done = self.command("enroll", name, str(self.folder / f"{name}.pub"))
        assert done.returncode == 0, done.stderr

    def events(self, *words: str) -> list[dict[str, Any]]:
        done = self.command("events", "--json", *words)
        assert done.returncode in {0, 69}, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def gateways(self) -> dict[str, dict[str, Any]]:
        done = self.command("gateways", "--json")
        assert done.returncode == 0, done.stderr
        return {row["name"]: row for row in json.loads(done.stdout)}

    @contextmanager
    def station(self) -> Iterator["Running"]:
        """Run the station until the end of the block."""
        running = Running(self)
        try:
            running.wait_ready()
            yield running
        finally:
            running.kill()

    @asynccontextmanager
    async def gateway(
        self, name: str, log: ListLog, *, detours: Sequence[int] = (), claims: str = ""
    ) -> AsyncIterator[Uplink]:
        """Connect a gateway that offers `log`, under `claims` where that is another name.

        path-0 leads straight to the station, path-1 and so on through the ports in `detours`.
        """
        centre = peers.Station(
            name="centre",
            public_key=read_public(self.folder / "centre.pub"),
            paths=tuple(
                peers.Path(name=f"path-{number}", address=f"127.0.0.1:{port}")
                for number, port in enumerate((self.port, *detours))
            ),
        )
        uplink = Uplink(
            [centre],
            log=log,
            clock=CLOCK,
            secret_key=read_secret(self.folder / f"{name}.key"),
            name=claims or name,
            program="test",
            on_fault=lambda _: None,
        )
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(uplink.run())
            try:
                yield uplink
            finally:
                task.cancel()


def fill(site: Site, *bodies: tuple[str, bytes]) -> None:
    """Put events into the ledger of a station that is not running: gateway and body of each."""

    async def work() -> None:
        async with Store(site.folder / "data", clock=CLOCK) as store:
            logs: dict[str, GatewayLog] = {}
            for gateway, body in bodies:
                log = logs.setdefault(gateway, GatewayLog())
                seq = log.append(body)
                await store.commit(gateway, log.main(seq, seq), CLOCK.now())

    asyncio.run(work())


class Running:
    """A running station; its log lines are in a file."""

    def __init__(self, site: Site) -> None:
        self.log = site.folder / "station.log"
        self._from = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, "run", "--config", str(site.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def lines(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._from)
            return log.read().decode()

    def wait_for(self, words: str, limit_s: float = 20.0) -> None:
        until(lambda: words in self.lines() or self.process.poll() is not None, limit_s)
        assert words in self.lines(), self.lines()

    def wait_ready(self) -> None:
        self.wait_for("station ready")

    def stop(self, limit_s: float = 5.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Lines:
    """What a command prints, while it runs, each line with the time of its coming."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self.process.stdout is not None
        self._out: IO[bytes] = self.process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._pending = b""
        self.read: list[dict[str, Any]] = []

    def more(self) -> list[dict[str, Any]]:
        while data := self._out.read():
            *lines, self._pending = (self._pending + data).split(b"\n")
            self.read += [json.loads(line) for line in lines]
        return self.read

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def alarm(point: str, qualifier: str = "new", *, urgent: bool = True) -> bytes:
    record = Record(
        stamp=CLOCK.stamp(CLOCK.now()),
        observation=Observation(point=point, kind="alarm", subkind="panic", qualifier=qualifier),
        urgent=urgent,
    )
    return encode(record)


def until(true: Callable[[], bool], limit_s: float) -> None:
    """Wait until something is true; give up, without a word, at the limit."""
    end = time.monotonic() + limit_s
    while not true() and time.monotonic() < end:
        time.sleep(0.05)


async def until_async(true: Callable[[], bool], limit_s: float) -> None:
    """Wait until something is true, the loop going on; fail at the limit."""
    async with asyncio.timeout(limit_s):
        while not await asyncio.to_thread(true):  # noqa: ASYNC110 - another process sets no event
            await asyncio.sleep(0.05)


@asynccontextmanager
async def detour(port: int) -> AsyncIterator[int]:
    """Pass connections on to `port` until the end of the block, then cut them all."""
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            writers.extend((writer, far_writer))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(pump(reader, far_writer))
                tasks.create_task(pump(far_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.1)  # for the pumps to notice
