"""The real programs while the gateway's wall clock is unset, set, and stepped by days."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from events.calendar import parse_rfc3339
from hil.parts.network import free_port
from tests.gateway.site import Site
from tests.gateway.station import station, station_events

STEPPED = (sys.executable, "-c", "from tests.gateway.stepped_clock import run; run()")
DAY_S = 86_400.0


class Door:
    """Opens and closes, and remembers when it did by the right clock."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.moved_at: list[float] = []

    async def move(self, times: int) -> None:
        for _ in range(times):
            self._site.pins.set("lobby/door", on=len(self.moved_at) % 2 == 0)
            self.moved_at.append(time.time())
            await asyncio.sleep(0.15)


def of_the_door(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return its changes, in the order of the gateway's log."""
    moves = [e for e in events if (e["point"], e["kind"]) == ("lobby/door", "status")]
    return sorted(moves, key=lambda event: event["seq"])


def test_every_event_has_its_time_once_the_clock_is_right(tmp_path: Path) -> None:
    """And its order all along; nothing is lost, doubled or late, and no timer minds."""
    port = free_port()
    clock = tmp_path / "clock"
    clock.write_text("unset")

    async def scenario() -> Door:
        async with Site(tmp_path) as site:
            text = site.file.read_text().replace("127.0.0.1:9", f"127.0.0.1:{port}")
            site.file.write_text(text)
            await site.start(environment={"STEPPED_CLOCK": str(clock)}, program=STEPPED)
            door = Door(site)
            await door.move(6)
            with station(tmp_path, port):
                await site.until(lambda: len(of_the_door(station_events(tmp_path))) >= 6)
                for step in ("unset", str(-DAY_S), "0", str(DAY_S), "0"):
                    clock.write_text(step)
                    await door.move(4)
                    await asyncio.sleep(0.5)
                await site.event("clock")
                await site.until(
                    lambda: len(of_the_door(station_events(tmp_path))) >= len(door.moved_at)
                )
                await asyncio.sleep(1.0)
            assert await site.stop() == 0
            return door

    door = asyncio.run(scenario())
    events = station_events(tmp_path)
    moves = of_the_door(events)
    assert len(moves) == len(door.moved_at)
    assert [move["qualifier"] for move in moves] == ["new", "restore"] * (len(moves) // 2)
    assert not any(event["late"] for event in events)
    held = [event["seq"] for event in events if event["log_id"] is not None]
    assert held == sorted(held)
    for move, moved_at in zip(moves, door.moved_at, strict=True):
        assert abs(parse_rfc3339(move["at"]) / 1e6 - moved_at) <= 1.0, move
    assert {move["at_basis"] for move in moves[:6]} == {"corrected"}
    faults = {event["subkind"] for event in events if event["kind"] == "fault"}
    assert faults <= {"path-lost", "station-unreachable"}  # from before the station was there
