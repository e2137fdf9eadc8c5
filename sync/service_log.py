"""Log lines of a program, for engineers: console on a terminal, JSON otherwise.

A line that repeats itself is written once, then counted.
"""

import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

REPEAT_WINDOW_S = 60.0
REPEATS_MAX = 256
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


class _StandardError:
    """Writes whole lines past Python's buffers. A reader that has left stops nobody."""

    def msg(self, message: str) -> None:
        try:
            os.write(2, (message + "\n").encode(errors="replace"))
        except OSError:
            return

    debug = info = warning = error = critical = exception = msg
