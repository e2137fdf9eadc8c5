"""A loop whose time passes only while everybody sleeps: hours of back-off take no time."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from events.model import ClockQuality, Instant

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        elif not ready and timeout is None:
            raise RuntimeError("everybody waits for ever")
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.selector = _Selector()
        super().__init__(self.selector)

    def time(self) -> float:
        return self.selector.now

    def clock(self) -> Instant:
        return Instant(monotonic=self.time(), wall=1.8e9 + self.time(), clock=ClockQuality.FREE)


def run(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def clock() -> Instant:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop.clock()
