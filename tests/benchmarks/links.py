"""Links to measure over: a long round trip, and a slow one that loses packets."""

import asyncio
import ipaddress
import os
import re
import shutil
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hil.parts.programs import answer

PIECE_BYTES = 65_536
IN_FLIGHT_PIECES_MAX = 1024
_NETWORK = ipaddress.IPv4Network("10.93.0.0/16")


class DelayLine:
    """A TCP relay to `host:port` that delivers every byte `delay_s` later, at any rate."""

    def __init__(self, host: str, port: int, *, delay_s: float) -> None:
        self._far = (host, port)
        self._delay_s = delay_s
        self.port = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["DelayLine"]:
        async with asyncio.TaskGroup() as tasks:
            relays: list[asyncio.Task[None]] = []

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                relays.append(tasks.create_task(self._relay(reader, writer)))

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield self
            finally:
                server.close()
                for relay in relays:
                    relay.cancel()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._far)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, far_writer, tasks))
                tasks.create_task(self._pump(far_reader, writer, tasks))
        finally:
            writer.close()
            far_writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tasks: asyncio.TaskGroup,
    ) -> None:
        line: deque[tuple[float, bytes]] = deque()
        stirred = asyncio.Event()
        tasks.create_task(self._deliver(line, stirred, writer))
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await reader.read(PIECE_BYTES):
                line.append((loop.time() + self._delay_s, data))
                stirred.set()
        line.append((loop.time() + self._delay_s, b""))
        stirred.set()

    async def _deliver(
        self,
        line: deque[tuple[float, bytes]],
        stirred: asyncio.Event,
        writer: asyncio.StreamWriter,
    ) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while True:
                while not line:
                    stirred.clear()
                    await stirred.wait()
                due, data = line.popleft()
                await asyncio.sleep(due - loop.time())
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass(frozen=True, slots=True)
class SlowLink:
    """A network namespace behind a slow link. `near`: this side's address; `enter`: to run there."""

    name: str
    near: str

    @property
    def enter(self) -> list[str]:
        return [shutil.which("ip") or "ip", "netns", "exec", self.name]

    def received_bytes(self) -> int:
        """Return what came over the link to this side, headers and repetitions included."""
        path = Path("/sys/class/net") / self.name / "statistics" / "rx_bytes"
        return int(path.read_text(encoding="ascii"))


async def payload_bytes(port: int) -> int:
    """Return what the connections to a port of this machine received in order, without headers."""
    _, out, _ = await answer(["ss", "-tinH", f"sport = :{port}"])
    return sum(int(count) for count in re.findall(rb"bytes_received:(\d+)", out))


@asynccontextmanager
async def slow_link(*, kbit: int, loss: float) -> AsyncIterator[SlowLink]:
    """Make a link of `kbit` each way that loses a share of the packets. Needs root.

    The kernel here has no netem: a token bucket limits the rate, the packet filter drops.
    """
    name = f"nplus{os.getpid() % 100_000}"
    subnet = list(_NETWORK.subnets(new_prefix=30))[os.getpid() % 16_000]
    near, far = (str(address) for address in subnet.hosts())
    inside = f"ip netns exec {name}"
    drop = f"-m statistic --mode random --probability {loss} -j DROP"
    bucket = f"root tbf rate {kbit}kbit burst 3000 latency 400ms"
    try:
        for command in (
            f"ip netns add {name}",
            f"ip link add {name} type veth peer name far netns {name}",
            f"ip addr add {near}/30 dev {name}",
            f"ip link set {name} up",
            f"{inside} ip addr add {far}/30 dev far",
            f"{inside} ip link set far up",
            f"{inside} ip link set lo up",
            f"tc qdisc add dev {name} {bucket}",
            f"{inside} tc qdisc add dev far {bucket}",
            f"{inside} iptables -A INPUT -i far {drop}",
            f"iptables -A INPUT -i {name} {drop}",  # dropped on its way out, TCP would know
        ):
            status, _, error = await answer(command.split())
            if status:
                raise RuntimeError(f"{command}: {error}")
        yield SlowLink(name, near)
    finally:
        await answer(f"iptables -D INPUT -i {name} {drop}".split())
        await answer(["ip", "link", "del", name])
        await answer(["ip", "netns", "del", name])
