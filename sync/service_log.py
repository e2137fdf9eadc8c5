"""Log lines of a program, for engineers: console on a terminal, JSON otherwise.

A line that repeats itself is written once, then counted.
"""

import os
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

REPEAT_WINDOW_S = 60.0
REPEATS_MAX = 256
TAIL_BYTES_MAX = 256 * 1024  # of the newest lines, kept for whoever asks from afar
# What makes two lines the same.
_TELLING = ("event", "line", "gateway", "path", "peer", "text", "error")

Line = MutableMapping[str, Any]


def configure() -> None:
    """Set up structlog for this process, on standard error."""
    terminal = sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            Repeats(time.monotonic),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if terminal else [structlog.processors.format_exc_info]),
            renderer,
        ],
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=True,
    )


class Repeats:
    """Drops a line that says the same of the same thing within the window; the next one counts."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._said: OrderedDict[tuple[str, ...], tuple[float, int]] = OrderedDict()

    def __call__(self, logger: Any, method: str, line: Line) -> Line:
        now = self._monotonic()
        key = (method, *(str(line.get(name, "")) for name in _TELLING))
        since, dropped = self._said.get(key, (float("-inf"), 0))
        if now - since < REPEAT_WINDOW_S:
            self._said[key] = (since, dropped + 1)
            raise structlog.DropEvent
        self._said[key] = (now, 0)
        self._said.move_to_end(key)
        if len(self._said) > REPEATS_MAX:
            self._said.popitem(last=False)
        if dropped:
            line["repeated"] = dropped
        return line


class Tail:
    """The newest lines, as far as they fit."""

    def __init__(self, bytes_max: int = TAIL_BYTES_MAX) -> None:
        self._lines: deque[bytes] = deque()
        self._bytes_max = bytes_max
        self._bytes = 0

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._lines.popleft())

    def text(self) -> bytes:
        return b"".join(self._lines)


_tail = Tail()


def tail() -> bytes:
    """Return the newest lines of this process, at most `TAIL_BYTES_MAX`."""
    return _tail.text()


class _StandardError:
    """Writes whole lines past Python's buffers. A reader that has left stops nobody."""

    def msg(self, message: str) -> None:
        line = (message + "\n").encode(errors="replace")
        _tail.add(line)
        try:
            os.write(2, line)
        except OSError:
            return

    debug = info = warning = error = critical = exception = msg
