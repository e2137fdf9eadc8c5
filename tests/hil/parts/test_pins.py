import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from hil.parts.journal import Journal
from hil.parts.pins import Contact, PinBoard
from hil.parts.waiting import until

CONTACTS = [
    Contact(point="button", pin="GPIO5"),
    Contact(point="door", pin="GPIO6", contact="nc"),
]


class Gateway:
    """What the pin factory does on its side of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def hear(self) -> Any:
        async with asyncio.timeout(5):
            return json.loads(await self.reader.readline())

    def say(self, **message: object) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    async def claim(self) -> dict[str, int]:
        levels: dict[str, int] = (await self.hear())["levels"]
        self.say(hello=1)
        for pin in levels:
            self.say(pin=pin, function="input")
            self.say(pin=pin, pull="up")
        return levels


def bench(path: Path, story: Callable[[PinBoard, Journal], Awaitable[None]]) -> Journal:
    async def run() -> Journal:
        journal = Journal("board")
        async with PinBoard(path / "pins", CONTACTS, journal) as board:
            await story(board, journal)
        return journal

    return asyncio.run(run())


async def connect(path: Path) -> Gateway:
    return Gateway(*await asyncio.open_unix_connection(str(path / "pins")))


def test_levels_come_first_and_follow_the_wiring(tmp_path: Path) -> None:
    async def story(board: PinBoard, journal: Journal) -> None:
        board.set("door", on=True)
        gateway = await connect(tmp_path)
        assert await gateway.claim() == {"GPIO5": 1, "GPIO6": 1}  # open button, open (cut) door
        assert "sync" in await gateway.hear()
        board.set("button", on=True)
        heard = await gateway.hear()
        assert (heard["pin"], heard["level"]) == ("GPIO5", 0)
        assert heard["t"] == journal.entries[-1].at_s
        board.set("button", on=True)
        board.set("door", on=False)
        heard = await gateway.hear()
        assert (heard["pin"], heard["level"]) == ("GPIO6", 0)
        await until(lambda: board.told["GPIO5"].get("pull") == "up", within_s=5, what="the pull")
        gateway.writer.close()

    journal = bench(tmp_path, story)
    assert [(e.point, e.on) for e in journal.of("level")] == [
        ("button", False),
        ("door", False),
        ("door", True),
        ("button", True),
        ("door", False),
    ]


def test_a_gateway_watches_once_it_has_claimed_all_pins_and_answered(tmp_path: Path) -> None:
    async def story(board: PinBoard, journal: Journal) -> None:
        gateway = await connect(tmp_path)
        await gateway.hear()
        gateway.say(pin="GPIO5", function="input")
        gateway.say(ack=1)  # answers what was never asked
        gateway.say(pin="GPIO6", function="input")
        asked = await gateway.hear()
        assert not board.watched
        gateway.say(ack=asked["sync"])
        await until(lambda: board.watched, within_s=5, what="the watch")
        gateway.writer.close()
        await until(lambda: not board.watched, within_s=5, what="the end")

    journal = bench(tmp_path, story)
    assert [e.event for e in journal.of("joined", "watching", "ended")] == [
        "joined",
        "watching",
        "ended",
    ]


def test_a_restarted_gateway_finds_the_present_levels(tmp_path: Path) -> None:
    async def story(board: PinBoard, journal: Journal) -> None:
        first = await connect(tmp_path)
        await first.claim()
        first.writer.close()
        await until(lambda: bool(journal.of("ended")), within_s=5, what="the end")
        board.set("button", on=True)
        second = await connect(tmp_path)
        assert (await second.claim())["GPIO5"] == 0
        second.writer.close()

    journal = bench(tmp_path, story)
    assert [e.event for e in journal.of("joined", "ended")] == ["joined", "ended"] * 2


def test_rubbish_from_a_gateway_ends_its_visit_only(tmp_path: Path) -> None:
    async def story(board: PinBoard, journal: Journal) -> None:
        gateway = await connect(tmp_path)
        gateway.writer.write(b"not json\n")
        await until(lambda: bool(journal.of("ended")), within_s=5, what="the end")
        gateway.writer.close()
        again = await connect(tmp_path)
        assert await again.claim() == {"GPIO5": 1, "GPIO6": 0}
        again.writer.close()

    bench(tmp_path, story)


def test_outputs_are_written_down(tmp_path: Path) -> None:
    async def story(board: PinBoard, journal: Journal) -> None:
        gateway = await connect(tmp_path)
        gateway.say(pin="GPIO9", out=1.0)
        await until(lambda: bool(journal.of("output")), within_s=5, what="the output")
        gateway.writer.close()

    (entry,) = bench(tmp_path, story).of("output")
    assert (entry.point, entry.on) == ("GPIO9", True)
