"""One station and a thousand connected gateways: rate, how soon an alarm is durable, idle cost."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import zmq

from hil.parts.network import free_port
from hil.parts.programs import Program, find, leashed

RATE = 10_000.0
LINE_BYTES_MAX = 16 * 1024 * 1024
IDLE_SETTLE_S = 4.0


def measure(
    *, count: int = 1000, rate: float = RATE, seconds: float = 10.0, idle_s: float = 10.0
) -> dict[str, Any]:
    """Return what one station does with `count` gateways, one in a hundred events an alarm.

    stored_rate: events a second that it acknowledged while `rate` were recorded, without the
    first 3 s; alarm_p50_s,
    alarm_p99_s: from raising an alarm to its acknowledgement at the gateway; *_core: share of a
    core of the station's process, while idle and under that load, and of the light gateways, which
    share the machine with it; resident_bytes: the station's memory.
    """
    return asyncio.run(_measure(count, rate, seconds, idle_s))


async def _measure(count: int, rate: float, seconds: float, idle_s: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="thousand") as name:
        folder, port = Path(name), free_port()
        config = _prepare(folder, port, count)
        command = [find("nplus-station"), "run", "--config", str(config)]
        async with Program(command, log=folder / "station.log") as station:
            lights = await asyncio.create_subprocess_exec(
                *leashed([sys.executable, "-m", "tests.benchmarks.lights", name]),
                str(port),
                str(count),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=LINE_BYTES_MAX,
            )
            try:
                connected = await _answer(lights)
                process = psutil.Process(station.pid)
                await _told(lights, f"pause {IDLE_SETTLE_S}")
                idle, idle_core = await _watched(process, lights, f"pause {idle_s}", idle_s)
                loaded, load_core = await _watched(
                    process, lights, f"load {rate} {seconds}", seconds
                )
                late = loaded["alarm_s"]
                return {
                    "gateways": count,
                    "connected_s": connected["connected_s"],
                    "idle_core": idle_core,
                    "idle_answers_rate": idle["answers_rate"],
                    "recorded_rate": loaded["made"] / seconds,
                    "stored_rate": loaded["stored_rate"],
                    "answers_rate": loaded["answers_rate"],
                    "settled_s": loaded["settled_s"],
                    "alarms": len(late),
                    "alarm_p50_s": late[len(late) // 2],
                    "alarm_p99_s": late[round(0.99 * (len(late) - 1))],
                    "load_core": load_core,
                    "lights_core": loaded["lights_core"],
                    "resident_bytes": process.memory_info().rss,
                    "descriptors": process.num_fds(),
                }
            finally:
                if lights.returncode is None:
                    lights.kill()
                await lights.wait()


async def _watched(
    process: psutil.Process, lights: asyncio.subprocess.Process, command: str, seconds: float
) -> tuple[dict[str, Any], float]:
    before = process.cpu_times()
    telling = asyncio.ensure_future(_told(lights, command))
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return await telling, used / seconds


async def _told(lights: asyncio.subprocess.Process, command: str) -> dict[str, Any]:
    assert lights.stdin is not None
    lights.stdin.write(f"{command}\n".encode())
    return await _answer(lights)


async def _answer(lights: asyncio.subprocess.Process) -> dict[str, Any]:
    assert lights.stdout is not None
    line = await lights.stdout.readline()
    if not line:
        raise RuntimeError("the light gateways ended")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _prepare(folder: Path, port: int, count: int) -> Path:
    listed = folder / "gateways"
    listed.mkdir()
    for number in range(count):
        _keys(folder / f"light-{number}.key", listed / f"light-{number}.pub")
    _keys(folder / "station.key", folder / "station.pub")
    config = folder / "station.toml"
    config.write_text(
        f'[station]\nname = "station"\ndata_dir = "station"\nkey_file = "station.key"\n'
        f'listen = "127.0.0.1:{port}"\ngateways_dir = "gateways"\nsocket = "s.sock"\n'
    )
    return config


def _keys(secret_file: Path, public_file: Path) -> None:
    public, secret = zmq.curve_keypair()
    secret_file.write_bytes(secret + b"\n")
    secret_file.chmod(0o600)
    public_file.write_bytes(public + b"\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="measure one station with many gateways")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    print(
        json.dumps(
            measure(count=options.count, rate=options.rate, seconds=options.seconds), indent=1
        )
    )
