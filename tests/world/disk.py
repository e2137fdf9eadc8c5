"""Disks that forget what was not synced: SQLite's own file layer with a memory of every write.

A shim over SQLite's default VFS, made of the library that Python itself uses. Four of its file
methods pass through here, so a disk sees every write, truncation and sync that SQLite really makes:
nobody has to believe a pragma. Between two syncs the old and the new bytes of each write are kept,
and a power cut makes of them what a drive with a volatile cache may leave behind.
"""

import _sqlite3
import ctypes
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_int64, c_void_p, cast
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

SECTOR = 512

_OK = 0
_BUSY = sqlite3.SQLITE_BUSY
_FULL = sqlite3.SQLITE_FULL
_READONLY = sqlite3.SQLITE_READONLY
_CANTOPEN = sqlite3.SQLITE_CANTOPEN
_IOERR_WRITE = sqlite3.SQLITE_IOERR_WRITE
_IOERR_FSYNC = sqlite3.SQLITE_IOERR_FSYNC

# Names are passed on as the pointers they are: SQLite keeps them, and reads behind their end.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Sleep = CFUNCTYPE(c_int, c_void_p, c_int)
_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_Lock = CFUNCTYPE(c_int, c_void_p, c_int)


class _Vfs(Structure):
    """`sqlite3_vfs` of sqlite3.h, version 3."""

    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("path_max", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
        ("access", c_void_p),
        ("full_path", c_void_p),
        ("libraries", c_void_p * 4),
        ("randomness", c_void_p),
        ("sleep", c_void_p),
        ("rest", c_void_p * 6),
    )


class _Methods(Structure):
    """`sqlite3_io_methods` of sqlite3.h, version 3."""

    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("size", c_void_p),
        ("lock", c_void_p),
        ("rest", c_void_p * 11),
    )


class DiskFault(StrEnum):
    FULL = "full"
    READ_ONLY = "read-only"
    IO_ERROR = "I/O error"
    LOCKED = "locked"


class Kept(StrEnum):
    """What of the unsynced writes a power cut leaves on the disk."""

    NONE = "none"
    ALL = "all"
    FIRST = "first"  # those before some moment
    SOME = "some"  # any sectors, in no order


@dataclass(slots=True)
class _Change:
    """One unsynced write, or truncation (`new` is None)."""

    offset: int
    old: bytes
    new: bytes | None
    size_before: int


@dataclass(slots=True)
class _File:
    path: str
    descriptor: int
    size: int
    pending: list[_Change] = field(default_factory=list)


@dataclass(eq=False)
class Disk:
    """One folder on one machine.

    before_write: called, if there is one, with the path of the file before each write: the moment
        for a fault.
    """

    folder: Path
    fault: DiskFault | None = None
    before_write: Callable[[str], None] | None = None
    files: dict[str, _File] = field(default_factory=dict)
    writes: int = 0
    syncs: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _disks[str(self.folder)] = self

    def unmount(self) -> None:
        _disks.pop(str(self.folder), None)

    def unsynced(self) -> int:
        return sum(len(each.pending) for each in self.files.values())

    def copy_to(self, folder: Path) -> None:
        """Copy the files as a process would find them that starts after this one was killed."""
        folder.mkdir(parents=True, exist_ok=True)
        for each in os.scandir(self.folder):
            if each.is_file() and not each.name.endswith("-shm"):
                shutil.copyfile(each.path, f"{folder}/{each.name}")

    def cut_to(self, folder: Path, kept: Kept, chance: random.Random) -> None:
        """Copy the files as they are found after a power cut at this moment."""
        self.copy_to(folder)
        for each in self.files.values():
            if each.pending and Path(each.path).exists():
                name = Path(each.path).name
                content = _after_cut((folder / name).read_bytes(), each.pending, kept, chance)
                (folder / name).write_bytes(content)

    def refusal(self, each: _File, end: int) -> int:
        """Return what a write up to `end` is answered with while there is a fault."""
        match self.fault:
            case DiskFault.FULL if end > each.size:
                return _FULL
            case DiskFault.READ_ONLY:
                return _READONLY
            case DiskFault.IO_ERROR:
                return _IOERR_WRITE
            case _:
                return _OK


def _after_cut(content: bytes, pending: list[_Change], kept: Kept, chance: random.Random) -> bytes:
    image = bytearray(content)
    for change in reversed(pending):
        if change.new is None:
            image[change.offset :] = change.old
        else:
            image[change.offset : change.offset + len(change.old)] = change.old
            del image[change.size_before :]
    stop = {Kept.NONE: 0, Kept.FIRST: chance.randrange(len(pending) + 1)}.get(kept, len(pending))
    for change in pending[:stop]:
        if change.new is None:
            if kept is not Kept.SOME or chance.random() < 0.5:
                del image[change.offset :]
            continue
        for at in range(0, len(change.new), SECTOR):
            if kept is Kept.SOME and chance.random() < 0.5:
                continue
            piece = change.new[at : at + SECTOR]
            begin = change.offset + at
            if len(image) < begin:
                image.extend(bytes(begin - len(image)))
            image[begin : begin + len(piece)] = piece
    return bytes(image)


_disks: dict[str, Disk] = {}
_handles: dict[int, tuple[Disk, _File]] = {}
_library = ctypes.CDLL(_sqlite3.__file__)
_methods_made: dict[int, _Methods] = {}
_made_shim: list[_Vfs] = []  # ours, and the one before it
_keep: list[object] = []


def install() -> None:
    """Make this the file layer of every SQLite connection of the process that opens from now on."""
    if _made_shim:
        _register(_made_shim[0], 1)
        return
    find = _library.sqlite3_vfs_find
    find.restype, find.argtypes = POINTER(_Vfs), [c_char_p]
    _library.sqlite3_vfs_register.argtypes = [POINTER(_Vfs), c_int]
    default = find(None).contents
    shim = _Vfs.from_buffer_copy(default)
    shim.name = b"world"
    opening = cast(default.open, _Open)
    deleting = cast(default.delete, _Delete)

    def open_(vfs: int, name: int | None, file: int, flags: int, out: int | None) -> int:
        path = _text(name)
        disk = _disks.get(path.rpartition("/")[0])
        if disk is not None and disk.fault is DiskFault.READ_ONLY:
            return _CANTOPEN
        code: int = opening(vfs, name, file, flags, out)
        if code == _OK and disk is not None and not path.endswith("-shm"):
            _wrap(disk, path, file)
        return code

    def delete(vfs: int, name: int | None, sync_folder: int) -> int:
        path = _text(name)
        disk = _disks.get(path.rpartition("/")[0])
        if disk is not None:
            disk.files.pop(path, None)
        result: int = deleting(vfs, name, sync_folder)
        return result

    def sleep(_vfs: int, microseconds: int) -> int:
        return microseconds  # who waits for a lock waits in virtual time: not at all

    callbacks = (_Open(open_), _Delete(delete), _Sleep(sleep))
    shim.open, shim.delete, shim.sleep = (cast(each, c_void_p) for each in callbacks)
    _keep.append(callbacks)
    _made_shim.extend((shim, default))
    _register(shim, 1)


def uninstall() -> None:
    """Give new connections SQLite's own file layer again."""
    _register(_made_shim[1], 1)


def _register(vfs: _Vfs, default: int) -> None:
    code = _library.sqlite3_vfs_register(ctypes.byref(vfs), default)
    assert code == _OK, code


def _text(name: int | None) -> str:
    return "" if name is None else ctypes.string_at(name).decode()


def _wrap(disk: Disk, path: str, file: int) -> None:
    """Put our methods into an open file."""
    slot = c_void_p.from_address(file)
    if not slot.value:
        return
    methods = _methods_made.get(slot.value)
    if methods is None:
        methods = _methods_made[slot.value] = _made(_Methods.from_address(slot.value))
    descriptor = os.open(path, os.O_RDONLY)
    known = disk.files.get(path)
    each = _File(path, descriptor, os.fstat(descriptor).st_size, known.pending if known else [])
    disk.files[path] = each
    _handles[file] = (disk, each)
    slot.value = ctypes.addressof(methods)


def _made(default: _Methods) -> _Methods:  # noqa: C901 - five functions beside each other
    closing, writing = cast(default.close, _Close), cast(default.write, _Write)
    pread, string_at = os.pread, ctypes.string_at
    truncating, locking = cast(default.truncate, _Truncate), cast(default.lock, _Lock)

    def close(file: int) -> int:
        held = _handles.pop(file, None)
        if held is not None:
            os.close(held[1].descriptor)
        result: int = closing(file)
        return result

    def write(file: int, data: int, amount: int, offset: int) -> int:
        disk, each = _handles[file]
        disk.writes += 1
        if disk.before_write is not None:
            disk.before_write(each.path)
        end = offset + amount
        if disk.fault is not None and (code := disk.refusal(each, end)) != _OK:
            return code
        size = each.size
        old = pread(each.descriptor, amount, offset) if offset < size else b""
        each.pending.append(_Change(offset, old, string_at(data, amount), size))
        if end > size:
            each.size = end
        result: int = writing(file, data, amount, offset)
        return result

    def truncate(file: int, size: int) -> int:
        disk, each = _handles[file]
        if disk.fault is DiskFault.READ_ONLY or disk.fault is DiskFault.IO_ERROR:
            return sqlite3.SQLITE_IOERR_TRUNCATE
        old = os.pread(each.descriptor, max(0, each.size - size), size)
        each.pending.append(_Change(size, old, None, each.size))
        each.size = size
        result: int = truncating(file, size)
        return result

    def sync(file: int, _flags: int) -> int:
        disk, each = _handles[file]
        if disk.fault is DiskFault.IO_ERROR:
            return _IOERR_FSYNC
        disk.syncs += 1
        each.pending.clear()
        return _OK

    def lock(file: int, level: int) -> int:
        disk, _ = _handles[file]
        result: int = _BUSY if disk.fault is DiskFault.LOCKED else locking(file, level)
        return result

    callbacks = (_Close(close), _Write(write), _Truncate(truncate), _Sync(sync), _Lock(lock))
    made = _Methods.from_buffer_copy(default)
    made.close, made.write, made.truncate, made.sync, made.lock = (
        cast(each, c_void_p) for each in callbacks
    )
    _keep.append(callbacks)
    return made
