"""A loop whose time passes only while everybody sleeps: no descriptor, no thread, no real second."""

import asyncio
from collections.abc import Callable
from typing import Any

START_S = 1000.0


class _Selector:
    """Stands where the loop looks for ready descriptors: there are none, so time goes on."""

    def __init__(self) -> None:
        self.now_s = START_S

    def select(self, timeout: float | None = None) -> list[object]:
        if timeout is None:
            raise RuntimeError("everybody waits for ever")
        self.now_s += timeout
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """`executor_delay_s` says how long work that a program gives to a thread takes.

    Such work runs in one piece on the loop, before its delay is over; `between` is called when it
    is done and nobody has heard of it yet.
    """

    def __init__(self, executor_delay_s: Callable[[], float], between: Callable[[], None]) -> None:
        super().__init__()
        self._selector = _Selector()
        self._executor_delay_s = executor_delay_s
        self._between = between

    def time(self) -> float:
        return self._selector.now_s

    def _process_events(self, event_list: list[object]) -> None:
        return

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
