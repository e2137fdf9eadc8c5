"""A fetch that waits, and the answer to it that came."""

from dataclasses import dataclass

from events.model import Instant
from events.replication import Batch, Entry, Fetch
from sync.verify import Copies


@dataclass(slots=True)
class Answer:
    """A batch that came for an open fetch; `copies` is None until they were looked up."""

    batch: Batch
    entries: tuple[Entry, ...]
    received: Instant
    size: int = 0
    copies: Copies | None = None

    def bare(self, copies: Copies) -> tuple[int, int] | None:
        """Return the first and the last number of those whose body is neither here nor there."""
        bare = [
            entry.seq
            for entry in self.entries
            if entry.body is None and (entry.seq, entry.chain) not in copies
        ]
        return (bare[0], bare[-1]) if bare else None


@dataclass(slots=True)
class OpenFetch:
    fetch: Fetch
    sent_at: float
    behind: bool  # there was something to send when it was asked
    answer: Answer | None = None
    missed: bool = False  # it was told that no answer comes
