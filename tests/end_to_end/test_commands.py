"""Commands on the real programs, with kills between their steps."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.end_to_end.pair import Pair, pair
from tests.station.site import Running

Story = Callable[[Pair], Awaitable[None]]


def play(folder: Path, story: Story) -> None:
    async def run() -> None:
        async with pair(folder) as both:
            await story(both)

    asyncio.run(run())


def switched(both: Pair, pin: str) -> list[bool]:
    return [entry.on is True for entry in both.gateway.pins.journal.of("output", point=pin)]


def test_commands_act_once_and_leave_their_trace_at_the_station(tmp_path: Path) -> None:
    async def story(both: Pair) -> None:
        words = ("command", "hall", "output", "set", "lobby/siren", "--by", "wang", "--json")
        code, out, err = await both.run(*words)
        assert (code, json.loads(out.splitlines()[-1])["verdict"]) == (0, "applied"), err
        assert switched(both, "GPIO17") == [False, True]
        refused = await both.commanded("lobby/panic", "bypass")
        assert (refused["verdict"], "whoever asks" in refused["text"]) == ("refused", True)
        added = await both.commanded("lobby/burglary", "bypass", for_s=600)
        assert added["verdict"] == "applied"
        both.gateway.pins.set("lobby/burglary", on=True)
        both.gateway.pins.set("lobby/panic", on=True)
        await both.until(lambda: len(both.events("burglary", "panic")) == 2)
        await both.commanded("lobby/burglary", "unbypass")
        await both.until(lambda: len(both.events("burglary")) == 2)
        burglary = [(e["kind"], e["qualifier"]) for e in both.events("burglary")]
        assert burglary == [("disabled", "new"), ("alarm", "new")]
        assert [e["kind"] for e in both.events("panic")] == ["alarm"]
        count = len(await both.listed())
        await both.until(lambda: len(both.events("command", "command-outcome")) == 2 * count)
        asked = [e["subkind"] for e in both.events("command", "command-outcome")]
        assert asked == ["command", "command-outcome"] * count

    play(tmp_path, story)


def test_a_gateway_killed_in_the_middle_says_unknown_and_does_nothing_again(
    tmp_path: Path,
) -> None:
    async def story(both: Pair) -> None:
        verdicts = []
        async for line in both.order("cellar/pump", "set"):
            verdicts.append(line["verdict"])
            if line["verdict"] == "accepted":
                await both.until(lambda: both.pump.on == 1)  # the order is on the line
                await both.gateway.stop(signal.SIGKILL)
                await both.gateway.start()
        assert verdicts == ["new", "accepted", "outcome-unknown"]
        assert both.pump.on == 1
        await both.until(lambda: bool(both.events("command-outcome")))
        assert "outcome-unknown" in both.events("command-outcome")[-1]["text"]

    play(tmp_path, story)


def test_a_station_killed_in_the_middle_sends_nothing_twice(tmp_path: Path) -> None:
    async def story(both: Pair) -> None:
        async for line in both.order("cellar/pump", "set"):
            if line["verdict"] == "accepted":
                both.station.kill()
        both.station = Running(both.station_site)
        await asyncio.to_thread(both.station.wait_ready)

        async def settled() -> bool:
            return all(row["verdict"] not in {"new", "sent"} for row in await both.listed())

        await both.until(settled)
        verdicts = {row["action"]: row["verdict"] for row in await both.listed()}
        assert verdicts["set"] == "outcome-unknown"  # the pump answers nobody
        assert both.pump.on == 1

    play(tmp_path, story)
