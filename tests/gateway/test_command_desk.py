"""At most once: whatever is repeated, delayed, refused by the disk, or killed at any step."""

from typing import Any

import pytest

from events.commands import (
    Challenge,
    ChallengeOffer,
    ChallengeRequest,
    Command,
    Inquiry,
    Outcome,
    Verdict,
)
from gateway.command_journal import JournalThread
from tests.gateway.command_world import BOOT, KilledJournal, Running, World, play


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
