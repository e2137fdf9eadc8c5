"""The station as a process: the tree of tasks, signals, and how it ends.

A defect is logged and ends the process with `EX_SOFTWARE`; the service manager starts it afresh,
and the gateways keep what was not acknowledged.
"""

import asyncio
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import structlog

from buffer.clock import SystemClock
from events import __version__
from events.errors import EX_SOFTWARE, NplusError, StoreLocked
from events.replication import Hello
from station.answers import Answers
from station.command_desk import CommandDesk
from station.config import StationConfig, load
from station.enrolment import Enrolment
from station.intake import Intake
from station.store import Store
from sync import service_log
from sync.keys import read_secret
from sync.local_socket import serve
from sync.service_notify import notify, watchdog_period_s
from sync.service_process import Stop, end_on_defect
from sync.zmq_sink import Hub

LOCKED_RETRY_S = 1.0
BEAT_S = 5.0
SWITCH_S = 0.001  # loop and writer share the interpreter: neither waits long for the other
WRITER_SILENT_S = 15.0  # a disk may be slow for seconds; a writer silent for longer hangs


def run(file: Path) -> int:
    """Run the station configured in `file` until SIGTERM or SIGINT. Raises `NplusError`."""
    config = load(file)
    service_log.configure()
    sys.setswitchinterval(SWITCH_S)
    _take_every_descriptor()
    end_on_defect()
    asyncio.run(_until_stopped(config))
    return 0


def _take_every_descriptor() -> None:
    """Each gateway takes two or more descriptors: the usual 1,024 would end at 500 gateways."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # then there are fewer gateways
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _until_stopped(config: StationConfig) -> None:
    stop = Stop().asked
    log = structlog.get_logger()
    store = Store(config.data_dir, clock=SystemClock())
    try:
        if await _open(store, stop):
            await _work(config, store, stop)
    finally:
        await store.close()
    log.info("stopped")


async def _open(store: Store, stop: asyncio.Event) -> bool:
    """Open the ledger, waiting for whoever holds it; False when told to stop meanwhile."""
    while not stop.is_set():
        try:
            await store.open()
        except StoreLocked as error:
            structlog.get_logger().error("store locked", error=str(error), hint=error.hint)
            notify(f"STATUS=waiting: {error}")
        else:
            return True
        try:
            async with asyncio.timeout(LOCKED_RETRY_S):
                await stop.wait()
        except TimeoutError:
            continue
    return False


async def _work(config: StationConfig, store: Store, stop: asyncio.Event) -> None:
    clock = SystemClock()
    enrolment = Enrolment(config.gateways_dir)
    intake = Intake(config, store=store, enrolment=enrolment, clock=clock)
    commands = CommandDesk(store, clock)

    def greeted(gateway: str, hello: Hello) -> None:
        intake.on_hello(gateway, hello)
        commands.on_hello(gateway)

    hub = Hub(
        listen=config.listen,
        secret_key=read_secret(config.key_file),
        name=config.name,
        program=__version__,
        ledger=store,
        allowed=enrolment,
        clock=clock,
        on_notice=intake.on_notice,
        on_seen=lambda _gateway, _now: None,  # `Hub.status` tells the path as well
        on_hello=greeted,
        on_told=commands.on_told,
    )
    intake.hub = commands.hub = hub
    await intake.start()
    answers = Answers(
        config,
        store=store,
        enrolment=enrolment,
        intake=intake,
        hub=hub,
        clock=clock,
        commands=commands,
    )
    try:
        async with serve(config.socket, answers.answer), asyncio.TaskGroup() as tasks:
            working = [
                tasks.create_task(hub.run()),
                tasks.create_task(intake.run()),
                tasks.create_task(commands.run()),
                tasks.create_task(_beat(store)),
                tasks.create_task(_tell_ready(config, hub)),
            ]
            await stop.wait()
            for task in working:
                task.cancel()
    except* NplusError as group:
        raise _first(group) from None
    await intake.finish()


async def _tell_ready(config: StationConfig, hub: Hub) -> None:
    await hub.listening.wait()
    structlog.get_logger().info(
        "station ready", station=config.name, listen=hub.address, version=__version__
    )
    notify("READY=1\nSTATUS=listening")


async def _beat(store: Store) -> None:
    """Feed the service manager's watchdog while the writer answers."""
    period_s = watchdog_period_s() or BEAT_S
    while True:
        try:
            async with asyncio.timeout(WRITER_SILENT_S):
                await store.ping()
        except TimeoutError:  # closing would wait for the same thread
            structlog.get_logger().critical("writer hangs", limit_s=WRITER_SILENT_S)
            os._exit(EX_SOFTWARE)
        notify("WATCHDOG=1")
        await asyncio.sleep(period_s)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
