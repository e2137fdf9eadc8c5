"""The station's list as anybody can read it: `nplus-station events`, followed and asked again."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence

import msgspec

from events.errors import UnavailableError
from hil.account import Row
from hil.parts.programs import ANSWER_BYTES_MAX, answer, leashed, signal_to

ROWS_MAX = 500_000
_rows = msgspec.json.Decoder(Row)


class Ledger:
    """The station's events, as the command prints them.

    `rows` holds what the followed list has shown so far, `shown_s` when each `n` appeared.
    """

    def __init__(self, command: Sequence[str]) -> None:
        """Take the command that lists events, without `--follow`."""
        self.rows: list[Row] = []
        self.shown_s: dict[int, float] = {}
        self._command = list(command)
        self._listeners: list[Callable[[Row], None]] = []
        self._begun = asyncio.Event()

    def listen(self, listener: Callable[[Row], None]) -> None:
        """Call `listener` with every later row of the followed list."""
        self._listeners.append(listener)

    def begin(self) -> None:
        """Let `follow` begin: there is a station now."""
        self._begun.set()

    async def follow(self) -> None:
        """Follow the list until cancelled; takes it up again where it was when the command ends."""
        await self._begun.wait()
        while True:
            after = self.rows[-1].n if self.rows else 0
            await self._follow_once(after)
            await asyncio.sleep(0.2)

    async def whole(self) -> list[Row]:
        """Return the whole list, asked for anew. Raises `UnavailableError`."""
        status, out, complaint = await answer(self._command)
        if status != 0:
            raise UnavailableError(f"the station does not list its events: {complaint}")
        return [_rows.decode(line) for line in out.splitlines() if line.strip()]

    async def _follow_once(self, after: int) -> None:
        command = [*self._command, "--after", str(after), "--follow"]
        process = await asyncio.create_subprocess_exec(
            *leashed(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=ANSWER_BYTES_MAX,
            start_new_session=True,
        )
        try:
            if process.stdout is not None:
                async for line in process.stdout:
                    self._take(_rows.decode(line))
        finally:
            signal_to(process, signal.SIGKILL)
            await process.wait()

    def _take(self, row: Row) -> None:
        if len(self.rows) >= ROWS_MAX:
            raise OverflowError("the station's list is longer than any run of the bench")
        self.rows.append(row)
        self.shown_s[row.n] = time.monotonic()
        for listener in self._listeners:
            listener(row)
