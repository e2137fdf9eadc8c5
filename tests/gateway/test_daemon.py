import asyncio
import json
import os
import pty
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.gateway.site import COMMAND, RECEIVER, Site

HOLDER = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("pragma locking_mode = exclusive")
connection.execute("begin exclusive")
print("held", flush=True)
time.sleep(600)
"""

Story = Callable[[Site], Coroutine[Any, Any, None]]


def play(folder: Path, story: Story, *, more: str = "", bench: bool = True) -> None:
    async def run() -> None:
        async with Site(folder, more=more, bench=bench) as site:
            await story(site)

    asyncio.run(run())


def test_a_contact_becomes_an_event_and_status_tells_everything(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        await site.start()
        site.pins.set("lobby/panic", on=True)
        event = await site.event("panic")
        assert (event["point"], event["kind"], event["urgent"]) == ("lobby/panic", "alarm", True)
        status = await site.status()
        while not status["gpio"]["up"]:
            status = await site.status()
        assert status["name"] == "hall"
        assert status["head"] >= event["seq"]
        assert status["log_id"] == event["log_id"]
        assert status["store"]["state"] == "ok"
        assert 0 < status["store"]["bytes"] < status["store"]["bound"]
        assert status["oldest_unsent_s"] >= 0
        (station,) = status["stations"]
        assert (station["name"], station["stored"], station["urgent_stored"]) == ("east", 0, 0)
        assert [(path["name"], path["up"]) for path in station["paths"]] == [("loop", False)]
        assert status["gpio"]["up"] is True
        assert status["buses"] == status["receivers"] == []
        assert psutil.Process(site.process.pid).memory_info().rss < 60 * 1024 * 1024  # type: ignore[union-attr]  # it runs

    play(tmp_path, story)


def test_metrics_are_prometheus_text(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        await site.start()

        async def up() -> bool:
            code, out, _ = await site.ask("metrics")
            assert code == 0
            return 'nplus_gateway_line_up{line="gpio"} 1\n' in out

        await site.until(up)

    play(tmp_path, story)


@pytest.mark.parametrize(
    "words", [("status",), ("status", "--json"), ("tail",), ("metrics",), ("snapshot", "copy.db")]
)
def test_without_a_daemon_a_command_says_so(tmp_path: Path, words: tuple[str, ...]) -> None:
    async def story(site: Site) -> None:
        code, out, err = await site.ask(*words)
        assert (code, out) == (69, "")
        assert "nothing is running" in err
        assert "Traceback" not in err

    play(tmp_path, story)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean_quick_and_recorded(tmp_path: Path, number: signal.Signals) -> None:
    async def story(site: Site) -> None:
        await site.start()
        site.pins.set("lobby/panic", on=True)
        await site.event("panic")
        asked = time.monotonic()
        assert await site.stop(number) == 0, site.said()
        assert time.monotonic() - asked < 5
        assert not (site.folder / "hall.sock").exists()
        await site.start()
        events = await site.events()
        subkinds = [event["subkind"] for event in events]
        assert "panic" in subkinds[: subkinds.index("stopped")]
        started = await site.event("started")
        assert started["details"]["why"] == "stopped"
        assert started["details"]["version"]

    play(tmp_path, story)


def test_after_a_kill_nothing_is_lost_and_the_change_meanwhile_is_found(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        await site.start()
        site.pins.set("lobby/panic", on=True)
        before = await site.event("panic")
        await site.stop(signal.SIGKILL)
        site.pins.set("lobby/panic", on=False)
        await site.start()
        after = await site.event("panic", "restore", "lobby/panic")
        events = await site.events()
        assert before in events
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert after["seq"] > before["seq"]
        assert (await site.event("started"))["details"]["why"] == "killed"
        unwatched = [event["point"] for event in events if event["subkind"] == "unwatched"]
        assert set(unwatched) == {"lobby/panic", "lobby/door"}

    play(tmp_path, story)


def test_tail_follows(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        await site.start()
        follower = await asyncio.create_subprocess_exec(
            COMMAND,
            *("tail", "--follow", "--json", "--config", str(site.file)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert follower.stdout is not None
        site.pins.set("lobby/panic", on=True)
        async with asyncio.timeout(20):
            while True:
                line = json.loads(await follower.stdout.readline())
                if line["subkind"] == "panic":
                    break
        follower.send_signal(signal.SIGINT)
        assert await follower.wait() == 130

    play(tmp_path, story)


def test_a_snapshot_is_a_database_of_everything_stored(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        await site.start()
        site.pins.set("lobby/panic", on=True)
        await site.event("panic")
        code, out, err = await site.ask("snapshot", str(tmp_path / "copy.db"))
        assert code == 0, err
        assert out.strip() == str(tmp_path / "copy.db")
        with sqlite3.connect(tmp_path / "copy.db") as copy:
            points = [row[0] for row in copy.execute("select point from event")]
        copy.close()
        assert "lobby/panic" in points
        code, _, err = await site.ask("snapshot", str(tmp_path / "copy.db"))
        assert code == 73
        assert "exists" in err
        assert "Traceback" not in err

    play(tmp_path, story)


def test_a_lost_line_is_told_once_and_restored_across_a_restart(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        await site.start()
        lost = await site.event("line", "new", "dialler")
        assert "receiver" in lost["text"]
        assert await site.stop() == 0
        controller, port = pty.openpty()
        (tmp_path / "receiver").symlink_to(os.ttyname(port))
        await site.start()
        await site.event("line", "restore", "dialler")
        faults = [event for event in await site.events() if event["subkind"] == "line"]
        assert [event["qualifier"] for event in faults] == ["new", "restore"]
        said = [json.loads(line)["event"] for line in site.log.read_text().splitlines()]
        assert said.count("line lost") == said.count("line up") == 1
        os.close(controller)
        os.close(port)

    play(tmp_path, story, more=RECEIVER)


def test_a_configuration_with_faults_is_told_whole_and_ends_with_78(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        text = site.file.read_text().replace("hall.key", "no.key").replace("line = 6", "line = 5")
        site.file.write_text(text)
        code, _, err = await site.ask("run")
        assert code == 78
        assert "gateway.key_file" in err
        assert "gpio.point[1].line" in err
        assert "Traceback" not in err

    play(tmp_path, story)


def test_a_broken_gateway_runs_on_a_bench_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPLUS_MUTANT", "ack-before-commit")

    async def refused(site: Site) -> None:
        code, _, err = await site.ask("run")
        assert code == 78
        assert "not a test bench" in err

    async def runs(site: Site) -> None:
        await site.start()
        assert (await site.status())["mutant"] == "ack-before-commit"

    for name in ("building", "bench"):
        (tmp_path / name).mkdir()
    asyncio.run(_with_gpio_bench(tmp_path / "building", refused))
    play(tmp_path / "bench", runs)


async def _with_gpio_bench(folder: Path, story: Story) -> None:
    """A gateway that is allowed bench pins, but is no bench as a whole."""
    async with Site(folder, bench=False) as site:
        site.file.write_text(
            site.file.read_text().replace('factory = "bench"', 'factory = "bench"\nbench = true')
        )
        await story(site)


def test_a_second_gateway_on_the_same_socket_is_refused(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        await site.start()
        code, _, err = await site.ask("run")
        assert code == 69
        assert "already answers" in err
        assert (await site.status())["store"]["state"] == "ok"

    play(tmp_path, story)


def test_a_locked_store_is_told_and_stops_nobody(tmp_path: Path) -> None:
    async def locked(site: Site) -> None:
        await site.start()
        await site.stop()
        (file,) = (site.folder / "data").glob("*.db")
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HOLDER, str(file)), stdout=asyncio.subprocess.PIPE
        )
        assert holder.stdout is not None
        await holder.stdout.readline()
        try:
            await site.start()
            status = await site.status()
            assert status["store"]["state"] == "locked"
            assert "Traceback" not in site.said()
        finally:
            holder.kill()
            await holder.wait()

        async def well() -> bool:
            return bool((await site.status())["store"]["state"] == "ok")

        await site.until(well)
        await site.event("started")
        assert await site.stop() == 0

    play(tmp_path, locked)


def test_levels_are_compared_once_a_locked_store_can_be_read(tmp_path: Path) -> None:
    """Nothing that was stored active is stored again, and what came to rest meanwhile is told."""

    async def story(site: Site) -> None:
        await site.start()
        site.pins.set("lobby/panic", on=True)
        await site.event("panic", "new")
        await site.stop()
        (file,) = (site.folder / "data").glob("*.db")
        holder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HOLDER, str(file)), stdout=asyncio.subprocess.PIPE
        )
        assert holder.stdout is not None
        await holder.stdout.readline()
        try:
            await site.start()
            assert (await site.status())["store"]["state"] == "locked"
            await asyncio.sleep(1)
        finally:
            holder.kill()
            await holder.wait()

        async def well() -> bool:
            return bool((await site.status())["store"]["state"] == "ok")

        await site.until(well)
        await asyncio.sleep(6)  # levels are compared behind what was held back
        events = await site.events()
        assert [e["qualifier"] for e in events if e["subkind"] == "panic"] == ["new"]
        intervals = [e for e in events if e["subkind"] == "unwatched"]
        firsts = [e for e in intervals if e["details"]["why"] == "first-start"]
        points = {e["point"] for e in intervals}
        assert len(firsts) == len(points)
        assert len(intervals) >= 2 * len(points)
        site.pins.set("lobby/panic", on=False)
        await site.event("panic", "restore")
        assert await site.stop() == 0

    play(tmp_path, story)


def test_a_folder_that_takes_no_writes_is_told_and_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")

    async def story(site: Site) -> None:
        await site.start()
        status = await site.status()
        assert status["store"]["state"] != "ok"
        assert status["log_id"] is None or isinstance(status["log_id"], str)
        assert "Traceback" not in site.said()
        site.pins.set("lobby/panic", on=True)
        alarm = await site.event("panic")  # kept in memory, for a station to fetch
        assert (alarm["volatile"], alarm["urgent"]) == (True, True)
        asked = time.monotonic()
        assert await site.stop() == 0, site.said()
        assert time.monotonic() - asked < 5

    play(tmp_path, story)


def test_a_store_of_a_newer_program_is_named_until_somebody_deals_with_it(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        await site.start()
        await site.stop()
        (file,) = (site.folder / "data").glob("*.db")
        with closing(sqlite3.connect(file)) as newer:
            newer.execute("PRAGMA user_version = 2000")
        await site.start()
        fault = await site.event("store", "new", "gateway")
        assert "events.db.newer-version-1" in fault["text"]
        status = await site.status()
        assert status["store"]["state"] == "ok"
        assert any("newer program" in each["text"] for each in status["faults"])
        assert "store files set aside" in site.said()
        for each in (site.folder / "data").glob("events.db.newer-version-1*"):
            each.rename(site.folder / each.name)
        await site.event("store", "restore", "gateway")
        assert await site.stop() == 0

    play(tmp_path, story)


def test_without_a_status_socket_alarms_go_on(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        text = site.file.read_text().replace('"hall.sock"', '"hall.key/hall.sock"')
        site.file.write_text(text)
        await site.start()
        assert await site.stop() == 0
        site.file.write_text(text.replace('"hall.key/hall.sock"', '"hall.sock"'))
        await site.start()
        fault = await site.event("configuration", "new", "gateway")
        assert "hall.sock" in fault["text"]
        await site.event("configuration", "restore", "gateway")

    play(tmp_path, story)


class Manager:
    """A service manager's end of sd_notify."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        said: list[str] = []
        while True:
            try:
                said.extend(self.socket.recv(4096).decode().splitlines())
            except BlockingIOError:
                return said


def test_the_service_manager_hears_of_start_life_and_stop(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        manager = Manager(tmp_path / "notify")
        said: list[str] = []

        def has(word: str) -> bool:
            said.extend(manager.heard())
            return any(line.startswith(word) for line in said)

        await site.start(
            environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        )
        assert site.process is not None
        await site.until(lambda: has("READY=1"))
        await site.until(lambda: has("WATCHDOG=1"))
        site.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)
        manager.heard()
        await asyncio.sleep(1.0)
        assert manager.heard() == []  # a stopped process feeds nobody
        site.process.send_signal(signal.SIGCONT)
        said.clear()
        await site.until(lambda: has("WATCHDOG=1"))
        assert await site.stop() == 0
        assert has("STOPPING=1")
        manager.socket.close()

    play(tmp_path, story)


def test_a_defect_outside_the_drivers_ends_the_process_with_70(tmp_path: Path) -> None:
    async def story(site: Site) -> None:
        code = (
            "import sys\n"
            "from pathlib import Path\n"
            "from gateway import daemon, service\n"
            "async def broken(self): raise ZeroDivisionError('defect')\n"
            "service.Service._beat = broken\n"
            "sys.exit(daemon.run(Path(sys.argv[1])))\n"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code, str(site.file)),
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
        assert process.returncode == 70
        assert "ZeroDivisionError" in err.decode()

    play(tmp_path, story)
