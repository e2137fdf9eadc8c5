"""The gateway as a process: signals, memory, and how it ends.

`run` returns the exit status. A configuration with faults raises `ConfigError`. A defect outside
the drivers is logged and ends the process with `EX_SOFTWARE`; the service manager starts it afresh.
"""

import asyncio
import ctypes
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

from buffer.clock import SystemClock
from events.errors import ConfigError, StoreError
from gateway import mutants
from gateway.config import load
from gateway.config_transaction import Phase, Transaction, digest
from gateway.service import Service
from sync import service_log
from sync.service_process import Stop, end_on_defect

_M_ARENA_MAX = -8  # mallopt(3)


def run(path: Path) -> int:
    """Run the gateway configured in `path` until SIGTERM or SIGINT.

    A configuration on trial that does not even start is rolled back here. A command may end the
    program to begin it anew: then it is replaced by itself, and this does not return.
    """
    service_log.configure()  # before anybody takes a logger: each keeps the form it was made with
    transaction = Transaction(path)
    clock = SystemClock()
    state = None
    with suppress(StoreError):  # a folder that takes no writes keeps no gateway from starting
        state = transaction.begin(boot_id=clock.boot_id, now_s=clock.now().monotonic)
    try:
        service = _service(path)
    except ConfigError as error:
        if state is None or state.phase is not Phase.TRYING:
            raise
        transaction.roll_back(state, _why(error))
        service = _service(path)
    end_on_defect()
    _keep_memory_small()
    asyncio.run(_until_stopped(service))
    if service.restarting:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - ourselves
    return 0


def _service(path: Path) -> Service:
    loaded = digest(path.read_bytes()) if path.is_file() else ""
    configuration = load(path)
    mutant = mutants.chosen(bench=configuration.gateway.bench)
    return Service(configuration, mutant, file=path, loaded=loaded)


def _why(error: ConfigError) -> str:
    faults = [str(fault) for fault in error.faults if not fault.warning]
    return f"it does not start: {'; '.join(faults[:5]) or error}"


async def _until_stopped(service: Service) -> None:
    stop = Stop()
    service.ask_to_stop = stop.ask
    gc.freeze()
    await service.run(stop.asked)


def _keep_memory_small() -> None:
    """Give glibc one heap for all threads: there are two, and the second would cost its own."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
