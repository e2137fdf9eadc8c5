"""A gateway as a real process, with pins of the bench and a receiver's port, in one folder."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hil.parts.journal import Journal
from hil.parts.pins import Contact, PinBoard
from sync.keys import keygen

COMMAND = Path(sys.executable).parent / "nplus-gateway"
PATIENCE_S = 30.0
ROOT = Path(__file__).parent.parent.parent

CONFIGURATION = """
[gateway]
name = "hall"
data_dir = "data"
key_file = "hall.key"
socket = "hall.sock"
bench = true

[[station]]
name = "east"
public_key_file = "east.pub"
path = [{ name = "loop", address = "127.0.0.1:9" }]

[gpio]
factory = "bench"
bench_socket = "pins.sock"
[[gpio.point]]
id = "lobby/panic"
line = 5
contact = "no"
qualify_ms = 20
kind = "alarm"
subkind = "panic"
[[gpio.point]]
id = "lobby/door"
line = 6
contact = "nc"
qualify_ms = 20
kind = "status"
subkind = "door"
"""

RECEIVER = """
[[receiver]]
id = "dialler"
format = "mlr2"
port = { path = "receiver" }
"""


class Site:
    """`async with`: everything that was started ends with it, whatever the test did."""

    def __init__(
        self,
        folder: Path,
        *,
        more: str = "",
        bench: bool = True,
        contacts: tuple[Contact, ...] = (),
    ) -> None:
        self.folder = folder
        self.file = folder / "gateway.toml"
        self.process: asyncio.subprocess.Process | None = None
        self.log = folder / "log"
        for name in ("hall", "east"):
            keygen(folder, name)
        text = CONFIGURATION + more
        self.file.write_text(text if bench else text.replace("bench = true", "bench = false"))
        self.pins = PinBoard(
            folder / "pins.sock",
            [
                Contact(point="lobby/panic", pin="GPIO5"),
                Contact(point="lobby/door", pin="GPIO6", contact="nc"),
                *contacts,
            ],
            Journal("pins"),
        )

    async def __aenter__(self) -> Self:
        await self.pins.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await self.pins.__aexit__(None, None, None)

    async def start(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        watching: bool = True,
        program: Sequence[str] = (str(COMMAND),),
    ) -> None:
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *program,
                "run",
                "--config",
                self.file,
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, **(environment or {})},
            )
        if watching:
            await self.until(lambda: self.pins.watched)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; return the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return await self.process.wait()

    async def command(self, *words: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            COMMAND,
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return await process.wait(), out.decode(), err.decode()

    async def ask(self, *words: str) -> tuple[int, str, str]:
        return await self.command(*words, "--config", str(self.file))

    async def status(self) -> dict[str, Any]:
        code, out, err = await self.ask("status", "--json")
        assert code == 0, err
        status: dict[str, Any] = json.loads(out)
        return status

    async def events(self) -> list[dict[str, Any]]:
        code, out, err = await self.ask("tail", "--after", "0", "--json")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    async def until(self, holds: Callable[[], bool | Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = holds()
                if answer if isinstance(answer, bool) else await answer:
                    return
                assert self.process is None or self.process.returncode is None, self.said()
                await asyncio.sleep(0.05)

    async def event(self, subkind: str, qualifier: str = "new", point: str = "") -> dict[str, Any]:
        """Wait for an event; return the newest one that fits."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            found[:] = [
                each
                for each in await self.events()
                if (each["subkind"], each["qualifier"]) == (subkind, qualifier)
                and point in ("", each["point"])
            ]
            return bool(found)

        await self.until(there)
        return found[-1]

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""
