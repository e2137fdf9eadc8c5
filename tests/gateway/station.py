"""The station whose key the gateway of `tests.gateway.site` knows, as a real process."""

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from events.errors import NplusError
from station.listing import Listing
from tests.station.site import PROGRAM


@contextmanager
def station(folder: Path, port: int) -> Iterator[None]:
    """Run it until the end of the block."""
    config = folder / "station.toml"
    config.write_text(
        f"""[station]
name = "east"
data_dir = "station"
key_file = "east.key"
listen = "127.0.0.1:{port}"
gateways_dir = "gateways"
socket = "station.sock"
"""
    )
    words = ["--config", str(config)]
    enroll = [*PROGRAM, "enroll", "hall", str(folder / "hall.pub"), *words]
    subprocess.run(enroll, check=True, stdout=subprocess.DEVNULL)
    with (folder / "station.log").open("ab") as log:
        process = subprocess.Popen([*PROGRAM, "run", *words], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def station_events(folder: Path) -> list[dict[str, Any]]:
    """Return what it holds, in the order of its commits."""
    try:
        with closing(Listing(folder / "station")) as listing:
            return list(listing.after(0, None, None))
    except NplusError:
        return []  # nothing yet
