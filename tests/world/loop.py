"""A loop whose time passes only while everybody sleeps: no descriptor, no thread, no real second."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from heapq import heappop, heappush
from itertools import count
from typing import Any

START_S = 1000.0


class VirtualLoop(asyncio.BaseEventLoop):
    """`executor_delay_s` says how long work that a program gives to a thread takes.

    Such work runs in one piece on the loop, before its delay is over; `between` is called when it
    is done and nobody has heard of it yet.
    """

    def __init__(self, executor_delay_s: Callable[[], float], between: Callable[[], None]) -> None:
        super().__init__()
        self._now_s = START_S
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.Handle]] = []  # of one moment: in turn
        self._turns = count()
        self._executor_delay_s = executor_delay_s
        self._between = between

    def time(self) -> float:
        return self._now_s

    def call_at(  # type: ignore[override] # fewer type variables
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._turns), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        return  # it is passed over when its time comes

    def _run_once(self) -> None:
        """Take one turn, as the base class does, without a selector: most of a world is turns."""
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2].cancelled():
                heappop(timers)
            if not timers:
                raise RuntimeError("everybody waits for ever")
            self._now_s = max(self._now_s, timers[0][0])
        while timers and timers[0][0] <= self._now_s:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()

    def _write_to_self(self) -> None:
        return

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override] # fewer type variables
        answer = self.create_future()

        def work() -> None:
            if answer.done():
                return
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                answer.set_exception(error)
            else:
                self._between()
                if not answer.done():
                    answer.set_result(result)

        self.call_later(self._executor_delay_s(), work)
        return answer
