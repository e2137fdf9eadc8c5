"""A new configuration as a transaction on files: staged, tried, then confirmed or rolled back.

Beside the active file lie `NAME.transaction` (the state), `NAME.staged` and `NAME.previous`. Each
step is one atomic rename, made durable before the next; a power cut between any two leaves a state
that the next start knows how to finish. The active file is always a whole one: the old or the new.
"""

import hashlib
import os
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import msgspec

from buffer.schema import sync_folder
from events.errors import StoreError, StoreReadOnly, UsageError

TRIAL_S_MIN, TRIAL_S, TRIAL_S_MAX = 5.0, 90.0, 600.0
ATTEMPTS_MAX = 3  # starts of the program under a configuration on trial
NOT_TRIED = "the gateway stopped before it was tried"


class Phase(StrEnum):
    STAGED = "staged"
    TRYING = "trying"
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled-back"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where a transaction is. since_s: monotonic, in the boot `boot_id`, begin of the trial.

    trial_s: how long it waits for a fetch. attempts: starts of the program under it. told: the
    phases whose event is recorded.
    """

    phase: Phase
    command_id: str
    station: str
    by: str
    confirmed_by: str
    old: str
    new: str
    boot_id: str = ""
    since_s: float = 0.0
    trial_s: float = TRIAL_S
    attempts: int = 0
    reason: str = ""
    told: tuple[str, ...] = ()


_state = msgspec.json.Decoder(State)
replace = msgspec.structs.replace


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def no_fetch(state: State) -> str:
    """Return why a configuration is rolled back that no station fetched under."""
    return f"station {state.station} did not fetch under it within {state.trial_s:g} s"


class Transaction:
    """The transaction on one configuration file. Methods block; each may raise `StoreError`."""

    def __init__(self, file: Path) -> None:
        self.file = file.absolute()
        self._state_file = self._beside("transaction")
        self._staged = self._beside("staged")
        self._previous = self._beside("previous")

    def state(self) -> State | None:
        """Return where it is, None where nothing is under way or the state cannot be read."""
        try:
            return _state.decode(self._state_file.read_bytes())
        except (OSError, msgspec.DecodeError):
            return None

    def stage(self, text: bytes, state: State) -> State:
        """Keep a new configuration beside the active one. Raises `UsageError` while one is tried."""
        if self.state() is not None:
            raise UsageError("another configuration is being tried", hint="wait for its end")
        if self.file.is_symlink():
            raise UsageError(f"{self.file} is a link", hint="push to gateways with a plain file")
        self._write(self._staged, text)
        return self._keep(
            replace(state, phase=Phase.STAGED, old=digest(self._active()), new=digest(text))
        )

    def switch(self, state: State, *, boot_id: str, now_s: float) -> State:
        """Make the staged configuration the active one; it counts from the next start on."""
        self._write(self._previous, self._active())
        state = self._keep(replace(state, phase=Phase.TRYING, boot_id=boot_id, since_s=now_s))
        self._activate()
        return state

    def begin(self, *, boot_id: str, now_s: float) -> State | None:
        """Go on after a start, before the configuration is read. Returns where it is now."""
        state = self.state()
        if state is None:
            self.finish()  # what a power cut may have left
            return None
        if state.phase is Phase.TRYING:
            return self._go_on(state, boot_id, now_s)
        if state.phase is Phase.STAGED:
            return self._give_up(state, NOT_TRIED)
        return state

    def _go_on(self, state: State, boot_id: str, now_s: float) -> State:
        active = digest(self._active())
        if active != state.new:
            by_hand = "the file was changed on the gateway; it stays as it is"
            return self._give_up(state, NOT_TRIED if active == state.old else by_hand)
        if state.attempts >= ATTEMPTS_MAX:
            return self.roll_back(
                state, f"{ATTEMPTS_MAX} starts under it did not reach the station"
            )
        if state.boot_id != boot_id:
            state = replace(state, boot_id=boot_id, since_s=now_s)
        elif now_s - state.since_s >= state.trial_s:
            return self.roll_back(state, no_fetch(state))
        return self._keep(replace(state, attempts=state.attempts + 1))

    def switched(self, state: State) -> bool:
        """Tell whether the new configuration is the active one."""
        return digest(self._active()) == state.new

    def confirm(self, state: State) -> State:
        """Keep the new configuration: the station has fetched under it."""
        return self._keep(replace(state, phase=Phase.CONFIRMED))

    def roll_back(self, state: State, reason: str) -> State:
        """Make the previous configuration the active one again; it counts from the next start on."""
        with _translated(self._previous):
            previous = self._previous.read_bytes()
        self._write(self.file, previous)
        return self._give_up(state, reason)

    def told(self, state: State, phase: Phase) -> State:
        """Note that the event of a phase is recorded."""
        return self._keep(replace(state, told=(*state.told, phase.value)))

    def finish(self) -> None:
        """Forget a transaction that is over and told."""
        for file in (self._state_file, self._staged, self._previous, self._beside("new")):
            self._clean(file)

    def _give_up(self, state: State, reason: str) -> State:
        state = self._keep(replace(state, phase=Phase.ROLLED_BACK, reason=reason))
        self._clean(self._staged)
        return state

    def _active(self) -> bytes:
        with _translated(self.file):
            return self.file.read_bytes()

    def _keep(self, state: State) -> State:
        self._write(self._state_file, msgspec.json.encode(state))
        return state

    def _write(self, file: Path, data: bytes) -> None:
        """Replace a file by one rename, durably, with the rights of the active one."""
        new = self._beside("new")
        with _translated(file):
            mode = self.file.stat()
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode.st_mode & 0o777)
            with os.fdopen(descriptor, "wb") as opened:
                with suppress(PermissionError):
                    os.fchown(descriptor, mode.st_uid, mode.st_gid)
                opened.write(data)
                opened.flush()
                os.fsync(descriptor)
            new.replace(file)
            sync_folder(file.parent)

    def _activate(self) -> None:
        with _translated(self.file):
            self._staged.replace(self.file)
            sync_folder(self.file.parent)

    def _clean(self, file: Path) -> None:
        with suppress(OSError):
            file.unlink()

    def _beside(self, ending: str) -> Path:
        return self.file.with_name(f"{self.file.name}.{ending}")


class _translated:  # noqa: N801 - reads as a word
    def __init__(self, file: Path) -> None:
        self._file = file

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, StoreError):
            raise StoreReadOnly(
                f"{self._file}: {error.strerror or error}",
                hint="give the gateway's user write access to the folder of its configuration",
            ) from error
