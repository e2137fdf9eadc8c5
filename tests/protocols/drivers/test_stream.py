import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from events.errors import LinkLost, StoreFull
from events.model import Instant, Observation
from protocols.drivers.stream import PENDING_MAX, drive

TICK_S = 0.02


def _now() -> Instant:
    return Instant(monotonic=time.monotonic())


class Line:
    """A stream whose far end is the test."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent: list[bytes] = []
        self.arrived: list[float] = []

    def say(self, data: bytes) -> None:
        self._arrived.put_nowait(data)

    @property
    def read_up(self) -> bool:
        return self._arrived.empty()

    async def read(self) -> bytes:
        data = await self._arrived.get()
        if not data:
            raise LinkLost("cut")
        return data

    async def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.say(b"")


class Echo:
    """A link that sees every byte as one observation and acknowledges each with that byte."""

    def __init__(self, period_s: float | None = None) -> None:
        self._seen: list[Observation] = []
        self._waiting: list[bytes] = []
        self._out = b""
        self._period_s = period_s
        self._next: float | None = None
        self.timeouts: list[float] = []
        self.lost = 0
        self.starts = 0

    def start(self, now: Instant) -> None:
        self.starts += 1
        if self._period_s is not None:
            self._next = now.monotonic + self._period_s

    def receive(self, data: bytes, now: Instant) -> None:
        for number in data:
            self._waiting.append(bytes([number]))
            self._seen.append(Observation(point="p", kind="alarm", raw=bytes([number])))

    def timeout(self, now: Instant) -> None:
        if self._next is not None and self._period_s is not None and now.monotonic >= self._next:
            self.timeouts.append(now.monotonic)
            self._next = now.monotonic + self._period_s

    def deadline(self) -> float | None:
        return self._next

    def to_send(self) -> bytes:
        data, self._out = self._out, b""
        return data

    def observations(self) -> list[Observation]:
        seen, self._seen = self._seen, []
        return seen

    def stored(self, count: int, now: Instant) -> None:
        self._out += b"".join(self._waiting[:count])
        del self._waiting[:count]

    def dropped(self, count: int, now: Instant) -> None:
        self.lost += count
        del self._waiting[:count]


class Disk:
    """A store that can be slow, and refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.held: list[bytes] = []
        self.asked: list[bytes] = []
        self.refused: set[bytes] = set()
        self.slow: set[bytes] = set()
        self.released = asyncio.Event()
        self.ready = asyncio.Event()
        self.ready.set()

    async def record(self, observations: Sequence[Observation]) -> None:
        self.asked += [one.raw for one in observations]
        await self.ready.wait()
        if any(one.raw in self.slow for one in observations):
            await self.released.wait()
        if any(one.raw in self.refused for one in observations):
            raise StoreFull("no room")
        self.held += [one.raw for one in observations]


def _run(scene: Callable[[Echo, Line, Disk], Awaitable[None]], *, link: Echo) -> None:
    async def main() -> None:
        line, disk = Line(), Disk()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            driving = group.create_task(drive(link, line, disk.record, _now))
            await scene(link, line, disk)
            driving.cancel()

    asyncio.run(main())


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - the conditions are plain values
        await asyncio.sleep(TICK_S / 4)


def test_what_is_stored_is_acknowledged_in_order() -> None:
    async def scene(link: Echo, line: Line, disk: Disk) -> None:
        line.say(b"abc")
        line.say(b"def")
        await asyncio.sleep(TICK_S)
        assert b"".join(disk.held) == b"abcdef"
        assert b"".join(line.sent) == b"abcdef"

    _run(scene, link=Echo())


def test_nothing_is_acknowledged_before_it_is_stored() -> None:
    async def scene(link: Echo, line: Line, disk: Disk) -> None:
        disk.ready.clear()
        line.say(b"a")
        await asyncio.sleep(TICK_S)
        assert line.sent == []
        disk.ready.set()
        await asyncio.sleep(TICK_S)
        assert line.sent == [b"a"]

    _run(scene, link=Echo())


def test_deadlines_and_reading_go_on_while_the_disk_hangs() -> None:
    async def scene(link: Echo, line: Line, disk: Disk) -> None:
        disk.ready.clear()
        line.say(b"a")
        await asyncio.sleep(20 * TICK_S)
        assert len(link.timeouts) >= 5
        line.say(b"b")
        await asyncio.sleep(TICK_S)
        disk.ready.set()
        await asyncio.sleep(TICK_S)
        assert b"".join(line.sent) == b"ab"

    _run(scene, link=Echo(period_s=TICK_S))


def test_a_flood_does_not_starve_the_deadlines() -> None:
    async def scene(link: Echo, line: Line, disk: Disk) -> None:
        end = time.monotonic() + 20 * TICK_S
        while time.monotonic() < end:
            line.say(b"x")
            await asyncio.sleep(0)
        assert len(link.timeouts) >= 5

    _run(scene, link=Echo(period_s=TICK_S))


def test_one_refused_observation_takes_no_neighbour_with_it() -> None:
    async def scene(link: Echo, line: Line, disk: Disk) -> None:
        disk.refused = {b"b"}
        line.say(b"abc")
        await asyncio.sleep(TICK_S)
        assert b"".join(disk.held) == b"ac"
        assert b"".join(line.sent) == b"ac"
        assert link.lost == 1

    _run(scene, link=Echo())


def test_what_found_no_room_while_waiting_is_dropped_in_order_and_never_acknowledged() -> None:
    async def scene(link: Echo, line: Line, disk: Disk) -> None:
        disk.ready.clear()
        for _ in range(PENDING_MAX):
            line.say(b"a")
        line.say(b"bbb")
        await _until(lambda: line.read_up)
        disk.ready.set()
        await _until(lambda: link.lost == 3)
        line.say(b"c")
        await _until(lambda: b"".join(line.sent).endswith(b"c"))
        assert b"".join(line.sent) == b"a" * PENDING_MAX + b"c"
        assert b"".join(disk.held) == b"a" * PENDING_MAX + b"c"
        assert link.lost == 3

    _run(scene, link=Echo())


def test_a_lost_line_is_raised_after_what_was_read_is_stored() -> None:
    async def main() -> None:
        link, line, disk = Echo(), Line(), Disk()
        disk.ready.clear()
        line.say(b"ab")
        line.close()
        async with asyncio.TaskGroup() as group:
            driving = group.create_task(_raised(link, line, disk))
            await asyncio.sleep(TICK_S)
            disk.ready.set()
            assert await driving == "cut"
        assert b"".join(disk.held) == b"ab"

    async def _raised(link: Echo, line: Line, disk: Disk) -> str:
        with pytest.raises(LinkLost) as caught:
            await drive(link, line, disk.record, _now)
        return str(caught.value)

    asyncio.run(main())


def test_a_cancelled_session_stores_and_acknowledges_what_it_had_read() -> None:
    async def main() -> None:
        link, line, disk = Echo(), Line(), Disk()
        disk.ready.clear()
        line.say(b"a")
        async with asyncio.TaskGroup() as group:
            driving = group.create_task(drive(link, line, disk.record, _now))
            await asyncio.sleep(TICK_S)
            driving.cancel()
            await asyncio.sleep(TICK_S)
            disk.ready.set()
        assert disk.held == [b"a"]
        assert line.sent == [b"a"]

    asyncio.run(main())


def test_a_fault_of_the_engine_is_not_swallowed() -> None:
    class Broken(Echo):
        def receive(self, data: bytes, now: Instant) -> None:
            raise ZeroDivisionError

    async def main() -> None:
        line = Line()
        line.say(b"a")
        await drive(Broken(), line, Disk().record, _now)

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert caught.group_contains(ZeroDivisionError)


def test_an_observation_that_waits_long_holds_back_no_other_from_the_store() -> None:
    async def scene(link: Echo, line: Line, disk: Disk) -> None:
        disk.slow = {b"a"}
        line.say(b"abc")
        await asyncio.sleep(TICK_S)
        assert disk.held == [b"b", b"c"]
        assert line.sent == []  # acknowledged in order all the same
        disk.released.set()
        await asyncio.sleep(TICK_S)
        assert b"".join(line.sent) == b"abc"

    _run(scene, link=Echo())


def test_each_observation_is_asked_for_once_even_beside_one_that_is_refused() -> None:
    async def scene(link: Echo, line: Line, disk: Disk) -> None:
        disk.refused = {b"b"}
        line.say(b"abc")
        await asyncio.sleep(TICK_S)
        assert disk.asked == [b"a", b"b", b"c"]

    _run(scene, link=Echo())
