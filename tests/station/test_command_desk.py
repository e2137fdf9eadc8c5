"""A command is on disk before it is sent, sent once, and settled whatever is lost in between."""

import asyncio
import base64
import sqlite3
from collections.abc import Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from buffer.clock import SystemClock
from events.commands import (
    Asked,
    Challenge,
    ChallengeOffer,
    ChallengeRequest,
    Command,
    Inquiry,
    Outcome,
    Told,
    Verdict,
)
from events.errors import UnavailableError, UsageError
from events.replication import Lane
from station.command_desk import CommandDesk
from station.schema import FILE_NAME
from station.store import Store

CHALLENGE = Challenge(boot_id="b", counter=5)
ORDER: dict[str, Any] = {
    "request": "command",
    "gateway": "hall",
    "target": "siren",
    "action": "set",
    "by": "wang",
    "wait_s": 5.0,
}


class FarGateway:
    """The hub and the gateway behind it: it hears, and answers what it is told to answer."""

    def __init__(self) -> None:
        self.heard: list[tuple[Lane, Asked]] = []
        self.connected = True
        self.offers = True
        self.answers: dict[str, Outcome] = {}
        self.tell: Callable[[str, Told], None] = lambda _gateway, _told: None
        self.on_command: Callable[[Command], None] = lambda command: None

    def status(self) -> list[dict[str, Any]]:
        return [
            {"gateway": "hall", "lane": lane.value, "active": True, "state": "open"}
            for lane in Lane
            if self.connected
        ]

    def ask(self, gateway: str, lane: Lane, message: Asked) -> bool:
        if not self.connected or gateway != "hall":
            return False
        self.heard.append((lane, message))
        match message:
            case ChallengeRequest() if self.offers:
                offer = ChallengeOffer(command_id=message.command_id, challenge=CHALLENGE)
                self.tell("hall", offer)
            case Command():
                self.on_command(message)
            case Inquiry():
                self.tell(
                    "hall",
                    self.answers.get(
                        message.command_id,
                        Outcome(command_id=message.command_id, verdict=Verdict.REFUSED),
                    ),
                )
            case _:
                pass
        return True

    def sent(self) -> list[Command]:
        return [message for _, message in self.heard if isinstance(message, Command)]

    def inquiries(self) -> list[Inquiry]:
        return [message for _, message in self.heard if isinstance(message, Inquiry)]


@asynccontextmanager
async def station(folder: Path, far: FarGateway) -> Any:
    clock = SystemClock()
    async with Store(folder, clock=clock) as store:
        desk = CommandDesk(store, clock)
        desk.hub = far  # type: ignore[assignment]  # what it uses of a hub
        far.tell = desk.on_told
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(desk.run())
            await asyncio.sleep(0.05)
            yield desk
            task.cancel()


async def said(desk: CommandDesk, **given: Any) -> list[dict[str, Any]]:
    lines: list[Any] = [line async for line in desk.order({**ORDER, **given})]
    return lines


def applied(far: FarGateway) -> Callable[[Command], None]:
    def answer(command: Command) -> None:
        far.tell("hall", Outcome(command_id=command.id, verdict=Verdict.ACCEPTED))
        far.tell("hall", Outcome(command_id=command.id, verdict=Verdict.APPLIED, value=3))

    return answer


def test_a_command_goes_out_with_its_challenge_and_its_outcome_is_kept(tmp_path: Path) -> None:
    async def story() -> None:
        far = FarGateway()
        far.on_command = applied(far)
        async with station(tmp_path, far) as desk:
            lines = await said(desk, arguments={"duration_s": 2.0}, expires_s=9.0)
            assert [line["verdict"] for line in lines] == ["new", "accepted", "applied"]
            (command,) = far.sent()
            assert (command.challenge, command.expires_s, command.issued_by) == (
                CHALLENGE,
                9.0,
                "wang",
            )
            (row,) = await desk.listed("hall", 10)
            assert (row["verdict"], row["by"], row["value"]) == ("applied", "wang", 3)
            assert {lane for lane, _ in far.heard} == {Lane.URGENT}

    asyncio.run(story())


def test_what_is_bulky_takes_the_main_lane(tmp_path: Path) -> None:
    async def story() -> None:
        far = FarGateway()
        far.on_command = applied(far)
        async with station(tmp_path, far) as desk:
            payload = base64.b64encode(b"zstd").decode()
            await said(desk, target="configuration", action="push", payload=payload)
            assert {lane for lane, _ in far.heard} == {Lane.MAIN}
            assert far.sent()[0].payload == b"zstd"

    asyncio.run(story())


def test_the_clock_is_told_the_time_of_sending(tmp_path: Path) -> None:
    async def story() -> None:
        far = FarGateway()
        far.on_command = applied(far)
        async with station(tmp_path, far) as desk:
            await said(desk, target="clock", action="report")
            wall = SystemClock().now().wall
            assert wall is not None
            sent_us = far.sent()[0].arguments["station_us"]
            assert isinstance(sent_us, int)
            assert abs(sent_us / 1e6 - wall) < 5

    asyncio.run(story())


def test_nothing_is_sent_to_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    async def story() -> None:
        far = FarGateway()
        async with station(tmp_path, far) as desk:
            with pytest.raises(UnavailableError, match="nothing was sent"):
                await said(desk, gateway="attic")
            far.connected = False
            with pytest.raises(UnavailableError, match="nothing was sent"):
                await said(desk)
            with pytest.raises(UsageError, match="not a command"):
                await said(desk, expires_s=-1)
            with pytest.raises(UsageError, match="not a command"):
                await said(desk, arguments={"duration_s": 10**30})
            assert (far.heard, await desk.listed(None, 10)) == ([], [])

    asyncio.run(story())


def test_without_a_challenge_nothing_is_sent_and_a_late_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("station.command_desk.INQUIRE_S", 0.2)

    async def story() -> None:
        far = FarGateway()
        far.offers = False
        async with station(tmp_path, far) as desk:
            lines = await said(desk)
            assert (lines[-1]["verdict"], "nothing was sent" in lines[-1]["text"]) == (
                "failed",
                True,
            )
            late = ChallengeOffer(command_id=lines[-1]["command"], challenge=CHALLENGE)
            desk.on_told("hall", late)
            await asyncio.sleep(0.05)
            assert far.sent() == []

    asyncio.run(story())


def test_after_a_lost_answer_it_inquires_and_never_sends_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("station.command_desk.INQUIRE_S", 0.2)

    async def story() -> None:
        far = FarGateway()

        def swallow(command: Command) -> None:
            outcome = Outcome(command_id=command.id, verdict=Verdict.APPLIED, repeated=True)
            far.answers[command.id] = outcome

        far.on_command = swallow
        async with station(tmp_path, far) as desk:
            lines = await said(desk)
            assert lines[-1]["verdict"] == "applied"
            assert (len(far.sent()), len(far.inquiries())) == (1, 1)

    asyncio.run(story())


def test_a_restart_of_the_station_sends_nothing_twice(tmp_path: Path) -> None:
    async def story() -> None:
        far = FarGateway()
        async with station(tmp_path, far) as desk:
            far.offers = False
            unsent = (await said(desk, wait_s=0.0))[-1]["command"]
            far.offers = True
            sent = (await said(desk, wait_s=0.0))[-1]["command"]
            async with asyncio.timeout(5):
                while not far.sent():  # noqa: ASYNC110 - a list sets no event
                    await asyncio.sleep(0.01)
        far.answers[sent] = Outcome(command_id=sent, verdict=Verdict.OUTCOME_UNKNOWN)
        async with station(tmp_path, far) as desk:
            async with asyncio.timeout(5):
                while any(  # noqa: ASYNC110 - a table sets no event
                    row["verdict"] in {"new", "sent"} for row in await desk.listed(None, 9)
                ):
                    await asyncio.sleep(0.05)
            rows = {row["command"]: row for row in await desk.listed("hall", 9)}
        assert [command.id for command in far.sent()] == [sent]
        assert rows[sent]["verdict"] == "outcome-unknown"
        assert "before it was sent" in rows[unsent]["text"]

    asyncio.run(story())


def test_another_gateway_settles_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        far = FarGateway()

        def answer(command: Command) -> None:
            far.tell("attic", Outcome(command_id=command.id, verdict=Verdict.APPLIED))

        far.on_command = answer
        async with station(tmp_path, far) as desk:
            lines = await said(desk, wait_s=0.3)
            assert lines[-1]["verdict"] == "pending"

    asyncio.run(story())


def test_an_outcome_that_cannot_be_kept_settles_its_command_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    def unkept(command: Command) -> None:
        far.tell("hall", Outcome(command_id=command.id, verdict=Verdict.APPLIED, value=2**70))

    far = FarGateway()

    async def story() -> None:
        async with station(tmp_path, far) as desk:
            far.on_command = unkept
            broken = await said(desk)
            assert broken[-1]["verdict"] == "outcome-unknown"
            assert "OverflowError" in broken[-1]["text"]
            far.on_command = applied(far)
            assert (await said(desk))[-1]["verdict"] == "applied"
            assert [row["verdict"] for row in await desk.listed(None, 5)] == [
                "applied",
                "outcome-unknown",
            ]

    asyncio.run(story())


def test_a_stored_command_that_nobody_can_read_is_asked_after_and_stops_no_start(
    tmp_path: Path,
) -> None:
    async def story() -> None:
        far = FarGateway()
        async with station(tmp_path, far) as desk:
            await said(desk, wait_s=0.1)  # sent, and nothing came of it
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file, file:
            file.execute("UPDATE command SET body = x'93ff'")
        (sent,) = far.sent()
        async with station(tmp_path, far) as desk, asyncio.timeout(10):
            while (await desk.listed(None, 1))[0]["verdict"] != "refused":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert {each.command_id for each in far.inquiries()} == {sent.id}

    asyncio.run(story())
