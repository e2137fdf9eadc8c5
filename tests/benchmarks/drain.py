"""Alarms while a backlog drains, over the loopback and over a slow link that loses packets."""

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from hil.parts.journal import Journal
from hil.parts.pins import Contact, PinBoard
from tests.benchmarks.catchup import backlog
from tests.benchmarks.links import SlowLink, payload_bytes, slow_link
from tests.benchmarks.site import Site

QUALIFY_S = 0.05
POLL_S = 0.001
PAUSE_S = 0.15
ARRIVES_S = 30.0
WARM_UP_S = 5.0


def _sections(folder: Path) -> str:
    return (
        f'[gpio]\nfactory = "bench"\nbench_socket = "{folder}/pins"\n'
        f'[[gpio.point]]\nid = "door"\nline = "GPIO5"\ncontact = "no"\nkind = "alarm"\n'
        f'subkind = "burglary"\nqualify_ms = {QUALIFY_S * 1000:.0f}\n'
    )


def alarms_on_loopback(events: int, count: int) -> list[float]:
    """Return seconds from the end of qualification to the station's commit while `events` drain.

    Fewer than `count` when the backlog ends before.
    """

    async def scenario() -> list[float]:
        with tempfile.TemporaryDirectory(prefix="drain") as name:
            folder = Path(name)
            board = _board(folder)
            async with (
                board,
                backlog(folder, events, sections=_sections(folder)) as (site, _, gateway),
            ):
                await gateway.start()
                return await _alarms(board, site, count, until=events)

    return asyncio.run(scenario())


def over_slow_link(
    events: int, count: int, *, kbit: int = 256, loss: float = 0.01
) -> dict[str, float | list[float]]:
    """Drain for as long as `count` alarms take; return their delays and how the link was used.

    payload_share: bytes that TCP delivered in order to the station, of what the link can carry.
    link_share: bytes that came over the link with headers and repetitions. rate: events a second.
    Needs root, for the link.
    """

    async def scenario() -> dict[str, float | list[float]]:
        with tempfile.TemporaryDirectory(prefix="drain") as name:
            folder = Path(name)
            board = _board(folder)
            async with slow_link(kbit=kbit, loss=loss) as link, board:
                parts = backlog(
                    folder,
                    events,
                    host=link.near,
                    enter=link.enter,
                    sections=_sections(folder),
                )
                async with parts as (site, _, gateway):
                    await gateway.start()
                    return await _watch(board, site, link, count, kbit * 125)

    return asyncio.run(scenario())


async def _watch(
    board: PinBoard, site: Site, link: SlowLink, count: int, bytes_per_s: float
) -> dict[str, float | list[float]]:
    with site.ledger() as ledger:
        end = time.monotonic() + ARRIVES_S
        while _cursor(ledger, "main") == 0:
            if time.monotonic() > end:
                raise RuntimeError("nothing arrives")
            await asyncio.sleep(0.05)
        await asyncio.sleep(WARM_UP_S)
        began = time.monotonic(), await payload_bytes(site.port), link.received_bytes()
        held = _cursor(ledger, "main")
        delays = await _alarms(board, site, count, until=None)
        elapsed = time.monotonic() - began[0]
        return {
            "alarms_s": delays,
            "rate": (_cursor(ledger, "main") - held) / elapsed,
            "payload_share": (await payload_bytes(site.port) - began[1]) / elapsed / bytes_per_s,
            "link_share": (link.received_bytes() - began[2]) / elapsed / bytes_per_s,
            "seconds": elapsed,
        }


def _board(folder: Path) -> PinBoard:
    return PinBoard(folder / "pins", [Contact(point="door", pin="GPIO5")], Journal("pins"))


async def _alarms(board: PinBoard, site: Site, count: int, *, until: int | None) -> list[float]:
    delays = []
    with _patient(site) as ledger:
        while _cursor(ledger, "main") == 0:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
        for index in range(count):
            before = _cursor(ledger, "urgent")
            board.set("door", on=index % 2 == 0)
            started = time.monotonic() + QUALIFY_S
            while _cursor(ledger, "urgent") == before:
                if time.monotonic() > started + ARRIVES_S:
                    raise RuntimeError(f"alarm {index} did not arrive")
                await asyncio.sleep(POLL_S)
            if until is not None and _cursor(ledger, "main") >= until:
                break
            delays.append(time.monotonic() - started)
            await asyncio.sleep(PAUSE_S)
    return delays


def _patient(site: Site) -> "closing[sqlite3.Connection]":
    end = time.monotonic() + ARRIVES_S
    while True:
        try:
            return site.ledger()
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise


def _cursor(ledger: sqlite3.Connection, lane: str) -> int:
    query = {"main": "SELECT max(main) FROM log", "urgent": "SELECT max(urgent) FROM log"}[lane]
    return int(ledger.execute(query).fetchone()[0] or 0)
