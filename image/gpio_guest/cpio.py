"""Initial file systems for Linux: the `newc` form of cpio archives.

Form: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel. Several
archives in one file are unpacked one after the other.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO


class Archive:
    """Writes one archive; everything in it belongs to root and bears no time."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._inode = 0

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._entry("TRAILER!!!", 0, b"")

    def directory(self, name: str) -> None:
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name: str, data: bytes, *, executable: bool = False) -> None:
        self._entry(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def link(self, name: str, target: str) -> None:
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, name: str, major: int, minor: int) -> None:
        self._entry(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def tree(self, folder: Path, below: str = "") -> None:
        """Add everything in a folder, under `below`."""
        for path in sorted(folder.rglob("*")):
            name = str(Path(below) / path.relative_to(folder))
            if path.is_symlink():
                self.link(name, str(path.readlink()))
            elif path.is_dir():
                self.directory(name)
            else:
                self.file(name, path.read_bytes(), executable=os.access(path, os.X_OK))

    def _entry(self, name: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        path = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._padded(header + path)
        self._padded(data)

    def _padded(self, data: bytes) -> None:
        self._target.write(data + bytes(-len(data) % 4))
