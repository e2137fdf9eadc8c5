import asyncio
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from events.errors import UnavailableError
from hil.parts.programs import Program, answer, find, leashed
from hil.parts.waiting import until

PATIENT = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + PATIENT


async def logged(program: Program, count: int = 1) -> None:
    def ready() -> bool:
        return program.log.exists() and program.log.read_text().count("up") == count

    await until(ready, within_s=20, what="the program")


def test_a_program_is_killed_and_started_again(tmp_path: Path) -> None:
    async def run() -> None:
        async with Program([sys.executable, "-c", PATIENT], log=tmp_path / "log") as program:
            await logged(program)
            first = program.pid
            program.kill()
            assert await program.ended() == -signal.SIGKILL
            await program.start()
            await logged(program, 2)
            assert program.pid != first
            assert len(program.lives) == 2
            (start, end), (again, open_end) = program.lives
            assert start < end < again < open_end == math.inf
            assert program.last_words() == "up\nup"
        assert not psutil.pid_exists(program.pid)

    asyncio.run(run())


def test_a_clean_stop_gives_the_exit_status(tmp_path: Path) -> None:
    script = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7));" + PATIENT

    async def run() -> None:
        async with Program([sys.executable, "-c", script], log=tmp_path / "log") as program:
            await logged(program)
            assert await program.stop() == 7

    asyncio.run(run())


def test_a_program_that_does_not_stop_is_killed_and_named(tmp_path: Path) -> None:
    async def run() -> None:
        async with Program([sys.executable, "-c", STUBBORN], log=tmp_path / "log") as program:
            await logged(program)
            with pytest.raises(TimeoutError):
                await program.stop(0.2)
            assert program.returncode == -signal.SIGKILL

    asyncio.run(run())


def test_no_program_outlives_a_killed_bench(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    child = f"import os, pathlib; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()));{PATIENT}"
    bench = (
        "import subprocess, sys, time; from hil.parts.programs import leashed;"
        f"subprocess.Popen(leashed([sys.executable, '-c', {child!r}])); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", bench], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    pid = int(pid_file.read_text())
    assert psutil.pid_exists(pid)
    process.kill()
    process.wait()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_environment_of_a_program_is_added_to_ours(tmp_path: Path) -> None:
    script = "import os; print(os.environ['HIL_GPIO'], 'PATH' in os.environ)"

    async def run() -> None:
        command = [sys.executable, "-c", script]
        async with Program(
            command, log=tmp_path / "log", environment={"HIL_GPIO": "x"}
        ) as program:
            assert await program.ended() == 0
        assert program.last_words() == "x True"

    asyncio.run(run())


def test_an_answer_is_read_whole(tmp_path: Path) -> None:
    script = "import sys; print('x' * 1_000_000); print('why', file=sys.stderr); sys.exit(69)"
    code, out, err = asyncio.run(answer([sys.executable, "-c", script]))
    assert (code, len(out), err) == (69, 1_000_001, "why")


def test_a_command_that_hangs_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(answer([sys.executable, "-c", PATIENT], within_s=0.3))


def test_our_commands_are_found_and_a_missing_one_is_named() -> None:
    assert Path(find("nplus-hil")).is_file()
    with pytest.raises(UnavailableError, match="no-such-command"):
        find("no-such-command")


def test_a_leash_keeps_arguments_apart() -> None:
    command = leashed([sys.executable, "-c", "import sys; print(sys.argv[1:])", "a b", "--c"])
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        == "['a b', '--c']\n"
    )
