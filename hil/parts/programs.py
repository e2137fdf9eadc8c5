"""The programs under test, as processes: started, killed, started again, stopped."""

import asyncio
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from events.errors import UnavailableError

STOP_WITHIN_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024 * 1024

# A program of the bench must not outlive it, even when the bench itself is killed:
# prctl(PR_SET_PDEATHSIG, SIGKILL), which survives exec, in a process of its own group.
_DIE_WITH_THE_BENCH = """
import ctypes, os, sys
parent = int(sys.argv[1])
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def find(name: str) -> str:
    """Return the path of one of our commands: beside this Python, else on the path."""
    beside = Path(sys.executable).parent / name
    if beside.is_file():
        return str(beside)
    if found := shutil.which(name):
        return found
    raise UnavailableError(f"{name} is not installed", hint="run: make setup")


def leashed(command: Sequence[str]) -> list[str]:
    """Return the command in a form that dies with this process."""
    python = [sys.executable, "-I", "-S", "-c", _DIE_WITH_THE_BENCH, str(os.getpid())]
    return [*python, *command]


def signal_to(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended.

    `Process.kill` would ask for its status first, and take it away from the loop that waits for it.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


class Program:
    """One program of the product. Its output goes to `log`, appended over all its lives."""

    def __init__(
        self, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        self.lives: list[tuple[float, float]] = []  # monotonic start and end of each; inf = alive
        self._command = leashed(command)
        self._environment = {**os.environ, **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(TimeoutError):
            await self.stop()
        self.kill()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    @property
    def returncode(self) -> int | None:
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Start it; does not wait until it is ready. Does nothing while it runs."""
        if self.running:
            return
        self.lives.append((time.monotonic(), math.inf))  # a moment too early rather than too late
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Send SIGKILL, now: no last words."""
        if self._process and self.running:
            signal_to(self._process, signal.SIGKILL)
            self._end()

    async def ended(self) -> int:
        """Wait for its end; returns its exit status, negative for a signal."""
        return await self._process.wait() if self._process else 0

    async def stop(self, within_s: float = STOP_WITHIN_S) -> int:
        """Ask it to stop. Raises `TimeoutError`, and kills it, when it does not."""
        if self._process and self.running:
            signal_to(self._process, signal.SIGTERM)
            try:
                async with asyncio.timeout(within_s):
                    await self._process.wait()
            except TimeoutError:
                self.kill()
                await self._process.wait()
                raise
            finally:
                self._end()
        return self._process.returncode or 0 if self._process else 0

    def _end(self) -> None:
        start, end = self.lives[-1]
        self.lives[-1] = (start, min(end, time.monotonic()))

    def last_words(self, lines: int = 5) -> str:
        """Return the end of its log, for whoever must find out why it ended."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""


async def answer(command: Sequence[str], *, within_s: float = 20.0) -> tuple[int, bytes, str]:
    """Run a command to its end; returns exit status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=ANSWER_BYTES_MAX,
    )
    try:
        async with asyncio.timeout(within_s):
            out, err = await process.communicate()
    except BaseException:
        signal_to(process, signal.SIGKILL)
        await process.wait()
        raise
    return process.returncode or 0, out, err.decode(errors="replace").strip()
