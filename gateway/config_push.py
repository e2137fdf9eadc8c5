"""Configuration commands: `diff` says what would change, `push` tries it.

A push is validated here, on the machine whose ports and keys it names. It becomes active by a
restart under it, is confirmed by the first fetch of the station that pushed it, and is rolled back
by itself otherwise.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog

from events.commands import Command, Verdict
from events.errors import ConfigError, Fault, StoreError, UsageError
from events.kinds import Kind, Subkind
from events.model import Observation, Scalar
from gateway import config
from gateway.command_desk import CommandDesk, Done
from gateway.config_checks import GATEWAY_POINT
from gateway.config_diff import Diff, compare
from gateway.config_transaction import (
    TRIAL_S,
    TRIAL_S_MAX,
    TRIAL_S_MIN,
    Phase,
    State,
    Transaction,
    digest,
    no_fetch,
)
from gateway.sections import Configuration
from protocols.drivers.base import Clock, Report
from sync.keys import is_key
from sync.payload import pack, unpack

RESTART_AFTER_S = 0.3  # so that the station hears that it is accepted
LOOK_S = 0.1
RETRY_S = 1.0
STAGED_TOLD_S = 1.0

_SUBKINDS = {
    Phase.STAGED: Subkind.CONFIG_STAGED,
    Phase.CONFIRMED: Subkind.CONFIG_CONFIRMED,
    Phase.ROLLED_BACK: Subkind.CONFIG_ROLLED_BACK,
}


class ConfigPush:
    """The configuration of this gateway. `restart` ends the program and starts it anew.

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
        fetches: Callable[[str], int],
        restart: Callable[[], None],
    ) -> None:
        self._file = file.absolute()
        self._configuration = configuration
        self._loaded = loaded
        self._clock = clock
        self._boot_id = boot_id
        self._fetches = fetches
        self._restart = restart
        self._transaction = Transaction(file)
        self._state = self._transaction.state()
        self._pushing = asyncio.Lock()
        self._log = structlog.get_logger()
        self._record: Report | None = None

    @property
    def held(self) -> frozenset[str]:
        """The command that is still to be settled here."""
        return frozenset() if self._state is None else frozenset({self._state.command_id})

    def status(self) -> dict[str, Any] | None:
        """Return the transaction under way, None where there is none."""
        state = self._state
        if state is None:
            return None
        left_s = state.since_s + state.trial_s - self._clock().monotonic
        return {
            "phase": state.phase.value,
            "by": state.by,
            "confirmed_by": state.confirmed_by,
            "left_s": round(max(0.0, left_s), 1) if state.phase is Phase.TRYING else None,
            "reason": state.reason,
        }

    async def diff(self, _station: str, command: Command) -> Done:
        """Say what a configuration would change. Changes nothing."""
        text = unpack(command.payload)
        faults, after = await asyncio.to_thread(self._examine, text)
        diff = None if after is None else compare(self._configuration, after)
        summary = f"{sum(not fault.warning for fault in faults)} faults"
        if diff is not None:
            lost = sum(change.lost for change in diff.changes)
            summary = f"{len(diff.changes)} changes, {lost} of them lose something"
        return Done(text=summary, payload=_report(faults, diff))

    async def push(self, station: str, command: Command) -> Done | None:
        """Stage and try a configuration. None: it is being tried, and settled by `run`."""
        text = unpack(command.payload)
        trial_s = command.arguments.get("trial_s", TRIAL_S)
        if not isinstance(trial_s, (int, float)) or not TRIAL_S_MIN <= trial_s <= TRIAL_S_MAX:
            raise UsageError(f"a trial lasts {TRIAL_S_MIN:g} to {TRIAL_S_MAX:g} s")
        async with self._pushing:
            faults, after = await asyncio.to_thread(self._examine, text)
            diff = None if after is None else compare(self._configuration, after)
            refusal = await asyncio.to_thread(self._refusal, command, text, faults, diff)
            if refusal:
                return Done(verdict=Verdict.REFUSED, text=refusal, payload=_report(faults, diff))
            if digest(text) == self._loaded:
                return Done(text="it is the active configuration already")
            state = State(
                phase=Phase.STAGED,
                command_id=command.id,
                station=station,
                by=command.issued_by,
                confirmed_by=command.confirmed_by,
                old="",
                new="",
                trial_s=float(trial_s),
            )
            await self._switch(text, state, diff)
            asyncio.get_running_loop().call_later(RESTART_AFTER_S, self._restart)
            return None

    async def run(self, desk: CommandDesk, record: Report) -> None:
        """See a transaction through that was under way at the start. Returns when it is over."""
        self._record = record
        state = self._state
        if state is not None and state.phase is Phase.TRYING:
            state = await self._try(state)
        if state is None or state.phase is Phase.TRYING:
            return
        for phase in (Phase.STAGED, state.phase):
            while phase.value not in state.told:
                try:
                    await record([_event(state, phase)])
                    state = await asyncio.to_thread(self._transaction.told, state, phase)
                except StoreError:
                    await asyncio.sleep(RETRY_S)
        confirmed = state.phase is Phase.CONFIRMED
        done = Done(text="confirmed: the station has fetched under it")
        if not confirmed:
            done = Done(verdict=Verdict.FAILED, text=f"rolled back: {state.reason}")
        await desk.settle(state.command_id, done)
        await asyncio.to_thread(self._transaction.finish)
        self._state = None

    async def _try(self, state: State) -> State | None:
        """Wait for a fetch under the new configuration; None when it was rolled back."""
        until = state.since_s + state.trial_s
        while self._fetches(state.station) == 0:
            if self._clock().monotonic >= until:
                self._log.error("configuration rolled back", by=state.by)
                await self._written(lambda: self._transaction.roll_back(state, no_fetch(state)))
                self._restart()
                return None
            await asyncio.sleep(LOOK_S)
        self._state = await self._written(lambda: self._transaction.confirm(state))
        self._log.info("configuration confirmed", by=state.by)
        return self._state

    async def _written(self, step: Callable[[], State]) -> State:
        """Do a step of the transaction; a folder that takes no writes is tried until it does."""
        while True:
            try:
                return await asyncio.to_thread(step)
            except StoreError as error:
                self._log.error("configuration folder takes no writes", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _switch(self, text: bytes, state: State, diff: Diff | None) -> None:
        transaction = self._transaction
        self._state = state = await asyncio.to_thread(transaction.stage, text, state)
        await self._tell_staged(diff)
        state = self._state
        now_s = self._clock().monotonic
        try:
            self._state = await asyncio.to_thread(
                lambda: transaction.switch(state, boot_id=self._boot_id, now_s=now_s)
            )
        except StoreError:
            if await asyncio.to_thread(transaction.switched, state):
                return  # only its durability is in doubt: the trial decides
            await asyncio.to_thread(transaction.finish)
            self._state = None
            raise

    def _examine(self, text: bytes) -> tuple[list[Fault], Configuration | None]:
        """Judge a text as the file it would be, in its folder."""
        proposed = self._file.with_name(f"{self._file.name}.proposed")
        try:
            proposed.write_bytes(text)
        except OSError as error:
            raise UsageError(
                f"{proposed}: {error.strerror}",
                hint="give the gateway's user write access to the folder of its configuration",
            ) from error
        try:
            faults = config.check(proposed)
            try:
                return faults, config.load(proposed)
            except ConfigError:
                return faults, None
        finally:
            proposed.unlink(missing_ok=True)

    def _refusal(
        self, command: Command, text: bytes, faults: list[Fault], diff: Diff | None
    ) -> str:
        """Return why a configuration is not tried; empty when it is."""
        if diff is None:
            count = sum(not fault.warning for fault in faults)
            return f"{count} fault{'' if count == 1 else 's'}; nothing was changed"
        second = command.confirmed_by.strip().casefold()
        reasons = list(diff.refused)
        if any(is_key(word) for word in _texts(text)):
            reasons.append("it holds what looks like a key: keys are files, and never pushed")
        if not reasons and self._changed_by_hand():
            reasons.append("the file was changed on the gateway and not loaded; restart it first")
        if diff.needs_second_person and second in {"", command.issued_by.strip().casefold()}:
            lost = [each.text for each in diff.changes if each.lost and each.protected]
            reasons.append(f"a second person has to confirm: {'; '.join(lost)}")
        return "; ".join(reasons)

    def _changed_by_hand(self) -> bool:
        try:
            return digest(self._file.read_bytes()) != self._loaded
        except OSError:
            return True

    async def _tell_staged(self, diff: Diff | None) -> None:
        state = self._state
        if state is None or self._record is None:
            return
        lost = "; ".join(each.text for each in diff.changes if each.lost) if diff else ""
        try:
            async with asyncio.timeout(STAGED_TOLD_S):
                await self._record([_event(state, Phase.STAGED, lost)])
        except (StoreError, TimeoutError):
            return  # told after the restart
        self._state = await asyncio.to_thread(self._transaction.told, state, Phase.STAGED)


def _event(state: State, phase: Phase, lost: str = "") -> Observation:
    details: dict[str, Scalar] = {
        "command": state.command_id,
        "by": state.by,
        "station": state.station,
        "configuration": state.new,
    }
    if state.confirmed_by:
        details["confirmed_by"] = state.confirmed_by
    if lost:
        details["lost"] = lost[:1000]
    if phase is Phase.ROLLED_BACK:
        details["why"] = state.reason
    return Observation(
        point=GATEWAY_POINT,
        kind=Kind.STATUS,
        subkind=_SUBKINDS[phase],
        source=GATEWAY_POINT,
        details=details,
    )


def _report(faults: list[Fault], diff: Diff | None) -> bytes:
    changes = [] if diff is None else diff.changes
    return pack(
        msgspec.json.encode(
            {
                "ok": diff is not None,
                "faults": [
                    {
                        "path": fault.path,
                        "line": fault.line,
                        "message": fault.message,
                        "warning": fault.warning,
                    }
                    for fault in faults
                ],
                "changes": [
                    {"text": each.text, "lost": each.lost, "protected": each.protected}
                    for each in changes
                ],
                "refused": [] if diff is None else diff.refused,
                "needs_second_person": diff is not None and diff.needs_second_person,
            }
        )
    )


def _texts(text: bytes) -> Iterator[str]:
    """Yield every text value of a TOML file that can be read."""
    import tomllib  # noqa: PLC0415 - a push is rare

    waiting: list[Any] = [tomllib.loads(text.decode())]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
