"""Many light gateways in one process: real keys, sockets and messages, and a log in memory.

Run as a program: `python -m tests.benchmarks.lights FOLDER PORT COUNT`. Every line on the standard
input is a command, `load RATE SECONDS`, `pause SECONDS` or `end`; every answer is one line of JSON.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import zmq

from events import chain
from events.kinds import Kind
from events.model import ClockQuality, Instant, Observation, Record, Stamp
from events.replication import HOLD_S, Batch, Entry, Fetch, Hello, Lane, LogHead, Welcome
from events.wire import encode
from sync import messages
from sync.zmq_loop import LoopSocket, set_common_options

TICK_S = 0.01
BEAT_S = 0.2
URGENT_EVERY = 100  # events of the load
SOCKETS_MAX = 16_384
STEP_SOCKETS = 50  # opened at once: a station greets hundreds a second, not thousands
SETTLED_S = 30.0
BEGIN_S = 3.0  # of a load: its events are on their way for a second or two before any counts


class Light:
    """One gateway: a log in memory, and a connection for each lane."""

    def __init__(self, context: "zmq.Context[Any]", folder: Path, number: int, port: int) -> None:
        self.name = f"light-{number}"
        self.log_id = f"log-{number}"
        self.entries: list[Entry] = []
        self.urgent: list[int] = []
        self.raised: dict[int, float] = {}  # urgent events that are not acknowledged yet
        self.trimmed = 0
        self.value = chain.genesis(self.log_id)
        self.point = f"door-{number}"
        address = f"tcp://127.0.0.1:{port}"
        self.lanes = [Connection(self, context, folder, address, lane) for lane in Lane]

    @property
    def head(self) -> int:
        return self.trimmed + len(self.entries)

    def append(self, *, urgent: bool) -> None:
        seq = self.head + 1
        kind = Kind.ALARM if urgent else Kind.STATUS
        seen = Observation(point=self.point, kind=kind, value=seq % 977)
        now = time.monotonic()
        stamp = Stamp(
            monotonic_us=round(now * 1e6),
            boot_id="boot",
            wall_us=1_790_000_000_000_000 + round(now * 1e6),
            clock=ClockQuality.SYNCHRONISED,
        )
        body = encode(Record(stamp=stamp, observation=seen, urgent=urgent))
        self.value = chain.link(self.value, seq, body)
        self.entries.append(Entry(seq, self.value, body))
        if urgent:
            self.urgent.append(seq)
            self.raised[seq] = now
        for lane in self.lanes:
            lane.answer_what_waits(now)

    def read(self, lane: Lane, after: int, fetch: Fetch) -> list[Entry]:
        left, found = fetch.limit_bytes, []
        for entry in self.entries[max(0, after - self.trimmed) :]:
            early = entry.seq in self.urgent
            if lane is Lane.URGENT and not early:
                continue
            bare = lane is Lane.MAIN and early and entry.seq <= fetch.bare_through
            found.append(Entry(entry.seq, entry.chain, None) if bare else entry)
            left -= len(entry.body or b"") + 24
            if left <= 0:
                break
        return found

    def acknowledged(self, lane: Lane, stored: int, late: list[float]) -> None:
        now = time.monotonic()
        late += [now - self.raised.pop(seq) for seq in sorted(self.raised) if seq <= stored]
        if lane is Lane.MAIN and stored > self.trimmed:
            del self.entries[: stored - self.trimmed]
            self.trimmed = stored
            self.urgent = [seq for seq in self.urgent if seq > stored]


class Connection:
    """One lane of a light gateway. `late`: seconds from raising an alarm to its acknowledgement."""

    late: ClassVar[list[float]] = []
    answers = 0

    def __init__(
        self,
        light: Light,
        context: "zmq.Context[Any]",
        folder: Path,
        address: str,
        lane: Lane,
    ) -> None:
        self._light = light
        self.lane = lane
        self._open: list[tuple[Fetch, float]] = []
        self._through = 0
        self.up = False
        socket = context.socket(zmq.DEALER)
        set_common_options(socket, address)
        socket.curve_serverkey = (folder / "station.pub").read_text().strip().encode()
        socket.curve_secretkey = (folder / f"{light.name}.key").read_text().strip().encode()
        socket.curve_publickey = (
            (folder / "gateways" / f"{light.name}.pub").read_text().strip().encode()
        )
        socket.connect(address)
        self._socket = LoopSocket(socket, self._receive)
        self.greet()

    def greet(self) -> None:
        light = self._light
        head = LogHead(log_id=light.log_id, first=1, head=light.head, chain=light.value)
        now = Instant(monotonic=time.monotonic())
        hello = Hello(
            protocol_min=1,
            protocol_max=1,
            program="light",
            name=light.name,
            boot_id="boot",
            lane=self.lane,
            path="lan",
            logs=(head,),
            stamp=messages.stamp(now, "boot"),
        )
        self._socket.send([messages.encode(hello)])
        self._receive()

    def _receive(self) -> None:
        while (frames := self._socket.receive()) is not None:
            match messages.decode(frames[0].bytes):
                case Welcome():
                    self.up = True
                case Fetch() as fetch:
                    now = time.monotonic()
                    self._light.acknowledged(self.lane, fetch.stored, Connection.late)
                    self._open.append((fetch, now))
                    self.answer_what_waits(now)
                case _:
                    raise RuntimeError(f"{self._light.name} was refused, or asked something odd")

    def answer_what_waits(self, now: float) -> None:
        """Answer the oldest open fetch, if there is something for it or it was held for long."""
        while self._open:
            fetch, since = self._open[0]
            after = self._through if fetch.follows else fetch.after
            entries = self._light.read(self.lane, after, fetch) if fetch.limit_bytes else []
            if not entries and now < since + HOLD_S:
                return
            del self._open[0]
            head = self._light.head
            through = entries[-1].seq if entries else after
            if self.lane is Lane.URGENT and len(entries) < 100:
                through = max(through, head)
            self._through = through
            packed, encoding = messages.encode_entries(entries)
            batch = Batch(
                id=fetch.id,
                lane=self.lane,
                log_id=self._light.log_id,
                entries=packed,
                encoding=encoding,
                through=through,
                head=head,
            )
            Connection.answers += 1
            self._socket.send([messages.encode(batch)])
            if self._socket.has_input():  # sending has quietened the descriptor
                asyncio.get_running_loop().call_soon(self._receive)


class Crowd:
    """Every light gateway of this process."""

    def __init__(self, folder: Path, port: int, count: int) -> None:
        self._folder = folder
        self._port = port
        self._count = count
        self._lights: list[Light] = []
        self._beat_at = 0.0
        self._seeded = random.Random(3)

    async def connect(self) -> float:
        """Open every connection; return the seconds until the last one was welcomed."""
        context: zmq.Context[Any] = zmq.Context()
        context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
        began = time.monotonic()
        for number in range(self._count):
            self._lights.append(Light(context, self._folder, number, self._port))
            if number % STEP_SOCKETS == 0:
                await asyncio.sleep(0.05)
        lanes = [lane for light in self._lights for lane in light.lanes]
        greeted = time.monotonic()
        while not all(lane.up for lane in lanes):
            await asyncio.sleep(0.05)
            if time.monotonic() > greeted + 2:
                greeted = time.monotonic()
                for lane in lanes:
                    if not lane.up:
                        lane.greet()
        return time.monotonic() - began

    async def load(self, rate: float, seconds: float) -> dict[str, Any]:
        """Record `rate` events a second, spread over all; return what came of them.

        stored_rate: acknowledged a second after the first `BEGIN_S`, while as much is recorded.
        """
        Connection.late.clear()
        Connection.answers, made = 0, 0
        began, used = time.monotonic(), time.process_time()
        counted_from, before = began, self._trimmed()
        while (elapsed := time.monotonic() - began) < seconds:
            if counted_from == began and elapsed >= BEGIN_S:
                counted_from, before = time.monotonic(), self._trimmed()
            due = round(rate * elapsed)
            while made < due:
                made += 1
                self._seeded.choice(self._lights).append(urgent=made % URGENT_EVERY == 0)
            self._heartbeat()
            await asyncio.sleep(TICK_S)
        ended, took = time.monotonic(), self._trimmed() - before
        elapsed = ended - began
        answers, used = Connection.answers, time.process_time() - used
        while any(light.entries for light in self._lights):
            if time.monotonic() > began + seconds + SETTLED_S:
                raise RuntimeError("not everything was acknowledged")
            self._heartbeat()
            await asyncio.sleep(TICK_S)
        return {
            "made": made,
            "stored_rate": took / (ended - counted_from),
            "answers_rate": answers / elapsed,
            "lights_core": used / elapsed,
            "settled_s": time.monotonic() - began - elapsed,
            "alarm_s": sorted(Connection.late),
        }

    def _trimmed(self) -> int:
        return sum(light.trimmed for light in self._lights)

    async def pause(self, seconds: float) -> dict[str, Any]:
        """Only keep the connections alive."""
        Connection.answers = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._heartbeat()
            await asyncio.sleep(0.1)
        return {"answers_rate": Connection.answers / seconds}

    def _heartbeat(self) -> None:
        now = time.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + BEAT_S
        for light in self._lights:
            for lane in light.lanes:
                if lane._open and now >= lane._open[0][1] + HOLD_S:
                    lane.answer_what_waits(now)


async def _main(folder: Path, port: int, count: int) -> None:
    crowd = Crowd(folder, port, count)
    _say({"connected_s": await crowd.connect()})
    while True:
        line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        match line.split():
            case ["load", rate, seconds]:
                _say(await crowd.load(float(rate), float(seconds)))
            case ["pause", seconds]:
                _say(await crowd.pause(float(seconds)))
            case _:
                return


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
