"""The same notice about the same peer is given at most once a minute; what a log lacks, in words."""

from collections.abc import Callable

from events.kinds import Subkind
from sync.ledger import CommitResult, Lacking
from sync.peers import Notice
from sync.verify import UNDECLARED

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


def lacking(result: CommitResult, log_id: str) -> list[Notice]:
    """Return what people must be told of the gaps in a commit.

    Nothing is said of numbers that are held in spite of a gap: urgent events that went ahead, and
    what was there already when a log was asked for again from its beginning.
    """
    given = [each for each in result.lacking if each.why != UNDECLARED]
    undeclared = [each for each in result.lacking if each.why == UNDECLARED]
    others = result.lacking_count - sum(each.last - each.first + 1 for each in result.lacking)
    more = f", and {others} others" if others else ""
    texts = []
    if given:
        ranges = ", ".join(f"{_range(each)}: {each.why}" for each in given)
        texts.append(f"the gateway no longer has events {ranges}{more}")
    if undeclared:
        ranges = ", ".join(map(_range, undeclared))
        texts.append(f"numbers {ranges}{more} are missing, and were not declared gone")
    return [Notice(reason=Subkind.LOG_GAP, text=text, log_id=log_id) for text in texts]


def _range(each: Lacking) -> str:
    return f"{each.first} to {each.last}"
