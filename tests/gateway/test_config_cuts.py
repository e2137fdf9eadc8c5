"""A pushed configuration under power cuts at any steps of any number of starts, on a real folder."""

import tempfile
from contextlib import suppress
from pathlib import Path

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


class Killed(BaseException):
    """The power is gone."""


class Crashing(Transaction):
    """A transaction whose machine loses its power before the n-th change of the folder.

    Each change is one atomic rename that is synced: what a power cut leaves is what was renamed.
    """

    def __init__(self, file: Path, lives: int) -> None:
        super().__init__(file)
        self.lives = lives

    def _write(self, file: Path, data: bytes) -> None:
        self._live()
        super()._write(file, data)

    def _activate(self) -> None:
        self._live()
        super()._activate()

    def _clean(self, file: Path) -> None:
        self._live()
        super()._clean(file)

    def _live(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed


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


STARTS = st.lists(
    st.tuples(
        st.integers(0, 9),  # changes of the folder until the power goes; 9 is never
        st.booleans(),  # the station fetches
        st.sampled_from(["a", "b", "c"]),  # the boot
        st.sampled_from([1.0, 50.0, 95.0]),  # how long after the last start
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 9), STARTS)
def test_through_any_power_cuts_the_file_is_whole_and_the_end_is_told_as_it_is(
    first_lives: int, starts: list[tuple[int, bool, str, float]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gateway.toml"
        file.write_bytes(OLD)
        told: set[str] = set()
        fetched, active = False, ""
        now_s = 0.0
        with suppress(Killed):
            push(Crashing(file, first_lives))
        begun = Transaction(file).state() is not None
        for lives, fetches, boot, later_s in starts:
            now_s += later_s
            assert file.read_bytes() in {OLD, NEW}
            fetched = fetched or fetches
            try:
                live(Crashing(file, 99 if lives == 9 else lives), fetches, boot, now_s, told)
            except Killed:
                continue
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
