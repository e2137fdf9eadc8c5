"""A line between station and gateway in a network of their own: rate and loss, or a long way.

The bench process already lives in a network namespace without anything else; the gateway gets a
second one. Rate is the kernel's token bucket on both ends, loss its packet filter behind it, so a
lost packet has used the line. The long way is two tun devices with a process between them that
holds every packet: TCP sees a true round trip.
"""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from hil.parts.programs import Program

STATION = "10.77.0.1"
STATION_SECOND = "10.77.0.3"  # the same machine by another way
GATEWAY = "10.77.0.2"
NEAR, FAR = "nplus0", "nplus1"
BURST_BYTES = 2000
QUEUE_MS = 400
_PLACES = "/usr/sbin:/sbin:/usr/bin:/bin"


class Link:
    """Both ends are up. `inside` goes before a command that shall run at the gateway's end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.inside = (tool("nsenter"), f"--net=/proc/{pid}/ns/net")

    def count(self) -> None:
        """Count, from now on, the packets to and from each address of the station."""
        for address in (STATION, STATION_SECOND):
            _do("iptables", "-A", "INPUT", "-d", address)
            _do("iptables", "-A", "OUTPUT", "-s", address)

    def carried_bytes(self, address: str) -> int:
        """Return the bytes of those packets so far, with IP and TCP headers, both ways."""
        rows = _do("iptables", "-nvxL").splitlines()
        return sum(int(row.split()[1]) for row in rows if address in row.split())


@asynccontextmanager
async def line(
    folder: Path, *, rate_kbit: int = 0, loss: float = 0.0, round_trip_s: float = 0.0
) -> AsyncIterator[Link]:
    """Make the line. Needs to be called in a network namespace of its own, as its root."""
    _do("ip", "link", "set", "lo", "up")
    holder = Program([tool("unshare"), "--net", tool("sleep"), "infinity"], log=folder / "ns.log")
    async with holder:
        await _entered(holder)
        link = Link(holder.pid)
        if round_trip_s:
            delay = [sys.executable, "-m", "tests.benchmarks.delay", str(holder.pid)]
            relay = Program([*delay, str(round_trip_s / 2)], log=folder / "delay.log")
            async with relay:
                await _present(relay)
                _address(link, peer=True)
                yield link
            return
        _do("ip", "link", "add", NEAR, "type", "veth", "peer", "name", FAR)
        try:
            _join(link, rate_kbit, loss)
            yield link
        finally:  # the kernel takes its time with what a network leaves when its last process goes
            _do("ip", "link", "delete", NEAR)
            _do("iptables", "--flush")


def _join(link: Link, rate_kbit: int, loss: float) -> None:
    _do("ip", "link", "set", FAR, "netns", str(link.pid))
    _address(link, peer=False)
    _do("ip", "address", "add", f"{STATION_SECOND}/24", "dev", NEAR)
    for inside, device in (((), NEAR), (link.inside, FAR)):
        if rate_kbit:
            _shape(inside, device, rate_kbit)
        if loss:
            _lose(inside, device, loss)


def tool(name: str) -> str:
    """Return the path of a system program. Raises `RuntimeError` with what to install."""
    found = shutil.which(name, path=_PLACES)
    if found is None:
        raise RuntimeError(f"{name} is not installed; install: apt-get install {_PACKAGES[name]}")
    return found


_PACKAGES = {
    "ip": "iproute2",
    "tc": "iproute2",
    "iptables": "iptables",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "sleep": "coreutils",
}


def _address(link: Link, *, peer: bool) -> None:
    for inside, device, own, other in (
        ((), NEAR, STATION, GATEWAY),
        (link.inside, FAR, GATEWAY, STATION),
    ):
        words = [own, "peer", other] if peer else [f"{own}/24"]
        _do("ip", "address", "add", *words, "dev", device, inside=inside)
        _do("ip", "link", "set", device, "up", inside=inside)


def _shape(inside: Sequence[str], device: str, rate_kbit: int) -> None:
    words = ["rate", f"{rate_kbit}kbit", "burst", str(BURST_BYTES), "latency", f"{QUEUE_MS}ms"]
    _do("tc", "qdisc", "add", "dev", device, "root", "tbf", *words, inside=inside)


def _lose(inside: Sequence[str], device: str, loss: float) -> None:
    words = ["-m", "statistic", "--mode", "random", "--probability", str(loss), "-j", "DROP"]
    _do("iptables", "-A", "INPUT", "-i", device, *words, inside=inside)


def _do(name: str, *arguments: str, inside: Sequence[str] = ()) -> str:
    command = [*inside, tool(name), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


async def _entered(holder: Program) -> None:
    """Wait until the holder is in its own network."""
    own = _network("self")
    for _ in range(500):
        await asyncio.sleep(0.01)
        if not holder.running:
            raise RuntimeError(f"no network namespace: {holder.last_words(2)}")
        if _network(holder.pid) != own:
            return
    raise RuntimeError("no network namespace within 5 s")


def _network(process: int | str) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


async def _present(relay: Program) -> None:
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if "ready" in relay.last_words(1):
            return
        if not relay.running:
            break
    raise RuntimeError(f"the long way did not come up: {relay.last_words(2)}")
