"""The bench's end of the pin socket, as a test needs it: it moves lines and notes what it hears."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any, Self


class Bench:
    """Listens at `path`; `levels` are what its lines read when a gateway connects."""

    def __init__(self, path: Path, levels: dict[str, int] | None = None) -> None:
        self.path = path
        self.levels = dict(levels or {})
        self.heard: list[dict[str, Any]] = []
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._changed = asyncio.Event()
        self._syncs = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.hang_up()
        assert self._server is not None
        self._server.close()
        self.path.unlink(missing_ok=True)

    async def hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            await asyncio.sleep(0)

    async def connected(self) -> None:
        await self.hears("hello")

    async def hears(self, key: str, value: object = None) -> dict[str, Any]:
        """Wait for a message with a key (and value), and return it."""
        async with asyncio.timeout(10):
            while True:
                for message in self.heard:
                    if key in message and value in (None, message[key]):
                        return message
                self._changed.clear()
                await self._changed.wait()

    def move(self, pin: str, level: int, **more: object) -> float:
        """Move a line; return a moment just before."""
        self.levels[pin] = level
        before = time.monotonic()
        self.say({"pin": pin, "level": level, **more})
        return before

    def say(self, message: object) -> None:
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data: bytes) -> None:
        assert self._writer is not None
        self._writer.write(data)

    async def settled(self) -> None:
        """Wait until the gateway has applied all that was said."""
        self._syncs += 1
        self.say({"sync": self._syncs})
        await self.hears("ack", self._syncs)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        writer.write(json.dumps({"levels": self.levels}).encode() + b"\n")
        try:
            while line := await reader.readline():
                self.heard.append(json.loads(line))
                self._changed.set()
        except ConnectionError:
            pass
        finally:
            writer.close()
