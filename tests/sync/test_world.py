"""Replication in a bad world keeps its promises; engines that cheat are caught by the same eyes."""

from collections import Counter
from dataclasses import replace

import msgspec
import pytest

from events.errors import StoreError
from events.model import Instant
from events.replication import Batch, Fetch, Lane
from sync.ledger import Commit, CommitResult
from sync.reading import LogReading, Store, Work
from sync.sink import Sink
from sync.source import Mark, Source
from tests.sync.fakes import ListLedger
from tests.sync.world import Broken, Engines, World

SEEDS = range(40)
SECONDS = 40


def test_any_interleaving_and_any_misfortune_end_in_the_log_exactly_once() -> None:
    met: Counter[str] = Counter()
    for seed in SEEDS:
        world = World(seed, paths=("lan",) if seed % 2 else ("lan", "lte"))
        world.live(SECONDS)
        met += world.met
    rare = {what: count for what, count in met.items() if count < 10}
    assert not rare, f"these misfortunes hardly happened: {rare}"
    assert len(met) >= 10


class AcknowledgesBeforeCommit(Sink):
    def _advance(self, reading: LogReading, now: Instant) -> None:
        super()._advance(reading, now)
        if reading.stores:
            reading.progress.committed(reading.stores[0].commit, reading.run_id)
            self._send(reading.next_fetch(self._flight.number(), limit_bytes=0))


class IgnoresTheFetchId(Sink):
    def _answered(self, batch: Batch, now: Instant) -> None:
        reading = self._readings.get(batch.log_id)
        if reading and reading.opens:
            batch = msgspec.structs.replace(batch, id=next(iter(reading.opens)))
        super()._answered(batch, now)


class AdvancesWithoutCommit(Sink):
    def failed(self, work: Work, now: Instant) -> None:
        if isinstance(work, Store):
            self.committed(work, now, took_s=0.0)
        else:
            super().failed(work, now)


class TakesAfterForStored(Source):
    def _fetch(self, fetch: Fetch, now: Instant) -> None:
        super()._fetch(fetch, now)
        if fetch.after:
            self._marks.append(Mark(log_id=fetch.log_id, lane=fetch.lane, stored=fetch.after + 1))


class ForgetsWhatItFollows(Source):
    def _fetch(self, fetch: Fetch, now: Instant) -> None:
        if fetch.follows:
            fetch = msgspec.structs.replace(fetch, follows=0, after=fetch.stored)
        super()._fetch(fetch, now)


class SkipsAnEvent(Source):
    def _answer(self, offer, waiting, reading, now):  # type: ignore[no-untyped-def] # as the original
        if len(reading.entries) > 3 and self._lane is Lane.URGENT:
            reading = type(reading)(
                entries=reading.entries[:1],
                gaps=(),
                through=reading.through,
                head=reading.head,
            )
        super()._answer(offer, waiting, reading, now)


class MovesTheCursorOutsideTheTransaction(ListLedger):
    def commit_now(self, gateway: str, commit: Commit) -> CommitResult:
        if self.commits % 7 == 6:
            self.commits += 1
            super().commit_now(gateway, replace(commit, entries=()))
            raise StoreError("power was lost between cursor and events")
        return super().commit_now(gateway, commit)


class FillsOverAHole(ListLedger):
    def commit_now(self, gateway: str, commit: Commit) -> CommitResult:
        return super().commit_now(gateway, replace(commit, after=0))


class ClaimsCopiesItDoesNotHold(Sink):
    def _pump(self, reading: LogReading, now: Instant) -> None:
        reading.progress.urgent += 50
        super()._pump(reading, now)


MUTANTS = [
    Engines(sink=AcknowledgesBeforeCommit),
    Engines(sink=IgnoresTheFetchId),
    Engines(sink=AdvancesWithoutCommit),
    Engines(source=TakesAfterForStored),
    Engines(source=ForgetsWhatItFollows),
    Engines(source=SkipsAnEvent),
    Engines(ledger=MovesTheCursorOutsideTheTransaction),
    Engines(ledger=FillsOverAHole),
    Engines(sink=ClaimsCopiesItDoesNotHold),
]


def _name(engines: Engines) -> str:
    kinds = (engines.source, engines.sink, engines.ledger)
    return next(kind.__name__ for kind in kinds if kind.__module__ == __name__)


@pytest.mark.parametrize("engines", MUTANTS, ids=_name)
def test_an_engine_that_cheats_is_caught(engines: Engines) -> None:
    def live() -> None:
        for seed in SEEDS:
            World(seed, engines=engines).live(SECONDS)

    with pytest.raises(Broken):
        live()
