import asyncio
from pathlib import Path

import serial

from hil.parts.journal import Journal
from hil.parts.receiver import PanelReceiver
from hil.parts.waiting import until
from protocols.contact_id.simulated import Patience

IMPATIENT = Patience(repeat_s=0.1, pause_s=0.1, turnaround_s=0.0)


def test_a_message_is_repeated_until_it_is_acknowledged_and_the_next_one_waits(
    tmp_path: Path,
) -> None:
    async def run() -> Journal:
        journal = Journal("receiver")
        receiver = PanelReceiver(tmp_path / "port", journal, patience=IMPATIENT)
        async with receiver:
            port = serial.Serial(str(tmp_path / "port"), timeout=5)
            receiver.report("flat-1/fire", account="1234", code="110", zone="001", qualifier="new")
            receiver.report(
                "flat-1/fire", account="1234", code="110", zone="001", qualifier="restore"
            )
            first = await asyncio.to_thread(port.read_until, b"\x14")
            assert first == b"5011 181234E11001001\x14"
            assert await asyncio.to_thread(port.read_until, b"\x14") == first
            assert receiver.pending == 2
            port.write(b"\x06")
            await until(lambda: receiver.pending == 1, within_s=5, what="an acknowledgement")
            rest = await asyncio.to_thread(port.read_until, b"R11001001\x14")
            assert rest.replace(first, b"") == b"5011 181234R11001001\x14"
            port.write(b"\x06")
            await until(lambda: receiver.pending == 0, within_s=5, what="an acknowledgement")
            port.close()
        return journal

    journal = asyncio.run(run())
    events = [(e.event, e.text) for e in journal.entries if e.event != "repeated"]
    assert events == [
        ("sent", "new"),
        ("acknowledged", ""),
        ("sent", "restore"),
        ("acknowledged", ""),
    ]
    assert journal.of("repeated")
    assert [e.accepted for e in journal.of("acknowledged")] == [True, True]
    assert [e.at_s for e in journal.entries] == sorted(e.at_s for e in journal.entries)


def test_the_acknowledgement_is_known_at_once(tmp_path: Path) -> None:
    """Whoever pulls the plug at an acknowledgement pulls it then, and not some time later."""

    async def run() -> tuple[float, float]:
        journal = Journal("receiver")
        heard: list[float] = []
        loop = asyncio.get_running_loop()
        async with PanelReceiver(tmp_path / "port", journal, patience=IMPATIENT) as receiver:
            journal.listen(lambda e: heard.append(loop.time()) if e.accepted else None)
            receiver.report("p", account="1234", code="110", zone="001", qualifier="new")
            with serial.Serial(str(tmp_path / "port"), timeout=5) as port:
                port.write(b"\x06")
                await until(lambda: bool(heard), within_s=5, what="the acknowledgement")
        return heard[0], journal.of("acknowledged")[0].at_s

    heard_s, acknowledged_s = asyncio.run(run())
    assert 0 <= heard_s - acknowledged_s < 0.05


def test_it_ends_with_messages_waiting(tmp_path: Path) -> None:
    async def run() -> int:
        receiver = PanelReceiver(tmp_path / "port", Journal("receiver"))
        async with receiver:
            receiver.report("p", account="1234", code="110", zone="001", qualifier="new")
        return receiver.pending

    assert asyncio.run(run()) == 1
