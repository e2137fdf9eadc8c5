"""What was last stored of every condition and source.

Drivers ask it when they start, to compare a level with the last stored one and a message with the
last stored raw bytes. It lives in memory; the store keeps a copy that is brought up to date in
steps, riding on a commit that happens anyway, so that a start needs to replay few events.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

from events.errors import UnreadableEvent
from events.model import BYPASSED_KIND, Condition, Observation, Origin, Record, condition
from events.wire import decode

CONDITIONS_MAX: Final = 20_000
SOURCES_MAX: Final = 1_000
CHECKPOINT_EVERY: Final = 4096  # events; about so many are replayed after a kill
CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
_SILENCED: Final = BYPASSED_KIND.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The rows that changed since the last one. The copy then holds everything up to `through`."""

    since: int
    through: int
    noted_bytes: int
    latest: tuple[tuple[str, str, str, str, int, bytes], ...]
    last_raw: tuple[tuple[str, int, bytes], ...]
    forgotten: tuple[Condition, ...]
    forgotten_sources: tuple[str, ...]


class Memory:
    """A bounded map from conditions and sources to the newest stored event of each.

    Beyond the bound the one that was longest without an event is forgotten; `forgotten_count` says
    how often that happened. Answers follow what is stored while the program runs, so that a driver
    that is started again compares with the present and not with the past.
    """

    def __init__(
        self,
        *,
        conditions_max: int = CONDITIONS_MAX,
        sources_max: int = SOURCES_MAX,
        checkpoint_bytes: int = CHECKPOINT_BYTES,
    ) -> None:
        self._checkpoint_bytes = checkpoint_bytes
        self._noted_bytes = 0
        self._conditions_max = conditions_max
        self._sources_max = sources_max
        self._latest: dict[Condition, tuple[int, bytes]] = {}
        self._last_raw: dict[str, tuple[int, bytes]] = {}
        self._changed: set[Condition] = set()
        self._changed_sources: set[str] = set()
        self._forgotten: set[Condition] = set()
        self._forgotten_sources: set[str] = set()
        self.forgotten_count = 0
        self.through = 0
        self.checkpointed = 0

    def load(
        self,
        through: int,
        latest: Iterable[tuple[str, str, str, str, int, bytes]],
        last_raw: Iterable[tuple[str, int, bytes]],
    ) -> None:
        """Take the store's copy, in order of seq, as of event `through`."""
        self.through = self.checkpointed = through
        for *key, seq, body in latest:
            point, kind, subkind, condition = key
            self._latest[point, kind, subkind, condition] = (seq, body)
        for source, seq, raw in last_raw:
            self._last_raw[source] = (seq, raw)

    def note(
        self, seq: int, observation: Observation, body: bytes, *, again_of: Origin | None = None
    ) -> None:
        """Take a stored event; call in the order of the log.

        seq: 0 for one that has no number in it. again_of: it stood in this log at that place first,
        and is passed over where a newer one of its condition is known.
        """
        self.through = max(self.through, seq)
        self._noted_bytes += len(body)
        key = condition(observation)
        held = self._latest.get(key)
        if again_of is not None and held is not None and not _is_of(again_of, *held):
            return
        self._latest.pop(key, None)  # moves it to the end: least recently stored stands first
        self._latest[key] = (seq, body)
        self._changed.add(key)
        self._forgotten.discard(key)
        if len(self._latest) > self._conditions_max:
            self._forget(next(iter(self._latest)))
        if observation.raw and observation.source:
            self._note_raw(observation.source, seq, observation.raw)

    def take(self, seq: int, record: Record, body: bytes, log_id: str) -> None:
        """Take a stored record of the log `log_id`, as `note` does."""
        self.note(seq, record.observation, body, again_of=again_of(record, log_id))

    def merge(self, later: "Memory") -> None:
        """Take over what another memory learned after this one's time."""
        for body in later.bodies():
            observation = _observation(body)
            if observation is not None:
                self.note(0, observation, body)

    def numbered(self, numbers: Container[int]) -> list[tuple[int, bytes]]:
        """Return number and body of each condition's newest event whose number is one of these."""
        return [(seq, body) for seq, body in self._latest.values() if seq in numbers]

    def bodies(self) -> list[bytes]:
        """Return the newest event of every condition, least recently stored first."""
        return [body for _, body in self._latest.values()]

    def silenced(self) -> list[Observation]:
        """Return the newest event of each condition that was last recorded under a bypass."""
        likely = (body for body in self.bodies() if _SILENCED in body)
        found = (_observation(body) for body in likely)
        return [seen for seen in found if seen is not None and BYPASSED_KIND in seen.details]

    def latest(
        self, point: str, kind: str, subkind: str, condition: str = ""
    ) -> Observation | None:
        """Return the newest stored observation of one condition."""
        held = self._latest.get((point, kind, subkind, condition))
        return None if held is None else _observation(held[1])

    def last_raw(self, source: str) -> bytes | None:
        """Return the raw bytes of the newest stored observation of a source that carried any."""
        held = self._last_raw.get(source)
        return None if held is None else held[1]

    @property
    def checkpoint_due(self) -> bool:
        events = self.through - self.checkpointed
        return events >= CHECKPOINT_EVERY or self._noted_bytes >= self._checkpoint_bytes

    @property
    def changed(self) -> bool:
        return bool(
            self._changed or self._changed_sources or self._forgotten or self._forgotten_sources
        )

    def take_checkpoint(self) -> Checkpoint:
        """Return the rows to write, and consider them written; `give_back` if they were not."""
        checkpoint = Checkpoint(
            since=self.checkpointed,
            noted_bytes=self._noted_bytes,
            through=self.through,
            latest=tuple((*key, *self._latest[key]) for key in self._changed),
            last_raw=tuple((key, *self._last_raw[key]) for key in self._changed_sources),
            forgotten=tuple(self._forgotten),
            forgotten_sources=tuple(self._forgotten_sources),
        )
        self._changed, self._changed_sources = set(), set()
        self._forgotten, self._forgotten_sources = set(), set()
        self.checkpointed = self.through
        self._noted_bytes = 0
        return checkpoint

    def give_back(self, checkpoint: Checkpoint) -> None:
        """Make the rows of a checkpoint due again: it was not written."""
        self.checkpointed = min(self.checkpointed, checkpoint.since)
        self._noted_bytes += checkpoint.noted_bytes
        for row in checkpoint.latest:
            key = row[:4]
            (self._changed if key in self._latest else self._forgotten).add(key)
        for source, *_ in checkpoint.last_raw:
            known = source in self._last_raw
            (self._changed_sources if known else self._forgotten_sources).add(source)
        self._forgotten.update(k for k in checkpoint.forgotten if k not in self._latest)
        self._forgotten_sources.update(
            s for s in checkpoint.forgotten_sources if s not in self._last_raw
        )

    def _note_raw(self, source: str, seq: int, raw: bytes) -> None:
        self._last_raw.pop(source, None)
        self._last_raw[source] = (seq, raw)
        self._changed_sources.add(source)
        self._forgotten_sources.discard(source)
        if len(self._last_raw) > self._sources_max:
            oldest = next(iter(self._last_raw))
            del self._last_raw[oldest]
            self._changed_sources.discard(oldest)
            self._forgotten_sources.add(oldest)
            self.forgotten_count += 1

    def _forget(self, key: Condition) -> None:
        del self._latest[key]
        self._changed.discard(key)
        self._forgotten.add(key)
        self.forgotten_count += 1


def again_of(record: Record, log_id: str) -> Origin | None:
    """Return the place at which a record stood in this log first, None where it did not."""
    origin = record.origin
    return None if origin is None or origin.log_id != log_id else origin


def _is_of(first: Origin, seq: int, body: bytes) -> bool:
    """Tell whether an event is the one that stood at `first`, or that one recorded again."""
    record = readable(body)
    return seq == first.seq or (record is not None and record.origin == first)


def readable(body: bytes) -> Record | None:
    """Return the record in a body, None where a newer program wrote it in a form of its own."""
    try:
        return decode(body)
    except UnreadableEvent:
        return None


def _observation(body: bytes) -> Observation | None:
    record = readable(body)
    return None if record is None else record.observation
