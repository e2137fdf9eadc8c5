"""In which order a station acts on what many gateways say at once: an alarm passes the backlogs.

A thousand gateways may each have a batch waiting; whoever took them in turn would come to an alarm
after all of them. So messages are received ahead of those that can wait.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

WAITING_MAX = 2048  # messages
WAITING_BYTES_MAX = 16 * 1024 * 1024  # and one message more
PASSING_MAX = 16  # in a row; then one of those that wait has its turn


class Sized(Protocol):
    def __len__(self) -> int: ...


Frame = TypeVar("Frame", bound=Sized)


class Inbox(Generic[Frame]):
    """Holds back messages of which `may_wait` is true; those keep their order, and so do the others."""

    def __init__(self, may_wait: Callable[[list[Frame]], bool]) -> None:
        self._may_wait = may_wait
        self._waiting: deque[list[Frame]] = deque()
        self._bytes = 0
        self._passed = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def next(self, receive: Callable[[], list[Frame] | None]) -> list[Frame] | None:
        """Return the message to act on now, None when there is none; `receive` does the same."""
        while self._has_room() and not (self._waiting and self._passed >= PASSING_MAX):
            frames = receive()
            if frames is None:
                break
            if not self._may_wait(frames):
                self._passed += 1
                return frames
            self._waiting.append(frames)
            self._bytes += _size(frames)
        self._passed = 0
        if not self._waiting:
            return None
        frames = self._waiting.popleft()
        self._bytes -= _size(frames)
        return frames

    def _has_room(self) -> bool:
        return len(self._waiting) < WAITING_MAX and self._bytes < WAITING_BYTES_MAX


def _size(frames: Sequence[Sized]) -> int:
    return sum(map(len, frames))
