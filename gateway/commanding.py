"""Everything that a gateway lets stations command, put together."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from events.commands import Asked
from events.model import Observation
from gateway.bypasses import Bypasses
from gateway.command_actions import BypassActions, OutputActions, ProgramActions
from gateway.command_desk import CommandDesk, Reply
from gateway.command_journal import Journal, JournalThread
from gateway.config_push import ConfigPush
from gateway.outputs import Outputs
from gateway.sections import Configuration
from protocols.drivers.base import Clock, Report
from sync import service_log


class Commanding:
    """The desk, its journal, and what it can do. `loaded` is the digest of the file as loaded.

    silenced: what the store holds as last said under a bypass.
    fetches: how many fetches a station, by its name, has sent since the start.
    """

    def __init__(
        self,
        file: Path,
        configuration: Configuration,
        loaded: str,
        *,
        clock: Clock,
        boot_id: str,
        outputs: Outputs,
        silenced: Callable[[], list[Observation]],
        fetches: Callable[[str], int],
        restart: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._journal = JournalThread(Journal(Path(configuration.gateway.data_dir)))
        self._bypasses = Bypasses(configuration, boot_id=boot_id)
        self._bypassing = BypassActions(self._bypasses, self._journal, clock, silenced)
        self._config = ConfigPush(
            file,
            configuration,
            loaded,
            clock=clock,
            boot_id=boot_id,
            fetches=fetches,
            restart=restart,
        )
        program = ProgramActions(clock, log_tail=service_log.tail, restart=restart)
        self._desk = CommandDesk(
            self._journal,
            {
                **OutputActions(outputs).actions(),
                **self._bypassing.actions(),
                **program.actions(),
                ("configuration", "diff"): self._config.diff,
                ("configuration", "push"): self._config.push,
            },
            clock=clock,
            boot_id=boot_id,
            commanding=frozenset(
                station.name for station in configuration.station if station.commands
            ),
            held=self._config.held,
        )

    async def run(self, record: Report) -> None:
        """Work until cancelled. Events are recorded through `record`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._desk.run(record))
                tasks.create_task(self._bypassing.run(record))
                tasks.create_task(self._config.run(self._desk, record))
        finally:
            self._journal.close()

    def heard(self, station: str, asked: Asked, reply: Reply) -> None:
        """Take what a station asks beside the events."""
        self._desk.heard(station, asked, reply)

    def reread(self) -> None:
        """Compare with the store again: it could not be read before, and now it can."""
        self._bypassing.reread()

    def passed(self, observations: Sequence[Observation]) -> list[Observation]:
        """Return what is to be recorded of what the lines saw."""
        return self._bypasses.passed(observations)

    def status(self) -> dict[str, Any]:
        return {
            "bypasses": self._bypasses.status(self._clock()),
            "configuration": self._config.status(),
        }
