"""The machine and the versions under a table: without them a figure says nothing."""

import os
import platform
import re
import shutil
import sqlite3
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import zmq

from tests.benchmarks.peers import tools


def facts() -> dict[str, str]:
    """Return what a reader needs to compare: processor, kernel, disk, versions, peers."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{_memory_bytes() / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "disk": _disk(Path(tempfile.gettempdir())),
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "pyzmq": f"{version('pyzmq')} (libzmq {zmq.zmq_version()})",
        "pymodbus": version("pymodbus"),
        "N+ gateway": f"{version('nplus-gateway')} {_commit()}".rstrip(),
        **tools.versions(),
    }


def caption(known: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in known.items())


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _disk(folder: Path) -> str:
    """Return device and filesystem under `folder`, from the longest mount point above it."""
    best = ("?", "", "?")
    for line in Path("/proc/mounts").read_text().splitlines():
        device, point, kind = line.split()[:3]
        if folder.is_relative_to(point) and len(point) >= len(best[1]):
            best = (device, point, kind)
    return f"{best[2]} on {best[0]}"


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    told = subprocess.run(
        [git, "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
        text=True,
    )
    return told.stdout.strip()
