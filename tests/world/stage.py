"""The stage: what stands between the real programs and a real machine, put in place once.

The programs' own modules run as they are. Replaced are the file layer of SQLite (`tests.world.disk`),
the ZeroMQ sockets (`tests.world.network`), the one thread of the gateway's writer (its steps are
taken on the loop), randomness and keys. Every replacement is an assignment to a module's name.
"""

import random
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import buffer.bound
import buffer.log
import buffer.store
import buffer.volatile
import buffer.writer
import sync.zmq_lane
import sync.zmq_sink
import sync.zmq_source
from buffer.eviction import Eviction, Step
from buffer.log import EventLog
from buffer.store import Store
from buffer.writer_thread import Append, WriterThread
from station import recording
from station.writer import Writer as StationWriter
from tests.world import disk, network
from tests.world.network import HERE

chance = random.Random(0)  # of the world that runs; seeded anew for each


class SteppedWriter(WriterThread):
    """The writer's thread, without a thread: each turn of its loop is a call of the loop's."""

    def start(self, loop: Any) -> None:
        self._loop = loop
        self._process = HERE.get()
        self._scheduled = self._over = False
        self._handed_at = 0.0

    def put(self, request: Any) -> None:
        super().put(request)
        self._schedule()

    def _schedule(self) -> None:
        if not (self._scheduled or self._over) and self._loop is not None:
            self._scheduled = True
            self._loop.call_later(chance.uniform(0.0005, 0.004), self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        if self._over:
            return
        try:
            self._drain(block=False)
            self._turn()
            if not self._finished():
                if not self._idle():
                    self._schedule()
                return
        except BaseException:
            self._end()
            raise
        self._end()

    def _end(self) -> None:
        self._over = True
        self._close()
        self._hand(self._answers.deliver_end)

    def _commit(self, appends: list[Append]) -> None:
        moved = any(item.record.origin for append in appends for item in append.items)
        self._process.doing = "volatile to store" if moved else "device to store"
        try:
            super()._commit(appends)
        finally:
            self._process.doing = ""

    def _hand(self, call: Callable[..., None], *arguments: object) -> None:
        group = arguments[0] if arguments else None
        if getattr(group, "accepted", None):
            self._process.appended(group)
            self._process.reached("store to device")
        assert self._loop is not None
        self._handed_at = max(self._handed_at, self._loop.time() + chance.uniform(0, 0.002))
        self._loop.call_at(self._handed_at, call, *arguments)


def _trim(original: Callable[[EventLog, int], int]) -> Callable[[EventLog, int], int]:
    def trim(log: EventLog, through: int) -> int:
        process = HERE.get()
        before, process.doing = process.doing, "trim"
        first = log.head.first
        try:
            return process.trimming(log, first, lambda: original(log, through))
        finally:
            process.doing = before

    return trim


def _evict(original: Callable[..., Step]) -> Callable[..., Step]:
    def evict(log: EventLog, **given: Any) -> Step:
        process = HERE.get()
        before, process.doing = process.doing, "eviction"
        process.deleted.clear()
        try:
            step = original(log, **given)
        finally:
            process.doing = before
        process.evicted(log)
        return step

    return evict


def _delete(original: Callable[..., None]) -> Callable[..., None]:
    def delete(self: Any, each: Any, seqs: list[int], *rest: Any) -> None:
        HERE.get().deleted[each.name] = tuple(seqs)
        original(self, each, seqs, *rest)

    return delete


def _recording(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def run(self: Any) -> Any:
        HERE.get().doing = "station commit"
        return original(self)

    return run


def _transact(original: Callable[..., None]) -> Callable[..., None]:
    def transact(self: Any, jobs: Any) -> None:
        process = HERE.get()
        process.doing = ""
        original(self, jobs)
        process.committed = process.doing
        process.doing = ""

    return transact


def _acknowledge(original: Callable[..., None]) -> Callable[..., None]:
    def acknowledge(self: Any, station: str, log_id: str, lane: Any, stored: int) -> None:
        HERE.get().claimed(station, log_id, lane, stored)
        original(self, station, log_id, lane, stored)

    return acknowledge


def public_of(secret: str) -> str:
    return secret.replace("secret", "public")


_set = False


def set_up() -> None:
    global _set  # noqa: PLW0603 - one stage for the process
    if _set:
        return
    _set = True
    disk.install()
    shim: Any = network.shim_of_zmq()
    stores: Any = buffer.store
    bounds: Any = buffer.bound
    for module in (sync.zmq_source, sync.zmq_sink):
        module.zmq = shim  # type: ignore[attr-defined]
        module.public_of = public_of  # type: ignore[attr-defined]
    for name, loaded in list(sys.modules.items()):
        if name.startswith("sync.zmq_") and hasattr(loaded, "LoopSocket"):
            setattr(loaded, "LoopSocket", network.LoopSocket)  # noqa: B010 - no name mypy knows
    sink: Any = sync.zmq_sink
    lane: Any = sync.zmq_lane
    sink.Gatekeeper = network.Gatekeeper
    lane.random = SimpleNamespace(SystemRandom=lambda: chance)
    secrets: Any = SimpleNamespace(token_hex=lambda count: chance.randbytes(count).hex())
    for module in (buffer.log, buffer.volatile):
        module.secrets = secrets  # type: ignore[attr-defined]
    writers: Any = buffer.writer
    writers.WriterThread = SteppedWriter
    stores.BOUND_BYTES_MIN = 64 * 1024
    bounds.RESERVE_BYTES_MIN = 8 * 1024
    log, ledger, writing, store = map(_open, (EventLog, recording.Recording, StationWriter, Store))
    log.trim = _trim(EventLog.trim)
    log.evict = _evict(EventLog.evict)
    _open(Eviction)._delete = _delete(Eviction._delete)
    store.acknowledge = _acknowledge(Store.acknowledge)
    ledger.run = _recording(recording.Recording.run)
    writing._transact = _transact(StationWriter._transact)


def _open(kind: type) -> Any:
    """Return a class as something whose methods may be assigned to."""
    return kind
