"""The clock of a running program: the one place of the gateway that reads the time.

Engines get an `Instant` and never ask. The wall clock is believed from 2026 on: a Raspberry Pi
without a battery starts at some date in the past, and such a time is worse than none. Until it is
set, a station's word stands in for it, as a time to show and never to order by.
"""

import ctypes
import functools
import time
from pathlib import Path
from typing import Final, Protocol

from events.model import ClockQuality, Instant, Stamp

EARLIEST_BELIEVED_S: Final = 1_767_225_600  # 2026-01-01T00:00:00Z
QUALITY_PERIOD_S: Final = 1.0  # the kernel is asked for the quality at most this often
TOLD_ERROR_MAX_S: Final = 5.0  # a word that travelled for longer says too little
DRIFT: Final = 100e-6  # of a crystal, at most: what an old word loses in worth

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

# adjtimex(2): what it returns while nobody steers the clock, and the flag that says the same.
_TIME_ERROR: Final = 5
_STA_UNSYNC: Final = 0x0040


class _Timex(ctypes.Structure):
    """The head of `struct timex`; what follows is room for whatever the kernel writes behind."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


@functools.cache
def boot_id() -> str:
    """Return the kernel's id of this boot as `journalctl --boot` takes it: 32 hex digits."""
    return _BOOT_ID.read_text(encoding="ascii").strip().replace("-", "")


class Clock(Protocol):
    """What the store needs of a clock; `SystemClock`, or a made-up one in a test."""

    @property
    def boot_id(self) -> str: ...
    def now(self) -> Instant: ...
    def stamp(self, instant: Instant) -> Stamp: ...


class SystemClock:
    """Monotonic and wall time of this machine.

    `monotonic` is CLOCK_MONOTONIC, the clock of asyncio's loop. `wall` is what a station said, or
    None, before 2026.
    """

    def __init__(self) -> None:
        self._adjtimex = _adjtimex()
        self._quality = ClockQuality.FREE
        self._quality_due = float("-inf")
        self._told: tuple[float, float, float] | None = None  # offset, error, when

    @property
    def boot_id(self) -> str:
        return boot_id()

    def now(self) -> Instant:
        """Return the present instant."""
        monotonic = time.monotonic()
        wall = time.clock_gettime(time.CLOCK_REALTIME)
        if wall < EARLIEST_BELIEVED_S:
            if self._told is None:
                return Instant(monotonic=monotonic)
            return Instant(monotonic=monotonic, wall=monotonic + self._told[0])
        if monotonic >= self._quality_due:
            self._quality = self._ask_quality()
            self._quality_due = monotonic + QUALITY_PERIOD_S
        return Instant(monotonic=monotonic, wall=wall, clock=self._quality)

    def learn(self, offset_s: float, error_s: float) -> None:
        """Take a station's word: its wall time less our monotonic time, wrong by `error_s` at most.

        Of several words the one with the least error stands; each loses in worth with its age.
        """
        if error_s > TOLD_ERROR_MAX_S:
            return
        now = time.monotonic()
        if self._told is not None:
            _, error_before_s, when = self._told
            if error_s > error_before_s + DRIFT * (now - when):
                return
        self._told = (offset_s, error_s, now)

    def stamp(self, instant: Instant) -> Stamp:
        """Return what is written into a record made at `instant`."""
        return Stamp(
            monotonic_us=round(instant.monotonic * 1_000_000),
            boot_id=self.boot_id,
            wall_us=None if instant.wall is None else round(instant.wall * 1_000_000),
            clock=instant.clock,
        )

    def _ask_quality(self) -> ClockQuality:
        if self._adjtimex is None:
            return ClockQuality.FREE
        timex = _Timex()  # modes 0: read only, needs no right
        state = self._adjtimex(ctypes.byref(timex))
        steered = 0 <= state < _TIME_ERROR and not timex.status & _STA_UNSYNC
        return ClockQuality.SYNCHRONISED if steered else ClockQuality.FREE


def _adjtimex() -> "ctypes._FuncPointer | None":  # its type has no public name
    return getattr(ctypes.CDLL(None, use_errno=True), "adjtimex", None)
