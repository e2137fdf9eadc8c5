"""From the wire to the station's commit, seen from outside: pins and ports here, the file there."""

import asyncio
import sqlite3
import tempfile
import time
from pathlib import Path

from hil.parts.journal import Journal
from hil.parts.line import Port
from hil.parts.pins import Contact, PinBoard
from tests.benchmarks.site import COMMIT_POLL_S, Site, running

QUALIFY_S = 0.05
PAUSE_S = 0.05


async def contact_id(count: int) -> list[float]:
    """Return seconds from the last byte of a message to the commit of its event at the station."""
    with tempfile.TemporaryDirectory() as name:
        site = Site(Path(name))
        await site.prepare(
            f'[[receiver]]\nid = "panels"\nformat = "mlr2"\nport = {{ path = "{name}/port" }}\n'
        )
        with Port(Path(name) / "port") as port:
            async with running(site):
                with site.ledger() as ledger:
                    result = []
                    for index in range(count):
                        before = _newest(ledger)
                        started = time.monotonic()
                        port.send(f"5011 181234E13101{index % 1000:03d}".encode() + b"\x14")
                        result.append(await _until_newer(ledger, before) - started)
                        await asyncio.sleep(PAUSE_S)
                    return result


async def contact(count: int) -> list[float]:
    """Return seconds from the end of qualification of a contact to the commit of its event."""
    with tempfile.TemporaryDirectory() as name:
        site = Site(Path(name))
        await site.prepare(
            f'[gpio]\nfactory = "bench"\nbench_socket = "{name}/pins"\n'
            f'[[gpio.point]]\nid = "door"\nline = "GPIO5"\ncontact = "no"\nkind = "alarm"\n'
            f'subkind = "burglary"\nqualify_ms = {QUALIFY_S * 1000:.0f}\n',
            bench=True,
        )
        board = PinBoard(
            Path(name) / "pins", [Contact(point="door", pin="GPIO5")], Journal("pins")
        )
        async with board, running(site):
            with site.ledger() as ledger:
                result = []
                for index in range(count):
                    before = _newest(ledger)
                    started = time.monotonic()
                    board.set("door", on=index % 2 == 0)
                    result.append(await _until_newer(ledger, before) - started - QUALIFY_S)
                    await asyncio.sleep(PAUSE_S)
                return result


def _newest(ledger: sqlite3.Connection) -> int:
    return int(ledger.execute("SELECT coalesce(max(n), 0) FROM event").fetchone()[0])


async def _until_newer(ledger: sqlite3.Connection, before: int) -> float:
    end = time.monotonic() + 10
    while _newest(ledger) == before:
        if time.monotonic() > end:
            raise RuntimeError("an event did not arrive within 10 s")
        await asyncio.sleep(COMMIT_POLL_S)
    return time.monotonic()
