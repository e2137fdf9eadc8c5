"""The same notice about the same peer is given at most once a minute."""

from collections.abc import Callable

from sync.peers import Notice

AGAIN_S = 60.0
KEPT_MAX = 1000


class Notices:
    """Passes notices on; `take` is told the monotonic time in seconds."""

    def __init__(self, on_notice: Callable[[Notice], None]) -> None:
        self._on_notice = on_notice
        self._given: dict[tuple[str, str, str], float] = {}

    def take(self, notice: Notice, now: float) -> None:
        subject = (notice.reason, notice.key, notice.log_id)
        if now - self._given.get(subject, -AGAIN_S) < AGAIN_S:
            return
        self._given.pop(subject, None)
        self._given[subject] = now
        while len(self._given) > KEPT_MAX:
            del self._given[next(iter(self._given))]
        self._on_notice(notice)
