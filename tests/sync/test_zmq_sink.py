"""What the station's end refuses over real sockets, and that it disturbs nobody else."""

import asyncio

import msgspec
import pytest

from events.commands import Inquiry, Outcome, Verdict
from events.errors import ConfigError
from events.model import Instant
from events.replication import MESSAGE_LENGTH_MAX, Lane
from sync.ledger import Commit, CommitResult
from sync.messages import encode
from sync.zmq_loop import FRAME_LENGTH_MAX
from tests.sync.fakes import ListLedger, ListLog, OneLog
from tests.sync.loopback import (
    Bench,
    hello,
    new_keys,
    path_up,
    raw_client,
)


def test_a_key_that_nobody_enrolled_is_refused_and_named_on_both_sides() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.log.append(b"1")
        bench.allowed.clear()
        async with bench.station(), bench.gateway() as uplink:
            await bench.until(lambda: "key-refused" in bench.faults())
            assert [notice.key for notice in bench.noticed("key-refused")] == [
                bench.gateway_public
            ]
            assert uplink.status()[0]["paths"][0]["fault"] == "key-refused"
            assert bench.ledger.gateways == {}
            bench.allowed[bench.gateway_public] = "building-1"
            await bench.until(bench.holds)
            await bench.until(lambda: bench.changes[-1].up)

    asyncio.run(scenario())


def test_revoking_a_key_ends_a_live_connection_within_a_second() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub, bench.gateway():
            bench.log.append(b"1")
            await bench.until(bench.holds)
            del bench.allowed[bench.gateway_public]
            await bench.until(lambda: hub.status() == [], 1.0)
            bench.log.append(b"2")
            await bench.until(lambda: "key-refused" in bench.faults())
            assert bench.ledger.held("building-1").numbers("disk") == [1]
            assert bench.noticed("key-refused")[0].gateway == "building-1"

    asyncio.run(scenario())


def test_an_enrolled_gateway_cannot_speak_for_another() -> None:
    async def scenario() -> None:
        bench = Bench()
        other_public, other_secret = new_keys()
        bench.allowed[other_public] = "building-2"
        mine, forged = bench.log, ListLog(OneLog("forged"))
        mine.append(b"mine")
        forged.append(b"forged")
        async with bench.station(), bench.gateway():
            await bench.until(bench.holds)
            async with bench.gateway(log=forged, secret=other_secret, name="building-1"):
                await bench.until(lambda: "identity-refused" in bench.faults())
            mine.append(b"mine too")
            await bench.until(bench.holds)
        assert [notice.gateway for notice in bench.noticed("identity-refused")] == ["building-2"]
        assert bench.ledger.held("building-1").numbers("forged") == []
        assert bench.ledger.held("building-2").rows == {}

    asyncio.run(scenario())


def test_another_protocol_version_is_refused_by_name_whatever_else_it_says() -> None:
    async def scenario() -> None:
        bench = Bench()
        future = {"type": "hello", "protocol_min": 7, "protocol_max": 9, "unheard_of": True}
        async with bench.station(), raw_client(bench) as send:
            send(msgspec.msgpack.encode(future))
            await bench.until(lambda: bool(bench.noticed("version-mismatch")))
        assert bench.noticed("version-mismatch")[0].gateway == "building-2"

    asyncio.run(scenario())


def test_malformed_and_oversized_messages_disturb_nobody_else() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub, bench.gateway():
            bench.log.append(b"before")
            await bench.until(bench.holds)
            async with raw_client(bench) as send:
                for data in (b"", b"\xc1junk", b"\x81" * 5000, encode(hello())[:-3]):
                    send(data)
                await bench.until(lambda: bool(bench.noticed("malformed-message")))
                bench.notices.clear()
                hub._notices._given.clear()
                send(bytes(MESSAGE_LENGTH_MAX + 1))
                await bench.until(lambda: bool(bench.noticed("malformed-message")))
                send(bytes(FRAME_LENGTH_MAX + 1))
                send(encode(hello(name="building-1")))
                bench.log.append(b"after")
                await bench.until(bench.holds)
                await asyncio.sleep(1)
                bench.log.append(b"long after", urgent=True)
                await bench.until(bench.holds)
            assert bench.noticed("malformed-message")[0].gateway == "building-2"
            assert bench.faults() == []
            assert {each["gateway"] for each in hub.status()} == {"building-1"}

    asyncio.run(scenario())


def test_a_ledger_that_cannot_write_loses_nothing_and_acknowledges_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station(), bench.gateway():
            bench.ledger.failing = True
            bench.log.append(b"1", urgent=True)
            await asyncio.sleep(1.5)
            assert bench.log.acknowledged == {}
            bench.ledger.failing = False
            await bench.until(bench.holds)

    asyncio.run(scenario())


class StuckForOne(ListLedger):
    """The commits of one gateway never come to an end."""

    async def commit(self, gateway: str, commit: Commit, received: Instant) -> CommitResult:
        if gateway == "building-2":
            await asyncio.Event().wait()
        return await super().commit(gateway, commit, received)


def test_a_commit_that_hangs_holds_up_no_other_gateway() -> None:
    async def scenario() -> None:
        bench = Bench(ledger=StuckForOne())
        public, secret = new_keys()
        bench.allowed[public] = "building-2"
        other = ListLog(OneLog("other"))
        other.append(b"1", urgent=True)
        async with (
            bench.station(),
            bench.gateway(),
            bench.gateway(log=other, secret=secret, name="building-2"),
        ):
            await asyncio.sleep(0.5)
            bench.log.append(b"1", urgent=True)
            mark = (bench.station_public, "disk", Lane.URGENT)
            await bench.until(lambda: bench.log.acknowledged.get(mark) == 1, 1.0)
        assert other.acknowledged == {}

    asyncio.run(scenario())


def test_one_key_on_two_machines_is_named() -> None:
    async def scenario() -> None:
        bench = Bench()
        clone = ListLog(OneLog("clone"))
        async with bench.station(), bench.gateway(boot_id="one"):
            bench.log.append(b"1")
            await bench.until(bench.holds)
            async with bench.gateway(log=clone, boot_id="two"):
                await bench.until(lambda: bool(bench.noticed("key-shared")))
        assert bench.noticed("key-shared")[0].gateway == "building-1"

    asyncio.run(scenario())


def test_an_address_in_use_is_a_sentence_that_helps() -> None:
    async def scenario() -> None:
        bench, other = Bench(), Bench()
        async with bench.station():
            other.address = bench.address
            with pytest.raises(ConfigError, match="cannot listen") as caught:
                await other.hub().run()
            assert caught.value.hint

    asyncio.run(scenario())


def test_what_a_station_asks_beside_the_events_is_answered_over_the_lane_it_came_by() -> None:
    async def scenario() -> None:
        bench = Bench()
        async with bench.station() as hub:
            assert not hub.ask("building-1", Lane.URGENT, Inquiry(command_id="c1"))
            async with bench.gateway() as uplink:
                await bench.until(lambda: path_up(uplink))
                for lane in Lane:
                    assert hub.ask("building-1", lane, Inquiry(command_id=lane))
                await bench.until(lambda: len(bench.told) == 2)
        assert {each.command_id for each in bench.asked if isinstance(each, Inquiry)} == set(Lane)
        outcome = Outcome(command_id="c1", verdict=Verdict.APPLIED, text="station-1")
        assert set(bench.told) == {("building-1", outcome)}

    asyncio.run(scenario())
