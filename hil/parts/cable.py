"""A network cable between two hosts that are namespaces, with what can happen to a cable.

For a process with mounts and networks of its own (`hil.parts.namespaces.alone`, network=True):
when that ends, hosts and cable are gone.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

PROGRAMS: Final = ("ip", "iptables", "tc", "mount")
WEST: Final = "west"
EAST: Final = "east"
ADDRESSES: Final = {WEST: "10.77.0.1", EAST: "10.77.0.2"}
HOSTS: Final = (WEST, EAST)
_NAMES: Final = Path("/run/netns")
_END: Final = "cable"
_BURST: Final = "4kb"
_QUEUE_MS: Final = 400


class Cable:
    """The cable between the hosts `west` and `east`. Synchronous: each change takes milliseconds."""

    def __init__(self) -> None:
        """Make both hosts and the cable. Raises `RuntimeError` with what a program said."""
        _NAMES.mkdir(exist_ok=True)
        _run("mount", "-t", "tmpfs", "names", str(_NAMES))
        for host in HOSTS:
            _run("ip", "netns", "add", host)
            _run("ip", "-n", host, "link", "set", "lo", "up")
        ends = ("type", "veth", "peer", "name", _END, "netns", EAST)
        _run("ip", "-n", WEST, "link", "add", _END, *ends)
        for host in HOSTS:
            _run("ip", "-n", host, "address", "add", f"{ADDRESSES[host]}/24", "dev", _END)
            _run("ip", "-n", host, "link", "set", _END, "up")
        self._limited = False

    @staticmethod
    def at(host: str) -> list[str]:
        """Return what stands before a command that shall run on a host."""
        return [shutil.which("ip") or "ip", "netns", "exec", host]

    def heal(self) -> None:
        """Let everything pass, at any rate."""
        for host in HOSTS:
            _run(*self.at(host), "iptables", "-F", "INPUT")
            if self._limited:
                _run("tc", "-n", host, "qdisc", "del", "dev", _END, "root")
        self._limited = False
        self.plug()

    def swallow(self) -> None:
        """Let packets vanish in both directions, without a word to anybody."""
        for host in HOSTS:
            self._drop(host)

    def lose(self, share: float) -> None:
        """Lose a random share of the packets, in both directions."""
        for host in HOSTS:
            self._drop(host, "-m", "statistic", "--mode", "random", "--probability", str(share))

    def limit(self, bits_per_s: int) -> None:
        """Let no more than that pass, in either direction, behind a queue of `_QUEUE_MS`."""
        form = ("rate", f"{bits_per_s}bit", "burst", _BURST, "latency", f"{_QUEUE_MS}ms")
        for host in HOSTS:
            _run("tc", "-n", host, "qdisc", "add", "dev", _END, "root", "tbf", *form)
        self._limited = True

    def unplug(self) -> None:
        """Pull the plug at the west end: both hosts see it."""
        _run("ip", "-n", WEST, "link", "set", _END, "down")

    def plug(self) -> None:
        _run("ip", "-n", WEST, "link", "set", _END, "up")

    def _drop(self, host: str, *match: str) -> None:
        rule = ("iptables", "-A", "INPUT", "-i", _END, *match, "-j", "DROP")
        _run(*self.at(host), *rule)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
