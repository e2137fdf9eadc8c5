"""The long way: every packet between two tun devices is held for the same time.

usage: python -m tests.benchmarks.delay PID SECONDS   (the far device goes to the network of PID)
"""

import asyncio
import fcntl
import os
import struct
import subprocess
import sys
from contextlib import suppress

from tests.benchmarks.link import FAR, NEAR, tool

_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
PACKET_BYTES_MAX = 65_536
QUEUE_PACKETS = 10_000


def device(name: str) -> int:
    """Return a descriptor that reads and writes the packets of a new tun device."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(
        descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
    )
    return descriptor


async def relay(near: int, far: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()

    def carry(source: int, target: int) -> None:
        with suppress(BlockingIOError):
            while packet := os.read(source, PACKET_BYTES_MAX):
                loop.call_later(seconds, _put, target, packet)

    loop.add_reader(near, carry, near, far)
    loop.add_reader(far, carry, far, near)
    await asyncio.Event().wait()


def _put(target: int, packet: bytes) -> None:
    with suppress(OSError):  # a device that is down loses packets, as a line does
        os.write(target, packet)


def main(pid: int, seconds: float) -> None:
    near, far = device(NEAR), device(FAR)
    for name in (NEAR, FAR):
        subprocess.run(
            [tool("ip"), "link", "set", name, "txqueuelen", str(QUEUE_PACKETS)], check=True
        )
    subprocess.run([tool("ip"), "link", "set", FAR, "netns", str(pid)], check=True)
    print("ready", flush=True)
    asyncio.run(relay(near, far, seconds))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
