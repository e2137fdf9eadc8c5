import asyncio
import resource
import signal
import socket
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from events.errors import EX_CANTCREAT
from events.replication import Lane
from station import schema
from sync.keys import keygen
from tests.station.site import (
    PROGRAM,
    Lines,
    Running,
    Site,
    alarm,
    detour,
    fill,
    until,
    until_async,
)
from tests.sync.fakes import ListLog

NAMED_S = 10.0


def of(events: list[dict[str, Any]], subkind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["subkind"] == subkind]


def test_what_a_gateway_offers_stands_at_the_station_once_and_in_order(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.enrol("house-1")
    log = ListLog()
    for number in range(300):
        log.append(alarm(f"zone-{number}", urgent=number % 7 == 0), urgent=number % 7 == 0)

    async def scenario() -> None:
        async with site.gateway("house-1", log):
            await until_async(lambda: len(site.events()) == 300, 20)
            row = (await asyncio.to_thread(site.gateways))["house-1"]
            assert (row["state"], row["missing"]) == ("connected", 0)
            assert row["log_id"] == "disk"
            assert row["last_seen"] is not None

    with site.station() as station:
        asyncio.run(scenario())
        assert site.gateways()["house-1"]["seq"] == 300
        assert station.stop() == 0
    events = site.events()  # the station is down: the list is read from the file
    assert [event["n"] for event in events] == list(range(1, 301))
    assert sorted(event["seq"] for event in events) == list(range(1, 301))
    wanted = {
        "n", "gateway", "log_id", "seq", "point", "kind", "subkind", "qualifier", "value", "unit",
        "native", "at", "clock", "received_at", "urgent", "late", "volatile",
    }  # fmt: skip
    assert wanted <= events[0].keys()
    assert "Traceback" not in station.lines()


def test_silence_is_one_event_its_end_another_and_both_survive_restarts(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_after_s=5)
    site.enrol("house-1")
    log = ListLog()
    log.append(alarm("door"))

    async def connected() -> None:
        async with site.gateway("house-1", log):
            await until_async(lambda: site.gateways()["house-1"]["state"] == "connected", 10)

    with site.station() as station:
        asyncio.run(connected())
        until(lambda: bool(of(site.events(), "gateway-lost")), 8)
        assert site.gateways()["house-1"]["state"] == "lost"
        assert station.stop() == 0
    with site.station() as station:
        assert site.gateways()["house-1"]["state"] == "lost"
        station.wait_for("gateway enrolled")
        asyncio.run(connected())
        until(lambda: len(of(site.events(), "gateway-lost")) == 2, 5)
        station.kill()
    told = of(site.events(), "gateway-lost")
    assert [(event["qualifier"], event["gateway"]) for event in told] == [
        ("new", "house-1"),
        ("restore", "house-1"),
    ]
    assert {(event["log_id"], event["seq"], event["kind"]) for event in told} == {
        (None, None, "fault")
    }


def test_an_unknown_key_is_named_and_disturbs_nobody(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_after_s=90)
    site.enrol("house-1")
    keygen(tmp_path, "stranger")
    log, strange = ListLog(), ListLog()
    strange.append(alarm("nowhere"))

    async def scenario() -> None:
        async with site.gateway("stranger", strange), site.gateway("house-1", log):
            await until_async(lambda: bool(of(site.events(), "key-refused")), NAMED_S)
            log.append(alarm("door"), urgent=True)
            await until_async(lambda: bool(of(site.events(), "panic")), NAMED_S)

    with site.station():
        asyncio.run(scenario())
    events = site.events()
    assert [event["point"] for event in of(events, "panic")] == ["door"]
    (refused,) = of(events, "key-refused")
    assert refused["details"]["key"] == (tmp_path / "stranger.pub").read_text().strip()


def test_a_gateway_that_claims_another_name_is_named_and_not_believed(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_after_s=5)
    site.enrol("house-1")
    site.enrol("house-2")
    log = ListLog()
    log.append(alarm("door"))

    async def scenario() -> None:
        async with site.gateway("house-1", log, claims="house-2"):
            await until_async(lambda: bool(of(site.events(), "identity-refused")), NAMED_S)
            await until_async(lambda: len(of(site.events(), "gateway-lost")) == 2, 8)

    with site.station():
        asyncio.run(scenario())
        assert {row["state"] for row in site.gateways().values()} == {"never-seen"}
    assert of(site.events(), "panic") == []


def test_enrolling_and_revoking_bite_within_a_second_on_a_running_station(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_after_s=90)
    (tmp_path / "gateways").mkdir()
    keygen(tmp_path, "house-1")
    log = ListLog()

    async def scenario(station: Running) -> None:
        async with site.gateway("house-1", log):
            await until_async(lambda: "key-refused" in station.lines(), NAMED_S)
            public = str(tmp_path / "house-1.pub")
            await asyncio.to_thread(site.command, "enroll", "house-1", public)
            await until_async(lambda: "gateway enrolled" in station.lines(), 1.0)
            log.append(alarm("before"), urgent=True)
            await until_async(lambda: len(of(site.events(), "panic")) == 1, NAMED_S)
            await asyncio.to_thread(site.command, "revoke", "house-1")
            await until_async(lambda: "gateway revoked" in station.lines(), 1.0)
            await asyncio.sleep(0.5)
            log.append(alarm("after"), urgent=True)
            await asyncio.sleep(2.0)

    with site.station() as station:
        asyncio.run(scenario(station))
        assert site.gateways()["house-1"]["state"] == "revoked"
    assert [event["point"] for event in of(site.events(), "panic")] == ["before"]


def test_a_followed_list_goes_on_through_a_restart_and_ends_quietly(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_after_s=90)
    site.enrol("house-1")
    log = ListLog()
    follow = [*PROGRAM, "events", "--json", "--after", "0", "--follow", "-c", str(site.config)]

    async def feed(point: str, count: int, lines: Lines) -> None:
        async with site.gateway("house-1", log):
            for number in range(count):
                log.append(alarm(f"{point}-{number}"), urgent=True)
            await until_async(lambda: len(lines.more()) >= len(log.logs[0].rows), NAMED_S)

    with site.station() as station:
        lines = Lines(follow)
        asyncio.run(feed("first", 5, lines))
        station.kill()
    with site.station() as station:
        asyncio.run(feed("second", 5, lines))
        assert station.stop() == 0
    lines.process.send_signal(signal.SIGINT)
    _, complaint = lines.process.communicate(timeout=5)
    assert [event["n"] for event in lines.read] == list(range(1, 11))
    assert (lines.process.returncode, complaint) == (130, b"")


def test_a_followed_list_ends_when_nobody_reads_it(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fill(site, ("house-1", alarm("door")))
    lines = Lines([*PROGRAM, "events", "--json", "--follow", "-c", str(site.config)])
    until(lambda: bool(lines.more()), 8)
    lines._out.close()
    assert lines.process.wait(5) == 0
    assert lines.process.stderr is not None
    with lines.process.stderr as complaint:
        assert complaint.read() == b""


def test_a_lock_held_by_another_program_is_waited_for(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.station() as station:
        assert station.stop() == 0
    with closing(sqlite3.connect(tmp_path / "data" / schema.FILE_NAME)) as other:
        other.isolation_level = None
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("CREATE TABLE theirs (what)")
        running = Running(site)
        try:
            running.wait_for("store locked")
            assert running.process.poll() is None
            other.execute("ROLLBACK")
            other.close()
            running.wait_ready()
            assert running.stop() == 0
        finally:
            running.kill()


def test_a_second_station_a_newer_store_and_a_taken_port_are_sentences(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.station():
        second = site.command("run")
        assert (second.returncode, "already works on" in second.stderr) == (69, True)
        (tmp_path / "other").mkdir()
        neighbour = Site(tmp_path / "other", listen=f"127.0.0.1:{site.port}")
        taken = neighbour.command("run")
        assert (taken.returncode, "cannot listen on" in taken.stderr) == (78, True)
    with closing(sqlite3.connect(tmp_path / "data" / schema.FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {(schema.MAJOR + 1) * 1000}")
    newer = site.command("run")
    assert (newer.returncode, "newer program" in newer.stderr) == (73, True)
    listed = site.command("events")
    assert (listed.returncode, "newer program" in listed.stderr) == (73, True)
    for done in (second, taken, newer, listed):
        assert "Traceback" not in done.stderr


def test_one_of_two_paths_that_falls_silent_is_named(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_after_s=5)
    site.enrol("house-1")
    log = ListLog()

    async def scenario() -> None:
        async with detour(site.port) as cut, site.gateway("house-1", log, detours=[cut]):
            await until_async(lambda: len(site.gateways()["house-1"]["paths"]) == 2, NAMED_S)
        async with site.gateway("house-1", log, detours=[cut]):
            await until_async(lambda: bool(of(site.events(), "path-lost")), 15)
            row = (await asyncio.to_thread(site.gateways))["house-1"]
            assert {path["name"]: path["state"] for path in row["paths"]} == {
                "path-0": "connected",
                "path-1": "lost",
            }

    with site.station():
        asyncio.run(scenario())
    (lost,) = of(site.events(), "path-lost")
    assert (lost["point"], lost["qualifier"]) == ("gateway/path-1", "new")
    assert of(site.events(), "gateway-lost") == []


def test_killed_or_stopped_in_the_middle_of_a_drain_nothing_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    site = Site(tmp_path, lost_after_s=90)
    site.enrol("house-1")
    log = ListLog()
    rows = log.logs[0].rows

    def held() -> int:
        return max(
            (stored for (_, _, lane), stored in log.acknowledged.items() if lane is Lane.MAIN),
            default=0,
        )

    async def scenario() -> None:
        async with site.gateway("house-1", log):
            for ending in ("kill", "stop", "kill", "nothing"):
                before = held()
                for number in range(5_000):
                    log.logs[0].append(
                        alarm("door", urgent=number % 50 == 0), urgent=number % 50 == 0
                    )
                log.stir()
                with site.station() as station:
                    wanted = len(rows) if ending == "nothing" else before + 1
                    await until_async(lambda: held() >= wanted, 60)  # noqa: B023 - awaited here
                    if ending == "kill":
                        station.kill()
                    else:
                        assert await asyncio.to_thread(station.stop) == 0

    asyncio.run(scenario())
    events = site.events()
    assert sorted(event["seq"] for event in events) == list(range(1, 20_001))
    assert [event["n"] for event in events] == list(range(1, 20_001))


def test_a_station_whose_file_was_taken_away_ends_and_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.station() as station:
        for file in (tmp_path / "data").glob("station.db*"):
            file.unlink()
        assert station.process.wait(20) == EX_CANTCREAT
        assert "deleted or replaced" in station.lines()
        assert "Traceback" not in station.lines()
    with site.station():
        assert site.gateways() == {}


def test_the_service_manager_hears_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(10)
    site = Site(tmp_path)
    with manager, pytest.MonkeyPatch.context() as environment:
        environment.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        environment.setenv("WATCHDOG_USEC", "200000")
        with site.station() as station:
            said = [manager.recv(1000).decode() for _ in range(4)]
            assert station.stop() == 0
            while "STOPPING=1" not in said:
                said.append(manager.recv(1000).decode())
    assert any(line.startswith("READY=1") for line in said)
    assert said.count("WATCHDOG=1") >= 2


def test_a_gateway_with_another_station_s_key_is_noticed(tmp_path: Path) -> None:
    """Whose it is the station cannot know; that there is one it says."""
    site = Site(tmp_path, lost_after_s=90)
    site.enrol("house-1")
    right = (tmp_path / "centre.pub").read_bytes()

    async def scenario() -> None:
        keygen(tmp_path / "other", "centre")
        (tmp_path / "centre.pub").write_bytes((tmp_path / "other" / "centre.pub").read_bytes())
        async with site.gateway("house-1", ListLog()):
            await until_async(lambda: bool(of(site.events(), "key-refused")), 20)
        (tmp_path / "centre.pub").write_bytes(right)

    with site.station():
        asyncio.run(scenario())
    (refused,) = of(site.events(), "key-refused")
    assert "another station's key" in refused["text"]
    assert refused["gateway"] == ""


def listed(site: Site, folder: Path, count: int) -> list[str]:
    """Enrol gateways in one go."""
    (folder / "gateways").mkdir()
    names = [f"house-{number}" for number in range(count)]
    for name in names:
        keygen(folder, name)
        (folder / "gateways" / f"{name}.pub").write_bytes((folder / f"{name}.pub").read_bytes())
    return names


def are(site: Site, state: str) -> bool:
    return {row["state"] for row in site.gateways().values()} == {state}


def test_a_station_that_stood_still_lost_nobody(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_after_s=5)
    names = listed(site, tmp_path, 3)

    async def scenario() -> None:
        async with AsyncExitStack() as gateways:
            for name in names:
                await gateways.enter_async_context(site.gateway(name, ListLog()))
            await until_async(lambda: are(site, "connected"), 20)
            station.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(5.5)
            station.process.send_signal(signal.SIGCONT)
            await until_async(lambda: are(site, "connected"), 20)
            await asyncio.sleep(0.5)

    with site.station() as station:
        asyncio.run(scenario())
        station.kill()
    assert [event for event in site.events() if event["kind"] == "fault"] == []
    assert "stood still" in station.lines()


@pytest.mark.soak
def test_many_lost_at_once_are_one_event_over_a_restart_of_the_station(tmp_path: Path) -> None:
    site = Site(tmp_path, lost_after_s=8)
    names = listed(site, tmp_path, 12)

    def named() -> set[str]:
        told = of(site.events(), "mass-loss")
        return set().union(*(event["details"]["gateways"].split(", ") for event in told)) - {""}

    async def connected() -> None:
        async with AsyncExitStack() as gateways:
            for name in names:
                await gateways.enter_async_context(site.gateway(name, ListLog()))
            await until_async(lambda: are(site, "connected"), 30)

    with site.station() as station:
        asyncio.run(connected())
        until(lambda: are(site, "lost"), 12)
        assert all(row["lost_at_once"] for row in site.gateways().values())
        until(lambda: named() == set(names), 10)
        station.kill()
    with site.station() as station:
        assert are(site, "lost")
        asyncio.run(connected())
        until(lambda: of(site.events(), "mass-loss")[-1]["qualifier"] == "restore", 10)
        station.kill()
    told = of(site.events(), "mass-loss")
    assert (told[0]["qualifier"], told[-1]["qualifier"]) == ("new", "restore")
    assert len(told) <= 5
    assert named() == set(names)
    assert of(site.events(), "gateway-lost") == []


def test_a_station_takes_as_many_descriptors_as_it_may(tmp_path: Path) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, most))
    try:
        with Site(tmp_path).station() as station:
            assert resource.prlimit(station.process.pid, resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
