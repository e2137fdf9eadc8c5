"""The gateway as a process: signals, memory, and how it ends.

`run` returns the exit status. A configuration with faults raises `ConfigError`. A defect outside
the drivers is logged and ends the process with `EX_SOFTWARE`; the service manager starts it afresh.
"""

import asyncio
import ctypes
import gc
import os
import signal
import sys
from pathlib import Path
from types import TracebackType

import structlog

from events.errors import EX_SOFTWARE
from gateway import mutants
from gateway.config import load
from gateway.service import Service
from sync import service_log

STOP_S = 4.5  # after this the process goes, whoever has not finished

_M_ARENA_MAX = -8  # mallopt(3)


def run(path: Path) -> int:
    """Run the gateway configured in `path` until SIGTERM or SIGINT."""
    configuration = load(path)
    mutant = mutants.chosen(bench=configuration.gateway.bench)
    service_log.configure()
    sys.excepthook = _end_on_defect
    _keep_memory_small()
    service = Service(configuration, mutant)
    asyncio.run(_until_signalled(service))
    return 0


async def _until_signalled(service: Service) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def ask_to_stop() -> None:
        if not stop.is_set():
            stop.set()
            loop.call_later(STOP_S, _leave)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop)
    gc.freeze()
    await service.run(stop)


def _leave() -> None:
    """Go without those that did not stop in time; what is stored is stored."""
    structlog.get_logger().error("stop takes too long", limit_s=STOP_S)
    os._exit(EX_SOFTWARE)


def _end_on_defect(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    structlog.get_logger().critical("defect", exc_info=(kind, error, trace))
    os._exit(EX_SOFTWARE)


def _keep_memory_small() -> None:
    """Give glibc one heap for all threads: there are two, and the second would cost its own."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
