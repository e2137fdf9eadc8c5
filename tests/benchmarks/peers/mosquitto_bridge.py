"""Outage catch-up of a Mosquitto bridge: a broker at the gateway, a broker at the station.

In the peer's favour: queue limits lifted, a thousand messages in flight instead of twenty, no
encryption, and nothing is made durable at the station: a message counts as soon as a subscriber
has received it. QoS 1 and a persistent session, because the peer would lose events without.

usage: mosquitto_bridge.py PROGRAM EVENTS BODY_BYTES   (in an environment with paho-mqtt)
Prints one JSON object: accepted_rate, rate, seconds, received.
"""

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt

SILENCE_S = 20.0
TOPIC = "ev/b28"
COMMON = """allow_anonymous true
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 1000
persistence true
"""


def main(program: str, events: int, body_bytes: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mosquitto") as name:
        folder = Path(name)
        station_port, gateway_port = _free_port(), _free_port()
        station_file, gateway_file = folder / "station.conf", folder / "gateway.conf"
        station_file.write_text(
            f"listener {station_port} 127.0.0.1\npersistence_location {name}/s_\n{COMMON}"
        )
        gateway_file.write_text(
            f"listener {gateway_port} 127.0.0.1\npersistence_location {name}/g_\n{COMMON}"
            f"connection up\naddress 127.0.0.1:{station_port}\ntopic ev/# out 1\n"
            "cleansession false\nrestart_timeout 1 1\nnotifications false\n"
        )
        station = _start(program, station_file, station_port)
        gateway = _start(program, gateway_file, gateway_port)
        try:
            time.sleep(2)  # the bridge makes its session
            _register(station_port)
            station.terminate()
            station.wait()
            accepted_s = _publish(gateway_port, events, body_bytes)
            station = _start(program, station_file, station_port)
            seen, first, last = _receive(station_port, events)
        finally:
            for process in (station, gateway):
                process.kill()
                process.wait()
    if seen < events:
        raise RuntimeError(f"received {seen} of {events}")
    return {
        "accepted_rate": events / accepted_s,
        "rate": (events - 1) / (last - first),
        "seconds": last - first,
        "received": seen,
    }


def _start(program: str, file: Path, port: int) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [program, "-c", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.02)
        else:
            return process


def _client(name: str) -> mqtt.Client:
    return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=not name)


def _register(port: int) -> None:
    """Give the subscriber a session at the station that outlives the outage."""
    done = threading.Event()
    client = _client("station")
    client.on_subscribe = lambda *_: done.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe("ev/#", 1)
    done.wait(10)
    client.disconnect()
    client.loop_stop()


def _publish(port: int, events: int, body_bytes: int) -> float:
    client = _client("")
    client.max_inflight_messages_set(1000)
    client.max_queued_messages_set(0)
    client.connect("127.0.0.1", port)
    client.loop_start()
    started = time.monotonic()
    rest = bytes(body_bytes - 8)
    sent = [
        client.publish(TOPIC, number.to_bytes(8, "big") + rest, qos=1) for number in range(events)
    ]
    for each in sent:
        each.wait_for_publish()
    took = time.monotonic() - started
    client.disconnect()
    client.loop_stop()
    return took


def _receive(port: int, events: int) -> tuple[int, float, float]:
    """Return how many different events came, and when the first and the last did."""
    seen: set[bytes] = set()
    times = [0.0, time.monotonic()]

    def on_message(_client: object, _data: object, message: Any) -> None:
        seen.add(message.payload[:8])
        times[1] = time.monotonic()
        times[0] = times[0] or times[1]

    client = _client("station")
    client.on_message = on_message
    client.connect("127.0.0.1", port)
    client.subscribe("ev/#", 1)
    client.loop_start()
    while len(seen) < events and time.monotonic() - times[1] < SILENCE_S:
        time.sleep(0.05)
    client.disconnect()
    client.loop_stop()
    return len(seen), times[0], times[1]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
