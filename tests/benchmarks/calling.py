"""Parts called one after another: each bounded in time, none able to end the others."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec

from hil.parts.programs import leashed
from tests.benchmarks.figures import Measured
from tests.benchmarks.parts import Part

TOTAL_S = 25 * 60.0
LAST_WORDS = 300  # characters of an error that fit a row
ROOT = Path(__file__).parent.parent.parent


class Clock:
    """What is left of the time of a whole call."""

    def __init__(self, total_s: float = TOTAL_S) -> None:
        self._end = time.monotonic() + total_s

    def left_s(self) -> float:
        return self._end - time.monotonic()


def call(
    name: str, part: Part, scratch: Path, clock: Clock, *, quick: bool
) -> dict[str, Measured]:
    """Run a part; return a result for each of its rows, whatever happened."""
    limit_s = min(part.limit_s, clock.left_s())
    if limit_s <= 0:
        return _failed(part, f"no time left: all parts together may take {TOTAL_S / 60:.0f} min")
    words = [name, str(scratch), *(["quick"] if quick else [])]
    command = [*_alone(part), sys.executable, "-m", "tests.benchmarks.worker", *words]
    try:
        out = run(command, limit_s, scratch / f"{name}.log")
        results = msgspec.json.decode(out.splitlines()[-1], type=dict[str, Measured])
    except (RuntimeError, OSError, IndexError, msgspec.DecodeError) as error:
        return _failed(part, str(error))
    return {
        row.name: results.get(row.name, Measured(failed="was not measured")) for row in part.rows
    }


def run(command: list[str], limit_s: float, log: Path) -> bytes:
    """Run a command with all that it starts, at most for so long; return its standard output.

    Raises `RuntimeError` with its last words when it fails, or takes too long.
    """
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            leashed(command),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        try:
            out, _ = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"took longer than {limit_s:.0f} s") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(_last_words(log) or f"ended with {process.returncode}")
    return out


def failures(results: dict[str, Measured]) -> list[str]:
    """Return what could not be measured, a sentence each. A peer that is not installed is none."""
    found = [f"{name}: {each.failed}" for name, each in results.items() if each.failed]
    for name, each in results.items():
        found += [f"{name}: {peer.name}: {peer.failed}" for peer in each.beside if peer.failed]
    return found


def _failed(part: Part, why: str) -> dict[str, Measured]:
    return {row.name: Measured(failed=why) for row in part.rows}


def _alone(part: Part) -> list[str]:
    """Return what gives a part processes of its own, and a network where it needs one.

    With the first of these processes the kernel ends the others.
    """
    unshare = shutil.which("unshare")
    if unshare is None:
        if part.own_network:
            raise OSError("unshare is not installed; install: apt-get install util-linux")
        return []
    words = [unshare, "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        words += ["--user", "--map-root-user"]
    return [*words, *(["--net"] if part.own_network else [])]


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    told = [line for line in lines if line and not line.startswith(("|", "+", "^"))]
    return " ".join(told[-2:])[-LAST_WORDS:]
