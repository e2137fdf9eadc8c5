"""A program as a process: how it is asked to stop, and what it does about a defect.

Neither end waits for ever: what is stored is stored, and the service manager starts it afresh.
"""

import asyncio
import os
import signal
import sys
from types import TracebackType

import structlog

from events.errors import EX_SOFTWARE
from sync.service_notify import notify

STOP_S = 4.5  # after this the process goes, whoever has not finished


class Stop:
    """Whether the program is to stop: SIGTERM, SIGINT or `ask` say so. Belongs to the running loop."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.ask)

    def ask(self) -> None:
        """Let the program stop; it is ended with `EX_SOFTWARE` if it has not after `STOP_S`."""
        if not self.asked.is_set():
            self.asked.set()
            notify("STOPPING=1")
            self._loop.call_later(STOP_S, _leave)


def end_on_defect() -> None:
    """From now on log an error that nobody handles, and end the process with `EX_SOFTWARE`."""
    sys.excepthook = _defect


def _defect(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    structlog.get_logger().critical("defect", exc_info=(kind, error, trace))
    os._exit(EX_SOFTWARE)


def _leave() -> None:
    structlog.get_logger().error("stop takes too long", limit_s=STOP_S)
    os._exit(EX_SOFTWARE)
