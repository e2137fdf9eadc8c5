"""At most once: whatever is repeated, delayed, refused by the disk, or killed at any step."""

import asyncio
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.commands import (
    Challenge,
    ChallengeOffer,
    ChallengeRequest,
    Command,
    Inquiry,
    Outcome,
    Told,
    Verdict,
)
from events.errors import StoreError, StoreFull, UsageError
from events.model import Instant, Observation
from gateway.command_desk import CommandDesk, Done
from gateway.command_journal import Entry, Journal, JournalThread

BOOT = "boot-1"
STEPS = ("before-intent", "after-intent", "in-effect", "before-outcome", "after-outcome")


class Killed(BaseException):
    """The process is gone."""


class World:
    """A gateway's disk, its clock, and what was done in the building."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_s = 1000.0
        self.boot = BOOT
        self.effects: list[str] = []
        self.logged: list[Observation] = []
        self.told: list[Told] = []
        self.kill_at = ""
        self.full = False
        self.log_full = False

    def clock(self) -> Instant:
        return Instant(monotonic=self.now_s)

    def challenge(self) -> Challenge:
        return Challenge(boot_id=self.boot, counter=int(self.now_s * 1000))

    def command(self, command_id: str, **given: Any) -> Command:
        fields: dict[str, Any] = {
            "id": command_id,
            "challenge": self.challenge(),
            "expires_s": 30.0,
            "target": "siren",
            "action": "set",
            "issued_by": "wang",
        }
        return Command(**{**fields, **given})

    async def act(self, station: str, command: Command) -> Done | None:
        if command.arguments.get("wrong"):
            raise UsageError("no such thing")
        if command.arguments.get("breaks"):
            raise KeyError("defect")
        if command.arguments.get("later"):
            self.effects.append(command.id)
            return None
        await asyncio.sleep(0)
        self.effects.append(command.id)
        self.step("in-effect")
        return Done(text=f"for {station}", value=7)

    def step(self, name: str) -> None:
        if self.kill_at == name:
            self.kill_at = ""
            raise Killed

    async def record(self, observations: Sequence[Observation]) -> None:
        if self.log_full:
            raise StoreFull("no room")
        self.logged += observations

    def audits(self, command_id: str) -> list[str]:
        return [
            o.subkind for o in self.logged if o.details["command"] == command_id and not o.flags
        ]

    def outcomes(self, command_id: str) -> list[Outcome]:
        return [
            each
            for each in self.told
            if isinstance(each, Outcome) and each.command_id == command_id and each.settled
        ]


class KilledJournal(Journal):
    """A real journal of a process that may die around any of its commits."""

    def __init__(self, world: World) -> None:
        super().__init__(world.folder)
        self._world = world

    def intend(self, station: str, command: Command, outcome: Outcome | None = None) -> bool:
        self._world.step("before-intent")
        if self._world.full:
            raise StoreFull("no room")
        added = super().intend(station, command, outcome)
        self._world.step("after-intent")
        return added

    def settle(self, outcome: Outcome) -> None:
        self._world.step("before-outcome")
        if self._world.full:
            raise StoreFull("no room")
        super().settle(outcome)
        self._world.step("after-outcome")


class Running:
    """One life of the gateway's program. It ends killed, or when the block ends."""

    def __init__(self, world: World, held: Sequence[str] = ()) -> None:
        self.world = world
        self.thread = JournalThread(KilledJournal(world))
        self.desk = CommandDesk(
            self.thread,
            {("", "set"): world.act, ("program", "restart"): world.act},
            clock=world.clock,
            boot_id=world.boot,
            commanding=frozenset({"east"}),
            held=held,
        )
        self.killed = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Running":
        self._task = asyncio.ensure_future(self._live())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self.thread.close()

    async def _live(self) -> None:
        try:
            await self.desk.run(self.world.record)
        except BaseExceptionGroup as group:
            if not group.subgroup(Killed):
                raise
            self.killed = True
        except Killed:
            self.killed = True

    def hear(self, asked: Any, station: str = "east") -> None:
        self.desk.heard(station, asked, self.world.told.append)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not true() and not self.killed:  # noqa: ASYNC110 - a thread sets no event
                await asyncio.sleep(0.002)

    async def done(self, command_id: str) -> Outcome | None:
        before = len(self.world.outcomes(command_id))
        await self.until(lambda: len(self.world.outcomes(command_id)) > before)
        return None if self.killed else self.world.outcomes(command_id)[-1]


def play(story: Callable[[World], Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(story(World(Path(folder))))


def test_a_command_is_recorded_done_answered_and_told() -> None:
    async def story(world: World) -> None:
        async with Running(world) as gateway:
            gateway.hear(ChallengeRequest(command_id="c"))
            (offer,) = world.told
            assert offer == ChallengeOffer(command_id="c", challenge=world.challenge())
            gateway.hear(world.command("c"))
            outcome = await gateway.done("c")
            assert outcome == Outcome(
                command_id="c", verdict=Verdict.APPLIED, text="for east", value=7
            )
            assert [t.verdict for t in world.told if isinstance(t, Outcome)] == [
                Verdict.ACCEPTED,
                Verdict.APPLIED,
            ]
            await gateway.until(lambda: len(world.logged) == 2)
            assert world.audits("c") == ["command", "command-outcome"]
            assert {o.details["by"] for o in world.logged} == {"wang"}

    play(story)


def test_the_same_command_again_gets_the_stored_outcome_also_after_a_restart() -> None:
    async def story(world: World) -> None:
        command = world.command("c")
        async with Running(world) as gateway:
            gateway.hear(command)
            gateway.hear(command)
            await gateway.done("c")
            gateway.hear(command)
            again = await gateway.done("c")
        async with Running(world) as gateway:
            gateway.hear(command)
            after = await gateway.done("c")
            gateway.hear(Inquiry(command_id="c"))
            asked = await gateway.done("c")
        assert world.effects == ["c"]
        for outcome in (again, after, asked):
            assert outcome is not None
            assert (outcome.verdict, outcome.value, outcome.repeated) == (Verdict.APPLIED, 7, True)

    play(story)


@pytest.mark.parametrize(
    ("given", "verdict", "words"),
    [
        ({"challenge": Challenge(boot_id="boot-0", counter=1)}, Verdict.EXPIRED, "another boot"),
        ({"challenge": Challenge(boot_id=BOOT, counter=2_000_000)}, Verdict.EXPIRED, "never"),
        ({"challenge": Challenge(boot_id=BOOT, counter=1)}, Verdict.EXPIRED, "good for 30 s"),
        ({"issued_by": "  "}, Verdict.REFUSED, "who asks"),
        ({"action": "explode"}, Verdict.REFUSED, "no command here"),
        ({"arguments": {"wrong": True}}, Verdict.REFUSED, "no such thing"),
    ],
)
def test_what_may_not_be_done_is_refused_recorded_and_told(
    given: dict[str, Any], verdict: Verdict, words: str
) -> None:
    async def story(world: World) -> None:
        async with Running(world) as gateway:
            gateway.hear(world.command("c", **given))
            outcome = await gateway.done("c")
            assert outcome is not None
            assert (outcome.verdict, words in outcome.text) == (verdict, True), outcome.text
            await gateway.until(lambda: len(world.logged) == 2)
            assert world.audits("c") == ["command", "command-outcome"]
        assert world.effects == []

    play(story)


def test_a_station_that_may_not_command_is_refused() -> None:
    async def story(world: World) -> None:
        async with Running(world) as gateway:
            gateway.hear(world.command("c"), station="copy")
            outcome = await gateway.done("c")
            assert outcome is not None
            assert "may not command" in outcome.text
        assert world.effects == []

    play(story)


def test_a_command_expires_exactly_at_its_time_from_the_challenge() -> None:
    async def story(world: World) -> None:
        async with Running(world) as gateway:
            await gateway.until(lambda: gateway.desk._since is not None)
            early, late = world.command("early"), world.command("late")
            world.now_s += 29.999
            gateway.hear(early)
            assert (await gateway.done("early")).verdict is Verdict.APPLIED  # type: ignore[union-attr]
            world.now_s += 0.001
            gateway.hear(late)
            assert (await gateway.done("late")).verdict is Verdict.EXPIRED  # type: ignore[union-attr]
        assert world.effects == ["early"]

    play(story)


def test_a_command_that_the_disk_held_up_for_too_long_is_not_done_any_more() -> None:
    class Slow(KilledJournal):
        def intend(self, station: str, command: Command, outcome: Outcome | None = None) -> bool:
            added = super().intend(station, command, outcome)
            self._world.now_s += 31
            return added

    async def story(world: World) -> None:
        running = Running(world)
        running.thread.close()
        running.thread = running.desk._journal = JournalThread(Slow(world))
        async with running as gateway:
            gateway.hear(world.command("c"))
            assert (await gateway.done("c")).verdict is Verdict.EXPIRED  # type: ignore[union-attr]
        assert world.effects == []

    play(story)


def test_an_inquiry_settles_what_never_came_and_what_comes_later_is_not_done() -> None:
    async def story(world: World) -> None:
        command = world.command("c")
        async with Running(world) as gateway:
            gateway.hear(Inquiry(command_id="c"))
            first = await gateway.done("c")
            gateway.hear(command)
            second = await gateway.done("c")
        assert first is not None
        assert second is not None
        assert (first.verdict, second.verdict) == (Verdict.REFUSED, Verdict.REFUSED)
        assert world.effects == []

    play(story)


def test_what_cannot_be_recorded_is_not_done_not_even_when_it_comes_again() -> None:
    async def story(world: World) -> None:
        command = world.command("c")
        async with Running(world) as gateway:
            await gateway.until(lambda: gateway.desk._since is not None)
            world.full = True
            gateway.hear(command)
            refused = await gateway.done("c")
            world.full = False
            gateway.hear(command)
            again = await gateway.done("c")
        assert refused is not None
        assert again is not None
        assert "cannot be recorded" in refused.text
        assert again.verdict is Verdict.REFUSED
        assert world.effects == []

    play(story)


def test_a_log_that_takes_nothing_stops_no_siren_and_is_told_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.command_desk.RETRY_S", 0.02)
    monkeypatch.setattr("gateway.command_desk.FIRST_TOLD_S", 0.02)

    async def story(world: World) -> None:
        world.log_full = True
        async with Running(world) as gateway:
            gateway.hear(world.command("c"))
            await gateway.done("c")
            assert world.effects == ["c"]
            world.log_full = False
            await gateway.until(lambda: len(world.logged) == 2)
        assert world.audits("c") == ["command", "command-outcome"]

    play(story)


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


def test_an_action_that_breaks_has_failed_and_the_rest_goes_on() -> None:
    async def story(world: World) -> None:
        async with Running(world) as gateway:
            gateway.hear(world.command("c", arguments={"breaks": True}))
            outcome = await gateway.done("c")
            assert outcome is not None
            assert outcome.verdict is Verdict.FAILED
            assert "KeyError: 'defect'" in outcome.text
            gateway.hear(world.command("d"))
            assert (await gateway.done("d")).verdict is Verdict.APPLIED  # type: ignore[union-attr]
            await gateway.until(lambda: len(world.logged) == 4)
            assert world.audits("c") == ["command", "command-outcome"]
        assert not gateway.killed

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


def await_told(world: World) -> bool:
    told = {o.subkind for o in world.logged if o.details["command"] == "c"}
    return told >= {"command", "command-outcome"}


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
