"""A pushed configuration as a transaction on files: its phases, its times, what it refuses."""

from pathlib import Path

import pytest

from events.errors import UsageError
from gateway.config_transaction import ATTEMPTS_MAX, Phase, State, Transaction

OLD, NEW = b"old\n", b"new\n"
TRIAL_S = 30.0
ASKED = State(
    phase=Phase.STAGED,
    command_id="c-1",
    station="east",
    by="wang",
    confirmed_by="li",
    old="",
    new="",
    trial_s=TRIAL_S,
)


def fresh(folder: Path) -> Transaction:
    file = folder / "gateway.toml"
    file.write_bytes(OLD)
    file.chmod(0o640)
    return Transaction(file)


def pushed(transaction: Transaction) -> State:
    state = transaction.stage(NEW, ASKED)
    return transaction.switch(state, boot_id="boot", now_s=100.0)


def started(transaction: Transaction, now_s: float, boot_id: str = "boot") -> State | None:
    return Transaction(transaction.file).begin(boot_id=boot_id, now_s=now_s)


def test_a_push_that_is_confirmed_stays(tmp_path: Path) -> None:
    transaction = fresh(tmp_path)
    pushed(transaction)
    assert transaction.file.read_bytes() == NEW
    state = started(transaction, 101.0)
    assert state is not None
    assert (state.phase, state.attempts) == (Phase.TRYING, 1)
    transaction.confirm(state)
    again = started(transaction, 500.0)
    assert again is not None
    assert again.phase is Phase.CONFIRMED
    transaction.finish()
    assert started(transaction, 501.0) is None
    assert [file.name for file in tmp_path.iterdir()] == ["gateway.toml"]
    assert transaction.file.read_bytes() == NEW
    assert transaction.file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("now_s", "phase"), [(129.999, Phase.TRYING), (130.0, Phase.ROLLED_BACK)])
def test_the_trial_ends_exactly_in_the_boot_in_which_it_began(
    tmp_path: Path, now_s: float, phase: Phase
) -> None:
    transaction = fresh(tmp_path)
    pushed(transaction)
    state = started(transaction, now_s)
    assert state is not None
    assert state.phase is phase
    assert transaction.file.read_bytes() == (NEW if phase is Phase.TRYING else OLD)
    assert phase is Phase.TRYING or "did not fetch" in state.reason


def test_another_boot_gives_the_trial_its_whole_time_but_not_for_ever(tmp_path: Path) -> None:
    transaction = fresh(tmp_path)
    pushed(transaction)
    for number in range(ATTEMPTS_MAX):
        state = started(transaction, 5.0, f"boot-{number}")
        assert state is not None
        assert (state.phase, state.since_s) == (Phase.TRYING, 5.0)
    state = started(transaction, 5.0, "one-more")
    assert state is not None
    assert state.phase is Phase.ROLLED_BACK
    assert transaction.file.read_bytes() == OLD


def test_a_file_that_was_changed_by_hand_meanwhile_is_left_alone(tmp_path: Path) -> None:
    transaction = fresh(tmp_path)
    pushed(transaction)
    transaction.file.write_bytes(b"by hand\n")
    state = started(transaction, 101.0)
    assert state is not None
    assert (state.phase, transaction.file.read_bytes()) == (Phase.ROLLED_BACK, b"by hand\n")
    assert "changed on the gateway" in state.reason


def test_a_second_push_has_to_wait_and_disturbs_nothing(tmp_path: Path) -> None:
    transaction = fresh(tmp_path)
    pushed(transaction)
    with pytest.raises(UsageError, match="being tried"):
        transaction.stage(b"third\n", ASKED)
    assert transaction.file.read_bytes() == NEW
    assert started(transaction, 101.0) is not None


def test_a_link_is_no_file_to_replace(tmp_path: Path) -> None:
    transaction = fresh(tmp_path)
    link = tmp_path / "link.toml"
    link.symlink_to(transaction.file)
    with pytest.raises(UsageError, match="is a link"):
        Transaction(link).stage(NEW, ASKED)
    assert link.is_symlink()
