"""A mounted filesystem whose power can be cut, and what each cut leaves, mounted beside it.

For a process that has a mount namespace of its own (`hil.parts.namespaces`). Synchronous.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from hil.parts.volatile_disk import Policy

PROGRAMS = ("blockdev", "e2fsck", "mkfs.ext4", "mount", "umount")
DEVICES = ("/dev/fuse", "/dev/loop-control")
DISK_BYTES = 32 * 1024 * 1024
_REPAIRED = (0, 1, 2)  # exit statuses of e2fsck: clean, repaired, repaired but start again
_REPAIR = ("e2fsck", "-f", "-y")
_FORMAT = ("mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0", "-J", "size=4")


class CuttableDisk:
    """An ext4 on a disk with a volatile cache, mounted at `folder`/mounted."""

    def __init__(self, folder: Path) -> None:
        """Take an empty folder, in memory for speed: three times `DISK_BYTES` at most."""
        self.mounted = folder / "mounted"
        self.cut_s = 0.0  # monotonic time of the newest cut
        self.lost_sectors = 0
        self.repaired = 0  # how many of the filesystems that cuts left had to be
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._disk = self._serve(stack)
            file = self._folder / "disk"
            stack.callback(_run, "umount", str(file))
            _run(*_FORMAT, str(file))
            _mount(file, self.mounted)
            stack.callback(_run, "umount", str(self.mounted))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _serve(self, stack: ExitStack) -> subprocess.Popen[str]:
        file = self._folder / "disk"
        file.touch()
        disk = subprocess.Popen(
            [sys.executable, "-m", "hil.parts.volatile_disk", str(file), str(DISK_BYTES)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, disk)
        if disk.stdout is None or disk.stdout.readline() != "serving\n":
            raise RuntimeError("the disk with the volatile cache does not serve")
        return disk

    @contextmanager
    def cut(self, policy: Policy, seed: int) -> Iterator[Path]:
        """Cut the power, for a copy of the disk alone, and yield where the copy is mounted.

        The disk itself goes on: one run gives many cuts that know nothing of each other.
        """
        image, place = self._folder / "image", self._folder / "left"
        if self._disk.stdin is None or self._disk.stdout is None:
            raise RuntimeError("the disk has no lines to command it by")
        self._disk.stdin.write(f"cut {policy} {seed} {image}\n")
        self._disk.stdin.flush()
        done = json.loads(self._disk.stdout.readline())
        self.cut_s = float(done["at_s"])
        self.lost_sectors += int(done["lost"])
        try:
            _mount(image, place)
        except RuntimeError:
            # ext4's superblock is two sectors under one checksum: half of a write of it cannot be
            # mounted. Machines repair that at boot (fsck.repair=yes), and so does this one.
            _repair(image)
            self.repaired += 1
            _mount(image, place)
        try:
            yield place
        finally:
            _run("umount", str(place))


def _mount(file: Path, place: Path) -> None:
    place.mkdir(exist_ok=True)
    _let_loops_be_written()
    _run("mount", "-o", "loop", str(file), str(place))


def _let_loops_be_written() -> None:
    """Undo what `blockdev --setro` leaves on a loop device after its file is gone."""
    for flag in Path("/sys/block").glob("loop*/ro"):
        if flag.read_text().strip() == "1" and not (flag.parent / "loop").exists():
            _run("blockdev", "--setrw", f"/dev/{flag.parent.name}")


def _repair(image: Path) -> None:
    command = (*_REPAIR, str(image))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in _REPAIRED:
        raise RuntimeError(f"e2fsck: {done.returncode}: {done.stdout.strip()}")


def _run(*command: str) -> None:
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


def _end(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
