"""A disk with a volatile cache, for power cuts: one file that the kernel's FUSE serves from here.

A loop device on the file carries a real filesystem. What the block layer flushes arrives here as
an fsync; what was written since then is kept apart, and a cut decides, sector by sector, what of
it has reached the medium: nothing, everything, or a random half (reordered and torn writes).

Speaks the kernel's own protocol on `/dev/fuse` (linux/fuse.h, version 7.31): no library is needed.
Needs root. `python -m hil.parts.volatile_disk FILE BYTES` serves FILE until its input ends; each
input line `cut POLICY SEED IMAGE` writes what a power cut at this instant would leave.
"""

import ctypes
import errno
import json
import os
import random
import stat
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Final, Literal, get_args

Policy = Literal["none", "all", "half"]
"""What reaches the medium of the writes since the last flush."""

POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)
SECTOR_BYTES: Final = 512
BUSY_S: Final = 0.02
WRITES_CACHED_MAX: Final = 6
_PIECE_BYTES: Final = 65_536
_WRITE_BYTES_MAX: Final = 131_072
_REQUEST_BYTES_MAX: Final = _WRITE_BYTES_MAX + 4096

_REQUEST: Final = struct.Struct("<IIQQIIIHH")
_REPLY: Final = struct.Struct("<IiQ")
_INIT: Final = struct.Struct("<IIIIHHIIHHI28x")
_ATTRIBUTES: Final = struct.Struct("<QII6Q10I")
_OPENED: Final = struct.Struct("<QII")
_TRANSFER: Final = struct.Struct("<QQII")  # handle, offset, size, flags; more follows
_TRANSFER_HEAD_BYTES: Final = 40
_WRITTEN: Final = struct.Struct("<II")
_STATFS: Final = struct.Struct("<5Q4I24x")

_GETATTR, _SETATTR, _OPEN, _READ, _WRITE = 3, 4, 14, 15, 16
_STATFS_CODE, _RELEASE, _FSYNC, _FLUSH, _INIT_CODE, _DESTROY = 17, 18, 20, 25, 26, 38
_NO_ANSWER: Final = frozenset({2, 36, 42})  # FORGET, INTERRUPT, BATCH_FORGET
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22
_KEEP_CACHE: Final = 2
_FOREVER_S: Final = 86_400

_CONSTANT: Final[dict[int, bytes]] = {
    _OPEN: _OPENED.pack(1, _KEEP_CACHE, 0),
    _INIT_CODE: _INIT.pack(
        *(7, 31, 131_072, _BIG_WRITES | _MAX_PAGES, 16, 12),
        *(_WRITE_BYTES_MAX, 1, _WRITE_BYTES_MAX // 4096, 0, 0),
    ),
    _STATFS_CODE: _STATFS.pack(1 << 20, 1 << 20, 1 << 20, 1, 0, 4096, 255, 4096, 0),
    _RELEASE: b"",
    _FLUSH: b"",
    _DESTROY: b"",
}
"""What is always answered alike."""


class Medium:
    """The sectors: what is on the medium, what the machine sees, and the writes between them."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._durable = bytearray(size_bytes)
        self._seen = bytearray(size_bytes)
        self._cached: list[tuple[int, bytes]] = []
        self._pieces: set[int] = set()  # pieces of the medium that were ever written
        self._lock = threading.Condition()

    def read(self, offset: int, size: int) -> bytes:
        with self._lock:
            return bytes(self._seen[offset : min(offset + size, self.size_bytes)])

    def write(self, offset: int, data: bytes) -> None:
        """Take whole sectors into the cache; the rest of a torn one is filled up."""
        with self._lock:
            self._seen[offset : offset + len(data)] = data
            first = offset - offset % SECTOR_BYTES
            last = -(-(offset + len(data)) // SECTOR_BYTES) * SECTOR_BYTES
            self._cached.append((first, bytes(self._seen[first:last])))
            self._lock.notify_all()

    def flush(self) -> None:
        with self._lock:
            for offset, data in self._cached:
                self._settle(offset, data)
            self._cached.clear()

    def cut(self, policy: Policy, seed: int, image: Path) -> dict[str, float]:
        """Write to `image` what a cut leaves.

        The instant is the first, within `BUSY_S`, at which a random small number of writes are in
        the cache. Returns its monotonic time, and how many cached sectors were kept and lost.
        """
        chance = random.Random(seed)
        kept = lost = 0
        with self._lock, image.open("wb") as file:
            file.truncate(self.size_bytes)
            writes = chance.randrange(WRITES_CACHED_MAX)
            self._lock.wait_for(lambda: len(self._cached) >= writes, BUSY_S)
            at_s = time.monotonic()
            medium = memoryview(self._durable)
            for begin in (piece * _PIECE_BYTES for piece in sorted(self._pieces)):
                os.pwrite(file.fileno(), medium[begin : begin + _PIECE_BYTES], begin)
            for offset, data in self._cached:
                for begin in range(0, len(data), SECTOR_BYTES):
                    if policy == "all" or (policy == "half" and chance.random() < 0.5):
                        sector = data[begin : begin + SECTOR_BYTES]
                        os.pwrite(file.fileno(), sector, offset + begin)
                        kept += 1
                    else:
                        lost += 1
        return {"at_s": at_s, "kept": kept, "lost": lost}

    def _settle(self, offset: int, data: bytes) -> None:
        self._durable[offset : offset + len(data)] = data
        last = (offset + len(data) - 1) // _PIECE_BYTES
        self._pieces.update(range(offset // _PIECE_BYTES, last + 1))


class Served:
    """A medium as one file, answered request by request until it is unmounted."""

    def __init__(self, medium: Medium, place: Path) -> None:
        """Mount over the file `place`. Raises `OSError`."""
        self._medium = medium
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=100000,user_id=0,group_id=0,allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.mount(
            b"nplus-volatile", os.fsencode(place), b"fuse.nplus", 0, options.encode()
        )
        if done != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(place))

    def run(self) -> None:
        """Answer until the file is unmounted."""
        while True:
            try:
                request = os.read(self._device, _REQUEST_BYTES_MAX)
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                if error.errno == errno.ENOENT:  # the request was withdrawn
                    continue
                raise
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        _, code, unique, *_ = _REQUEST.unpack_from(request)
        if code in _NO_ANSWER:
            return
        answer = self._act(code, request[_REQUEST.size :])
        error, body = (-answer, b"") if isinstance(answer, int) else (0, answer)
        os.write(self._device, _REPLY.pack(_REPLY.size + len(body), error, unique) + body)

    def _act(self, code: int, body: bytes) -> bytes | int:
        """Return the body of an answer, or the number of an error."""
        if code == _READ:
            _, offset, size, _ = _TRANSFER.unpack_from(body)
            return self._medium.read(offset, size)
        if code == _WRITE:
            _, offset, size, _ = _TRANSFER.unpack_from(body)
            self._medium.write(offset, body[_TRANSFER_HEAD_BYTES : _TRANSFER_HEAD_BYTES + size])
            return _WRITTEN.pack(size, 0)
        if code == _FSYNC:
            self._medium.flush()
            return b""
        if code in (_GETATTR, _SETATTR):
            return self._attributes()
        return _CONSTANT.get(code, errno.ENOSYS)

    def _attributes(self) -> bytes:
        size = self._medium.size_bytes
        times = (0, 0, 0, 0, 0, 0)
        mode = stat.S_IFREG | 0o600
        blocks = size // SECTOR_BYTES
        return _ATTRIBUTES.pack(
            _FOREVER_S, 0, 0, 1, size, blocks, *times, mode, 1, 0, 0, 0, 4096, 0
        )


def main(place: str, size_bytes: str) -> None:
    medium = Medium(int(size_bytes))
    served = Served(medium, Path(place))
    threading.Thread(target=served.run, daemon=True).start()
    print("serving", flush=True)  # noqa: T201 - its output is its interface
    for line in sys.stdin:
        _, policy, seed, image = line.rstrip("\n").split(" ", 3)
        known = next(each for each in POLICIES if each == policy)
        print(json.dumps(medium.cut(known, int(seed), Path(image))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
