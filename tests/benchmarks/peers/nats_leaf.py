"""Outage catch-up of NATS JetStream: a leaf node's stream at the gateway, sourced by a hub.

In the peer's favour: file stores with the server's own interval of minutes between two fsync (an
event counts as stored before it is durable at either end), no encryption.

usage: nats_leaf.py PROGRAM EVENTS BODY_BYTES   (in an environment with nats-py)
Prints one JSON object: accepted_rate, rate, seconds, received.
"""

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nats
from nats.js.api import ExternalStream, StreamConfig, StreamSource

SILENCE_S = 20.0
OPEN_MAX = 1000  # publishes that wait for their acknowledgement
POLL_S = 0.01


async def main(program: str, events: int, body_bytes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="nats") as name:
        hub_port, leaf_port, join_port = _free_port(), _free_port(), _free_port()
        hub_file, leaf_file = Path(name) / "hub.conf", Path(name) / "leaf.conf"
        hub_file.write_text(
            f'listen: "127.0.0.1:{hub_port}"\nserver_name: hub\n'
            f'jetstream {{ store_dir: "{name}/hub", domain: hub }}\n'
            f'leafnodes {{ listen: "127.0.0.1:{join_port}" }}\n'
        )
        leaf_file.write_text(
            f'listen: "127.0.0.1:{leaf_port}"\nserver_name: leaf\n'
            f'jetstream {{ store_dir: "{name}/leaf", domain: leaf }}\n'
            f'leafnodes {{ remotes = [{{ url: "nats://127.0.0.1:{join_port}" }}], reconnect: 1 }}\n'
        )
        hub, leaf = _start(program, hub_file), _start(program, leaf_file)
        try:
            await _declare(hub_port, leaf_port)
            hub.terminate()
            hub.wait()
            accepted_s = await _publish(leaf_port, events, body_bytes)
            hub = _start(program, hub_file)
            first, first_count, last, held = await _watch(hub_port, events)
        finally:
            for process in (hub, leaf):
                process.kill()
                process.wait()
    if held < events:
        raise RuntimeError(f"stored {held} of {events}")
    return {
        "accepted_rate": events / accepted_s,
        "rate": (held - first_count) / (last - first),
        "seconds": last - first,
        "received": held,
    }


def _start(program: str, file: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [program, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def _connect(port: int) -> Any:
    end = time.monotonic() + 20
    while True:
        try:
            return await nats.connect(
                f"nats://127.0.0.1:{port}", allow_reconnect=False, connect_timeout=1
            )
        except Exception:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.02)


async def _declare(hub_port: int, leaf_port: int) -> None:
    at_leaf, at_hub = await _connect(leaf_port), await _connect(hub_port)
    await asyncio.sleep(2)  # the leaf joins the hub
    await at_leaf.jetstream(domain="leaf").add_stream(StreamConfig(name="EV", subjects=["ev.>"]))
    source = StreamSource(name="EV", external=ExternalStream(api="$JS.leaf.API"))
    await at_hub.jetstream(domain="hub").add_stream(StreamConfig(name="ALL", sources=[source]))
    await asyncio.sleep(1)
    await at_hub.close()
    await at_leaf.close()


async def _publish(port: int, events: int, body_bytes: int) -> float:
    connection = await _connect(port)
    stream = connection.jetstream(domain="leaf", publish_async_max_pending=2 * OPEN_MAX)
    rest, started = bytes(body_bytes - 8), time.monotonic()
    for begin in range(0, events, OPEN_MAX):
        numbers = range(begin, min(begin + OPEN_MAX, events))
        open_ = [
            await stream.publish_async("ev.b28", number.to_bytes(8, "big") + rest)
            for number in numbers
        ]
        for each in open_:
            await each
    took = time.monotonic() - started
    await connection.close()
    return took


async def _watch(port: int, events: int) -> tuple[float, int, float, int]:
    """Return when the stream held its first events, how many, when the last came, how many."""
    connection = await _connect(port)
    stream = connection.jetstream(domain="hub")
    first, first_count, held, last = 0.0, 0, 0, time.monotonic()
    while held < events and time.monotonic() - last < SILENCE_S:
        try:
            now_held = (await stream.stream_info("ALL")).state.messages
        except nats.errors.Error:  # the hub has not found its stream yet
            await asyncio.sleep(POLL_S)
            continue
        if now_held != held:
            held, last = now_held, time.monotonic()
            if not first:
                first, first_count = last, held
        await asyncio.sleep(POLL_S)
    await connection.close()
    return first, first_count, last, held


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
