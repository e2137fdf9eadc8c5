"""Processes alone with their mounts and networks: when they end, nothing of theirs is left."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from hil.parts.programs import leashed


def missing(*programs: str, devices: Sequence[str] = ()) -> list[str]:
    """Return what this machine lacks for a rig that needs namespaces and the given programs."""
    wanted = ("unshare", *programs)
    lacking = [] if os.geteuid() == 0 else ["root"]
    lacking += [name for name in wanted if shutil.which(name) is None]
    return lacking + [device for device in devices if not Path(device).exists()]


def alone(command: Sequence[str], *, network: bool = False) -> list[str]:
    """Return the command in a form that has mounts and processes of its own.

    Its mounts vanish, and everything that it started is killed, when it ends or this process does.
    """
    unshare = shutil.which("unshare") or "unshare"
    own = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    if network:
        own.append("--net")
    return leashed([unshare, *own, "--mount-proc", *command])
