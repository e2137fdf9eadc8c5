"""The SQLite event storage of the ThingsBoard gateway: what it accepts, what it gives back.

In the peer's favour: `put` counts as accepted although it returns before anything is on disk, and
the storage runs with synchronous=NORMAL. `drained_rate` counts until every event was read back.

usage: thingsboard_storage.py EVENTS [ONE_BY_ONE]   (in an environment with thingsboard-gateway)
Prints one JSON object: accepted_rate, drained_rate, bytes_per_event. With ONE_BY_ONE, so many
events more follow alone, a pause after each, and bytes_per_event is theirs.
"""

import json
import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

from thingsboard_gateway.storage.sqlite.sqlite_event_storage import SQLiteEventStorage

SILENCE_S = 10.0
TEXT_BYTES = 40


def main(events: int, one_by_one: int = 0) -> dict[str, float]:
    log = logging.getLogger("storage")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    log.setLevel(logging.CRITICAL)
    log.trace = lambda *_, **__: None  # type: ignore[attr-defined]
    folder = tempfile.mkdtemp(prefix="thingsboard")
    settings = {
        "data_file_path": f"{folder}/",
        "messages_ttl_in_days": 7,
        "max_read_records_count": 1000,
    }
    storage = SQLiteEventStorage(settings, log, threading.Event())
    values = {"smoke": 1, "text": "x" * TEXT_BYTES}
    body = json.dumps(
        {"deviceName": "b28", "telemetry": [{"ts": 1_790_000_000_000, "values": values}]},
        separators=(",", ":"),
    )
    written, started = _written_bytes(), time.monotonic()
    accepted = sum(bool(storage.put(body)) for _ in range(events))
    accepted_s = time.monotonic() - started
    got, last = 0, time.monotonic()
    while got < events and time.monotonic() - last < SILENCE_S:
        if taken := _drain(storage):
            got, last = got + taken, time.monotonic()
        else:
            time.sleep(0.005)
    if min(got, accepted) < events:
        raise RuntimeError(f"accepted {accepted}, gave back {got} of {events}")
    drained_s = last - started
    if one_by_one:
        written = _written_bytes()
        for _ in range(one_by_one):
            storage.put(body)
            while not _drain(storage):
                time.sleep(0.005)
    return {
        "accepted_rate": accepted / accepted_s,
        "drained_rate": got / drained_s,
        "bytes_per_event": (_written_bytes() - written) / (one_by_one or events),
        "body_bytes": len(body),
    }


def _drain(storage: SQLiteEventStorage) -> int:
    """Take one pack and acknowledge it; return how many events it held."""
    pack = storage.get_event_pack()
    if pack:
        storage.event_pack_processing_done()
    return len(pack)


def _written_bytes() -> int:
    text = Path("/proc/self/io").read_text()
    return int(text.split("write_bytes:")[1].split()[0])


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))), flush=True)
    os._exit(0)  # the storage's own threads would go on
