"""Deliberately broken variants of the real code: each must be caught by the world.

A mutation replaces one function, or one word of one, for the time of a `with`. `seen_as` says by
which words of the judge it has to be caught, so that a patch that merely crashes proves nothing.
`cell` and `where` pick the worlds that can meet it.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from unittest.mock import patch

import msgspec

import buffer.schema
import station.pending
import station.recording
import station.schema
import station.writer
import sync.reading
from buffer import eviction
from buffer.degraded import Degraded
from buffer.entries import Pending
from buffer.marks import StationMarks
from buffer.reading import LogReader
from buffer.rows import Rows
from buffer.salvage import Salvage
from buffer.store import Store
from buffer.writer_thread import WriterThread
from events.replication import Lane
from station.recording import Recording
from sync import verify
from sync.reading import LogReading
from sync.reading import Store as StoreWork
from sync.sink import Sink
from sync.verify import MissingCopy
from sync.zmq_sink import Hub
from tests.world.network import HERE
from tests.world.plan import Fault, Hop, armed, directed

Patch = Callable[[], Any]


@dataclass(frozen=True)
class Mutation:
    """A mutation, and the worlds that catch it.

    cell: the pair of fault and hop that it cannot live with, each tried in a world of its own.
    crowded: with two required stations and a store that fills. where: for what takes more than one
    fault, the worlds of the plan instead, in which one of each collection is armed.
    """

    name: str
    patches: Callable[[], Sequence[Any]]
    seen_as: str
    cell: tuple[Fault, Hop] | None = None
    crowded: bool = False
    where: Sequence[Collection[Fault | Hop]] = ()
    worlds: int = 40

    def seeds(self, of: range) -> list[int]:
        """Return the worlds to try, of those of the plan at most `of`."""
        if self.cell is not None:
            return list(directed(*self.cell, crowded=self.crowded)[: self.worlds])
        fitting = (
            seed
            for seed in of
            if all(
                any(fault in wanted or hop in wanted for fault, hop in armed(seed))
                for wanted in self.where
            )
        )
        return list(islice(fitting, self.worlds))

    @contextmanager
    def applied(self) -> Iterator[None]:
        with ExitStack() as stack:
            for each in self.patches():
                stack.enter_context(each)
            yield


# --- the gateway


def _acknowledge_before_commit() -> Sequence[Any]:
    original = Store.record

    async def record(self: Store, observations: Any) -> None:
        task = asyncio.get_running_loop().create_task(original(self, observations))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    return [patch.object(Store, "record", record)]


def _errors_count_as_stored() -> Sequence[Any]:
    original = WriterThread._commit

    def commit(self: WriterThread, appends: Any) -> None:
        original(self, appends)
        for append in appends:
            append.error = None

    return [patch.object(WriterThread, "_commit", commit)]


def _delete_before_ack() -> Sequence[Any]:
    return [patch.object(StationMarks, "by_all", lambda self, lane: 2**62)]


def _any_station_will_do() -> Sequence[Any]:
    return [patch.object(StationMarks, "by_all", StationMarks.by_any)]


def _claims_only_grow() -> Sequence[Any]:
    original = StationMarks.claim

    def claim(self: StationMarks, name: str, lane: Lane, stored: int) -> bool:
        return original(self, name, lane, max(stored, self.of(name, lane)))

    return [patch.object(StationMarks, "claim", claim)]


def _gateway_wal_normal() -> Sequence[Any]:
    original = buffer.schema.pragma

    def pragma(connection: Any, text: str) -> object:
        return original(connection, text.replace("synchronous = FULL", "synchronous = NORMAL"))

    return [patch.object(buffer.schema, "pragma", pragma)]


def _reuse_a_number() -> Sequence[Any]:
    def newest(self: Rows) -> int:
        found = self.connection.execute("SELECT max(seq) FROM routine_event").fetchone()[0]
        return found or 0

    return [patch.object(Rows, "newest", newest)]


def _gap_not_sent() -> Sequence[Any]:
    return [patch.object(LogReader, "_gaps", lambda self, after, entries, last: [])]


def _volatile_counts_as_durable() -> Sequence[Any]:
    async def wait_durable(self: Degraded, seq: int) -> None:
        return

    return [patch.object(Degraded, "wait_durable", wait_durable)]


def _moved_without_origin() -> Sequence[Any]:
    def on_disk(self: Degraded, held: Any) -> list[Pending]:
        return [each.item for each in held]

    return [patch.object(Degraded, "on_disk", on_disk)]


def _evict_alarms_first() -> Sequence[Any]:
    turned = (eviction._LAST, *eviction._ORDER)
    return [patch.object(eviction, "_ORDER", turned)]


def _salvage_renumbers() -> Sequence[Any]:
    """Number what is found in the order in which it is found, as a new log would."""
    reading = Salvage.read

    def read(self: Salvage, lane: Lane, after: int, **named: Any) -> Any:
        answer = yield from reading(self, lane, after, **named)
        if lane is Lane.MAIN:
            entries = tuple(
                msgspec.structs.replace(entry, seq=number)
                for number, entry in enumerate(answer.entries, after + 1)
            )
            through = after + len(entries)
            answer = replace(answer, entries=entries, gaps=(), through=through, head=through)
        return answer

    return [patch.object(Salvage, "read", read)]


# --- replication


def _ignore_the_fetch_id() -> Sequence[Any]:
    original = Sink._answered

    def answered(self: Sink, batch: Any, now: Any) -> None:
        reading = self._readings.get(batch.log_id)
        if reading and reading.opens:
            batch = msgspec.structs.replace(batch, id=next(iter(reading.opens)))
        original(self, batch, now)

    return [patch.object(Sink, "_answered", answered)]


def _cursor_moves_on_failure() -> Sequence[Any]:
    original = Sink.failed

    def failed(self: Sink, work: Any, now: Any) -> None:
        if isinstance(work, StoreWork):
            self.committed(work, now, took_s=0.0)
        else:
            original(self, work, now)

    return [patch.object(Sink, "failed", failed)]


def _answer_before_ledger() -> Sequence[Any]:
    original = Hub._commit

    def commit(self: Hub, connection: Any, work: Any, tasks: Any) -> None:
        connection.sink.committed(work, self._clock.now(), took_s=0.0)
        self._flush(connection)
        original(self, connection, work, tasks)

    return [patch.object(Hub, "_commit", commit)]


def _history_not_looked_at() -> Sequence[Any]:
    def stored(self: LogReading) -> int:
        progress = self.progress
        return progress.main if self.lane is Lane.MAIN else max(progress.main, progress.urgent)

    return [patch.object(LogReading, "stored", stored)]


def _forgotten_copy() -> Sequence[Any]:
    taking, judging = LogReading._take_urgent, verify.judge_main

    def take(self: LogReading, waiting: Any, answer: Any) -> Any:
        entries = answer.entries[:1]
        return taking(self, waiting, replace(answer, entries=entries))

    def judge(place: Any, entries: Any, gaps: Any, **given: Any) -> Any:
        while True:
            try:
                return judging(place, entries, gaps, **given)
            except MissingCopy as missing:
                lost = next(entry for entry in entries if entry.seq == missing.seq)
                given["copies"] = {**given["copies"], (lost.seq, lost.chain): b""}

    return [
        patch.object(LogReading, "_take_urgent", take),
        patch.object(sync.reading, "judge_main", judge),
    ]


# --- the station


def _station_wal_normal() -> Sequence[Any]:
    original = station.schema.open_writer

    def open_writer(folder: Any) -> Any:
        connection = original(folder)
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    return [patch.object(station.writer, "open_writer", open_writer)]


def _cursor_outside_the_transaction() -> Sequence[Any]:
    original = station.pending.Pending.flush

    def flush(self: Any, connection: Any) -> None:
        if self.logs:
            station.pending._LOGS.run_rows(connection, self.logs.values())
            self.logs.clear()
            run = HERE.get()
            doing, run.doing = run.doing, ""  # the fault is to come after it
            connection.execute("COMMIT")
            connection.execute("BEGIN IMMEDIATE")
            run.doing = doing
        original(self, connection)

    return [patch.object(station.pending.Pending, "flush", flush)]


def _late_restore_clears() -> Sequence[Any]:
    return [patch.object(station.recording, "is_older", lambda *_, **__: False)]


def _number_without_log() -> Sequence[Any]:
    original = Recording.run

    def run(self: Recording) -> Any:
        def held(entry: Any) -> bool:
            found = self._connection.execute(
                "SELECT 1 FROM event JOIN log ON log.id = event.log"
                " WHERE log.gateway = ? AND event.seq = ? AND log.id <> ?",
                (self._gateway, entry.seq, self._log.id),
            )
            return found.fetchone() is not None

        entries = tuple(entry for entry in self._commit.entries if not held(entry))
        self._commit = replace(self._commit, entries=entries)
        return original(self)

    return [patch.object(Recording, "run", run)]


def _wall_clock_decides() -> Sequence[Any]:
    original = Recording._judge
    newest: dict[tuple[int, str, str], int] = {}

    def judge(self: Recording, n: int, seq: int, record: Any, *rest: Any) -> bool:
        key = (id(self._register), record.observation.point, record.observation.kind)
        at_us = record.stamp.wall_us or 0
        older = at_us < newest.get(key, 0)
        newest[key] = max(at_us, newest.get(key, 0))
        with patch.object(station.recording, "is_older", lambda *_, **__: older):
            return original(self, n, seq, record, *rest)

    return [patch.object(Recording, "_judge", judge)]


def _origin_not_asked() -> Sequence[Any]:
    return [patch.object(Recording, "_origin", lambda self, origin, seq: None)]


# These bring old events behind newer ones.
_LATE = (Hop.VOLATILE, Hop.MOVE, Hop.SALVAGE)
_LACKS = "lacks what devices heard accepted"
_STATE = "is newer and held"
_AHEAD = " acknowledged "

MUTATIONS = [
    Mutation(
        "acknowledge before commit",
        _acknowledge_before_commit,
        _LACKS,
        (Fault.GATEWAY_KILL, Hop.APPEND),
    ),
    Mutation(
        "an error counts as stored",
        _errors_count_as_stored,
        _LACKS,
        (Fault.GATEWAY_IO, Hop.APPEND),
    ),
    Mutation("delete before ack", _delete_before_ack, _LACKS, (Fault.STALL, Hop.EVICT)),
    Mutation(
        "any station will do", _any_station_will_do, _LACKS, (Fault.STALL, Hop.TRIM), crowded=True
    ),
    Mutation(
        "claims only grow", _claims_only_grow, _LACKS, (Fault.BACKUP, Hop.FETCH), crowded=True
    ),
    Mutation("gateway: WAL NORMAL", _gateway_wal_normal, _LACKS, (Fault.GATEWAY_CUT, Hop.BATCH)),
    Mutation(
        "reuse a number after restart",
        _reuse_a_number,
        "not settled",
        (Fault.GATEWAY_KILL, Hop.ANSWER),
    ),
    Mutation("evict alarms first", _evict_alarms_first, "evicts alarms", (Fault.STALL, Hop.EVICT)),
    Mutation("gap not sent", _gap_not_sent, "undeclared", (Fault.CLOCK, Hop.EVICT)),
    Mutation(
        "volatile counts as durable",
        _volatile_counts_as_durable,
        _LACKS,
        (Fault.GATEWAY_CUT, Hop.MOVE),
    ),
    Mutation(
        "moved without origin",
        _moved_without_origin,
        "twice",
        (Fault.STALL, Hop.VOLATILE),
        crowded=True,
    ),
    Mutation("salvage renumbers", _salvage_renumbers, "stands at", (Fault.CLOCK, Hop.SALVAGE)),
    Mutation(
        "ignore the fetch id", _ignore_the_fetch_id, "malformed-message", (Fault.KEY, Hop.MOVE)
    ),
    Mutation(
        "cursor moves on failed commit",
        _cursor_moves_on_failure,
        _AHEAD,
        (Fault.STATION_IO, Hop.COMMIT),
    ),
    Mutation(
        "answer before the ledger's commit",
        _answer_before_ledger,
        _AHEAD,
        (Fault.STATION_IO, Hop.COMMIT),
    ),
    Mutation(
        "history not looked at",
        _history_not_looked_at,
        _LACKS,
        (Fault.CARD, Hop.BATCH),
        crowded=True,
    ),
    Mutation("forgotten copy", _forgotten_copy, "main cursor"),
    Mutation("station: WAL NORMAL", _station_wal_normal, _LACKS, (Fault.STATION_CUT, Hop.TRIM)),
    Mutation(
        "cursor outside the transaction",
        _cursor_outside_the_transaction,
        "cursor",
        (Fault.STATION_KILL, Hop.COMMIT),
    ),
    Mutation("late restore clears alarm", _late_restore_clears, _STATE, where=[_LATE], worlds=80),
    Mutation(
        "number without log id", _number_without_log, "main cursor", (Fault.CLOCK, Hop.VOLATILE)
    ),
    Mutation("the wall clock decides", _wall_clock_decides, _STATE, (Fault.CLOCK, Hop.APPEND)),
    Mutation(
        "origin not asked", _origin_not_asked, "twice", (Fault.STALL, Hop.VOLATILE), crowded=True
    ),
]
