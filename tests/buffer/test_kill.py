"""SIGKILL at random moments. It proves the order of commit and answer, not the disk's honesty."""

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from events.replication import Lane
from events.wire import decode
from tests.buffer.logs import MIB, check_chain, open_log, read

KILLS = 20
ROOT = Path(__file__).parents[2]


def run_and_kill(folder: Path, first: int, after_s: float) -> tuple[set[int], float]:
    """Return the numbers that the child was told are stored, and the age of the last one."""
    command = [sys.executable, "-m", "tests.buffer.killed_child", str(folder), str(first)]
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


def test_what_was_confirmed_survives_every_kill(tmp_path: Path) -> None:
    rng = random.Random(20261124)
    confirmed: set[int] = set()
    seen: set[int] = set()
    log_id, fresh, last_head = "", 0, 0
    for _ in range(KILLS):
        told, age_s = run_and_kill(tmp_path, max(seen, default=0) + 1, rng.uniform(0, 0.15))
        fresh += age_s <= 0.05
        confirmed |= told
        log = open_log(tmp_path, bound_bytes=2 * MIB)
        head = log.head
        assert head.log_id == (log_id or head.log_id), "the file was taken for a damaged one"
        log_id = head.log_id
        assert head.head >= last_head + len(told)
        reading = read(log, Lane.MAIN)
        check_chain(log_id, reading)
        assert log.quick_check() == []
        memory = log.memory()
        log.close()
        stored = [decode(entry.body or b"").observation for entry in reading.entries]
        numbers = [each.value for each in stored if isinstance(each.value, int)]
        assert len(numbers) == len(set(numbers))
        assert told - set(numbers) == set() or head.first > last_head + 1
        seen |= set(numbers) | told
        for each in {(s.point, s.kind, s.subkind): s for s in stored}.values():
            assert memory.latest(each.point, each.kind, each.subkind) == each
        last_head = head.head
    assert confirmed <= seen
    assert fresh >= KILLS * 3 // 4, "kills have to hit a store at work"
