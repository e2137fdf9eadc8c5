"""A gateway's log for tests: real bodies, real chain, cut into commits at will."""

from collections.abc import Sequence

from events import chain
from events.kinds import Kind
from events.model import ClockQuality, Instant, Observation, Origin, Record, Stamp
from events.replication import Entry, Gap, Lane
from events.wire import encode
from sync.ledger import Commit

WALL_S = 1_790_000_000.0  # 2026-09-21
BOOT = "boot-1"


class FixedClock:
    """A clock that stands where the test puts it."""

    def __init__(self, monotonic: float = 1000.0) -> None:
        self.monotonic = monotonic
        self.quality = ClockQuality.SYNCHRONISED

    boot_id = "station-boot"

    def now(self) -> Instant:
        return Instant(monotonic=self.monotonic, wall=WALL_S + self.monotonic, clock=self.quality)

    def stamp(self, instant: Instant) -> Stamp:
        return Stamp(
            monotonic_us=round(instant.monotonic * 1e6),
            boot_id=self.boot_id,
            wall_us=None if instant.wall is None else round(instant.wall * 1e6),
            clock=instant.clock,
        )


def record(
    point: str = "door",
    *,
    kind: str = Kind.ALARM,
    subkind: str = "panic",
    condition: str = "",
    qualifier: str = "new",
    monotonic_s: float = 10.0,
    boot_id: str = BOOT,
    clock: ClockQuality = ClockQuality.SYNCHRONISED,
    edge_us: int | None = None,
    urgent: bool = False,
    origin: Origin | None = None,
    value: float | str | bool | None = None,
) -> Record:
    wall_us = None if clock is ClockQuality.UNSET else round((WALL_S + monotonic_s) * 1e6)
    return Record(
        stamp=Stamp(
            monotonic_us=round(monotonic_s * 1e6), boot_id=boot_id, wall_us=wall_us, clock=clock
        ),
        observation=Observation(
            point=point,
            kind=kind,
            subkind=subkind,
            condition=condition,
            qualifier=qualifier,
            edge_us=edge_us,
            value=value,
        ),
        urgent=urgent,
        origin=origin,
    )


class GatewayLog:
    """One log. `entries[seq - 1]` is event `seq`."""

    def __init__(self, log_id: str = "log-1", *, volatile: bool = False) -> None:
        self.log_id = log_id
        self.volatile = volatile
        self.entries: list[Entry] = []
        self.urgent: set[int] = set()

    def append(self, item: Record | bytes, *, urgent: bool = False) -> int:
        body = item if isinstance(item, bytes) else encode(item)
        seq = len(self.entries) + 1
        self.entries.append(Entry(seq, chain.link(self.chain_at(seq - 1), seq, body), body))
        if urgent or (isinstance(item, Record) and item.urgent):
            self.urgent.add(seq)
        return seq

    def chain_at(self, seq: int) -> bytes:
        return self.entries[seq - 1].chain if seq else chain.genesis(self.log_id)

    def main(
        self, first: int, last: int, *, skip: Sequence[int] = (), gaps: Sequence[Gap] = ()
    ) -> Commit:
        """Return the commit of numbers `first` to `last`, without those in `skip`."""
        wanted = [e for e in self.entries[first - 1 : last] if e.seq not in skip]
        lost = {seq for gap in gaps for seq in range(gap.first, gap.last + 1)}
        return Commit(
            log_id=self.log_id,
            lane=Lane.MAIN,
            entries=tuple(entry for entry in wanted if entry.seq not in lost),
            through=last,
            chain=self.chain_at(last),
            head=len(self.entries),
            gaps=tuple(gaps),
            confirmed=len(skip),
            volatile=self.volatile,
        )

    def early(self, *numbers: int, through: int | None = None) -> Commit:
        """Return the commit of urgent events that went ahead."""
        return Commit(
            log_id=self.log_id,
            lane=Lane.URGENT,
            entries=tuple(self.entries[seq - 1] for seq in numbers),
            through=through if through is not None else max(numbers),
            chain=b"",
            head=len(self.entries),
            volatile=self.volatile,
        )
