"""What commands leave on the disk: through kills, damage and time."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.commands import (
    Challenge,
    Command,
    Inquiry,
    Outcome,
    Verdict,
)
from events.errors import StoreError
from gateway.command_desk import Done
from gateway.command_journal import Entry, Journal
from tests.gateway.command_world import BOOT, STEPS, Running, World, await_told, play


def test_a_damaged_journal_is_set_aside_and_nothing_from_before_it_is_taken() -> None:
    async def story(world: World) -> None:
        before = world.command("c")
        async with Running(world) as gateway:
            gateway.hear(before)
            await gateway.done("c")
        world.now_s += 1
        (world.folder / "commands.sqlite").write_bytes(b"not a database, but long enough" * 100)
        async with Running(world) as gateway:
            gateway.hear(before)
            outcome = await gateway.done("c")
            assert outcome is not None
            assert outcome.verdict is Verdict.EXPIRED
            gateway.hear(world.command("d"))
            assert (await gateway.done("d")).verdict is Verdict.APPLIED  # type: ignore[union-attr]
        assert world.effects == ["c", "d"]
        assert (world.folder / "commands.sqlite.damaged-1").exists()

    play(story)


def test_a_row_of_the_journal_that_nobody_can_read_stops_no_start() -> None:
    async def story(world: World) -> None:
        world.kill_at = "in-effect"
        async with Running(world) as gateway:
            gateway.hear(world.command("c"))
            await gateway.done("c")
        assert world.effects == ["c"]
        with closing(sqlite3.connect(world.folder / "commands.sqlite")) as file, file:
            file.execute("UPDATE command SET body = x'93ff'")
        world.now_s += 1
        async with Running(world) as gateway:
            await gateway.until(lambda: gateway.desk._since is not None)
            gateway.hear(world.command("d"))
            assert (await gateway.done("d")).verdict is Verdict.APPLIED  # type: ignore[union-attr]
        assert (world.folder / "commands.sqlite.damaged-1").exists()

    play(story)


def test_a_command_that_is_settled_later_keeps_its_askers_over_a_restart() -> None:
    async def story(world: World) -> None:
        command = world.command("c", arguments={"later": True})
        async with Running(world) as gateway:
            gateway.hear(command)
            await gateway.until(lambda: bool(world.effects))
            await asyncio.sleep(0.05)
            assert world.outcomes("c") == []
        async with Running(world, held=["c"]) as gateway:
            gateway.hear(Inquiry(command_id="c"))
            await gateway.until(lambda: len(world.told) >= 3)
            await gateway.desk.settle("c", Done(text="confirmed"))
            (outcome,) = world.outcomes("c")
            assert (outcome.verdict, outcome.text) == (Verdict.APPLIED, "confirmed")
        assert world.effects == ["c"]

    play(story)


LIVES = st.lists(
    st.tuples(
        st.sampled_from(("", *STEPS)),
        st.lists(st.sampled_from(["command", "inquiry", "wait"]), min_size=1, max_size=4),
        st.sampled_from([0.0, 10.0, 40.0]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None)
@given(LIVES)
def test_through_any_kills_a_command_acts_at_most_once_and_its_verdict_is_true(
    lives: list[tuple[str, list[str], float]],
) -> None:
    async def story(world: World) -> None:
        command = world.command("c")
        for kill_at, doings, pause_s in lives:
            world.kill_at = kill_at
            async with Running(world) as gateway:
                for doing in doings:
                    if doing == "wait":
                        await asyncio.sleep(0.005)
                    elif not gateway.killed:
                        gateway.hear(command if doing == "command" else Inquiry(command_id="c"))
                        await gateway.done("c")
            world.now_s += pause_s
        world.kill_at = ""
        async with Running(world) as gateway:
            gateway.hear(Inquiry(command_id="c"))
            final = await gateway.done("c")
            await gateway.until(lambda: await_told(world))
        assert final is not None
        assert len(world.effects) <= 1
        judge(world, final)

    play(story)


def judge(world: World, final: Outcome) -> None:
    verdicts = {outcome.verdict for outcome in world.outcomes("c")}
    assert verdicts == {final.verdict}, "two answers to one command"
    if world.effects:
        assert final.verdict in {Verdict.APPLIED, Verdict.OUTCOME_UNKNOWN}
    else:
        assert final.verdict in {Verdict.REFUSED, Verdict.EXPIRED, Verdict.OUTCOME_UNKNOWN}


def test_the_journal_forgets_only_what_cannot_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.command_journal.KEPT", 10)
    journal = Journal(tmp_path)
    now = Challenge(boot_id=BOOT, counter=5_000_000)
    journal.open(Challenge(boot_id=BOOT, counter=0))
    old = Command(id="old", challenge=now, expires_s=1.0, target="t", action="set")
    fresh = msgspec.structs.replace(old, id="fresh", expires_s=3600.0)
    done = Outcome(command_id="x", verdict=Verdict.APPLIED)
    for command in (old, fresh):
        assert journal.intend("east", command, done)
    for number in range(12):
        journal.intend("east", msgspec.structs.replace(old, id=str(number)), done)
    for owed in journal.owed(2000):
        journal.told(owed)
    later = Challenge(boot_id=BOOT, counter=now.counter + 2000)
    journal.trim(later)
    assert journal.find("old") is None
    found = journal.find("fresh")
    assert isinstance(found, Entry)
    assert not journal.intend("east", fresh)
    journal.close()
    with pytest.raises(StoreError):
        journal.find("old")
