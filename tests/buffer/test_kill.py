"""SIGKILL at random moments. It proves the order of commit and answer, not the disk's honesty."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from events.replication import Lane
from events.wire import decode
from tests.buffer.logs import MIB, check_chain, open_log, read

ROOT = Path(__file__).parents[2]


def run_and_kill(folder: Path, *given: int, after_s: float) -> tuple[set[int], float]:
    """Return the numbers that the child was told are stored, and the age of the last one."""
    command = [sys.executable, "-m", "tests.buffer.killed_child", str(folder), *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        pipe = child.stdout.fileno()
        heard = os.read(pipe, 1 << 16)  # it runs
        assert heard
        last = time.monotonic()
        end = last + after_s
        while (left := end - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                heard += os.read(pipe, 1 << 16)
                last = time.monotonic()
        child.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        while more := os.read(pipe, 1 << 16):
            heard += more
        assert child.wait() == -signal.SIGKILL
    whole = heard[: heard.rfind(b"\n")]
    return {int(line) for line in whole.split(b"\n")}, killed - last


@pytest.mark.parametrize(
    ("kills", "bound_bytes", "lag"),
    [
        (12, 256 * MIB, 10**9),  # no station: everything has to be there
        (10, MIB, 200),  # a station that keeps up: the log turns over while it is killed
    ],
)
def test_what_was_confirmed_survives_every_kill(
    tmp_path: Path, kills: int, bound_bytes: int, lag: int
) -> None:
    rng = random.Random(kills)
    log_id, newest, fresh, first, last = "", 0, 0, 1, 0
    stored: set[int] = set()
    turns_over = bound_bytes == MIB
    runs = 0
    while runs < kills or (turns_over and first == 1 and runs < 5 * kills):  # a slow disk
        runs += 1
        after_s = rng.uniform(0, 0.15)
        told, age_s = run_and_kill(tmp_path, newest + 1, bound_bytes, lag, after_s=after_s)
        fresh += age_s <= 0.05
        log = open_log(tmp_path, bound_bytes=bound_bytes)
        head = log.head
        assert head.log_id == (log_id or head.log_id), "the file was taken for a damaged one"
        log_id = head.log_id
        assert head.head >= last + len(told)
        first, last = head.first, head.head
        reading = read(log, Lane.MAIN)
        check_chain(log_id, reading)
        assert log.quick_check() == []
        memory = log.memory()
        log.close()
        seen = [decode(entry.body or b"").observation for entry in reading.entries]
        numbers = [each.value for each in seen if isinstance(each.value, int)]
        assert len(numbers) == len(set(numbers))
        stored |= set(numbers)
        if first == 1:
            assert told <= stored
        newest = max(stored | told)
        for each in {(s.point, s.kind, s.subkind): s for s in seen}.values():
            assert memory.latest(each.point, each.kind, each.subkind) == each
    assert (first > 1) is turns_over, "one case trims, the other does not"
    assert fresh >= runs * 3 // 4, "kills have to hit a store at work"
