"""A pushed configuration under power cuts at any steps of any number of starts, on a real folder."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config_transaction import ATTEMPTS_MAX, Phase, State, Transaction

OLD, NEW = b"old = 1\n", b"new = 1\n"
ASKED = State(
    phase=Phase.STAGED,
    command_id="c",
    station="east",
    by="wang",
    confirmed_by="li",
    old="",
    new="",
)


class Cut(BaseException):
    """The power is gone."""


@contextmanager
def power(folder: Path, steps: int) -> Iterator[None]:
    """Let the power be cut before the `steps`th change; bytes that were not synced go with it."""
    left = [steps]
    unsynced: set[int] = set()
    real_open, real_sync = os.open, os.fsync

    def step() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cut

    def open_(path: Path, flags: int, mode: int = 0o777) -> int:
        step()
        descriptor = real_open(path, flags, mode)
        unsynced.add(os.fstat(descriptor).st_ino)
        return descriptor

    def sync(descriptor: int) -> None:
        step()
        real_sync(descriptor)
        unsynced.discard(os.fstat(descriptor).st_ino)

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            step()
            return real(*arguments, **named)

        return call

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", open_)
            patch.setattr(os, "fsync", sync)
            patch.setattr(Path, "replace", counted(Path.replace))
            patch.setattr(Path, "unlink", counted(Path.unlink))
            yield
    except Cut:
        for file in folder.iterdir():
            if file.stat().st_ino in unsynced:
                file.write_bytes(b"")


def push(transaction: Transaction, *, now_s: float = 0.0, boot: str = "a") -> State:
    state = transaction.stage(NEW, ASKED)
    return transaction.switch(state, boot_id=boot, now_s=now_s)


def live(transaction: Transaction, fetches: bool, boot: str, now_s: float, told: set[str]) -> str:
    """One start of the program: what it does with what it finds. Returns the active file's name."""
    state = transaction.begin(boot_id=boot, now_s=now_s)
    if state is not None and state.phase is Phase.TRYING:
        if fetches:
            state = transaction.confirm(state)
        elif now_s >= state.since_s + state.trial_s:
            state = transaction.roll_back(state, "no fetch")
    if state is not None and state.phase in {Phase.CONFIRMED, Phase.ROLLED_BACK}:
        told.add(state.phase.value)
        transaction.told(state, state.phase)
        transaction.finish()
    return "new" if transaction.file.read_bytes() == NEW else "old"


PUSH_STEPS, START_STEPS = 23, 25  # a whole one takes no more
STARTS = st.lists(
    st.tuples(
        st.integers(0, START_STEPS),  # until the power goes
        st.booleans(),  # the station fetches
        st.sampled_from(["a", "b", "c"]),  # the boot
        st.sampled_from([1.0, 50.0, 95.0]),  # how long after the last start
    ),
    max_size=6,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, PUSH_STEPS), STARTS)
def test_through_any_power_cuts_the_file_is_whole_and_the_end_is_told_as_it_is(
    first_steps: int, starts: list[tuple[int, bool, str, float]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gateway.toml"
        file.write_bytes(OLD)
        told: set[str] = set()
        fetched, active = False, ""
        now_s = 0.0
        with power(file.parent, first_steps):
            push(Transaction(file))
        begun = Transaction(file).state() is not None
        for steps, fetches, boot, later_s in starts:
            now_s += later_s
            assert file.read_bytes() in {OLD, NEW}
            fetched = fetched or fetches
            with power(file.parent, steps):
                live(Transaction(file), fetches, boot, now_s, told)
        for number in range(ATTEMPTS_MAX + 2):
            now_s += 100.0
            active = live(
                Transaction(file), fetches=False, boot=f"z{number}", now_s=now_s, told=told
            )
        assert Transaction(file).state() is None
        assert len(told) == (1 if begun else 0), (
            "the end of a transaction is told, and one end only"
        )
        assert active == ("new" if told == {"confirmed"} else "old")
        assert not (active == "new" and not fetched)
        assert [each.name for each in Path(folder).iterdir()] == ["gateway.toml"]
