"""A file or folder without the rights to it: named, waited for, and never taken for damage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.buffer.stores import of_devices, records

ROOT = Path(__file__).parents[2]
WITHOUT = "-dac_override,-dac_read_search"  # with these, the bits of a mode mean nothing to root


@pytest.mark.parametrize("how", ["file-unreadable", "file-read-only", "folder-read-only"])
def test_rights_that_are_missing_are_named_and_waited_for(tmp_path: Path, how: str) -> None:
    barred = ["setpriv", f"--inh-caps={WITHOUT}", f"--bounding-set={WITHOUT}"]
    program = [sys.executable, "-m", "tests.buffer.barred_child", str(tmp_path), how]
    done = subprocess.run(
        [*(barred if os.geteuid() == 0 else []), *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["told_s"] < 1.0
    assert str(tmp_path) in told["text"] + told["hint"] or "events.db" in told["text"], told
    assert told["hint"]
    assert told["same_log"]
    left = [each.name for each in tmp_path.iterdir()]
    assert left == ["events.db"], "missing rights are no damage"
    assert of_devices(records(tmp_path)) == [1, 2]
