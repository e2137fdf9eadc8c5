"""What the tests of the log share: records, a model of the log, and ways to look at one."""

from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

from buffer.bound import Bound
from buffer.entries import Pending, pending
from buffer.log import FILE_NAME, EventLog
from buffer.notes import Notes
from events.chain import genesis, link
from events.kinds import is_urgent
from events.model import ClockQuality, Observation, Stamp
from events.replication import Lane, Reading

BOOT = "0" * 32
MIB = 1024 * 1024


def stamp(number: int = 1) -> Stamp:
    return Stamp(
        monotonic_us=number * 1000,
        boot_id=BOOT,
        wall_us=1_800_000_000_000_000 + number,
        clock=ClockQuality.FREE,
    )


def observation(number: int = 1, **fields: object) -> Observation:
    given: dict[str, object] = {"point": f"hall/{number % 7}", "kind": "status", **fields}
    return Observation(**given)  # type: ignore[arg-type] # the caller names real fields


def item(number: int = 1, **fields: object) -> Pending:
    seen = observation(number, **fields)
    return pending(seen, stamp(number), urgent=is_urgent(seen.kind, configured=False))


def alarm(number: int = 1, **fields: object) -> Pending:
    return item(number, kind="alarm", **fields)


def open_log(folder: Path, bound_bytes: int = 64 * MIB) -> EventLog:
    return EventLog.open(folder / FILE_NAME, bound=Bound(bound_bytes))


def read(
    log: EventLog,
    lane: Lane,
    after: int = 0,
    *,
    limit_bytes: int = 1 << 30,
    bare_through: int = 0,
    between: Callable[[], None] = lambda: None,
) -> Reading:
    """Read to the end of the limit, calling `between` between slices."""
    steps = log.read(lane, after, limit_bytes=limit_bytes, bare_through=bare_through)
    return finished(steps, between)


def finished(
    steps: Generator[None, None, Reading], between: Callable[[], None] = lambda: None
) -> Reading:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            reading: Reading = stop.value
            return reading
        between()


def copy_states(log: EventLog) -> None:
    """Copy the newest states, as the store does every so often: only then may events go."""
    log.write_notes([Notes(checkpoint=log.memory().take_checkpoint())])


def bodies(reading: Reading) -> list[bytes | None]:
    return [entry.body for entry in reading.entries]


def check_chain(log_id: str, reading: Reading, after: int = 0, chain: bytes | None = None) -> None:
    """Assert that a main-lane reading is contiguous and chained from `after` on."""
    chain = genesis(log_id) if chain is None else chain
    expected = after + 1
    gaps = {gap.first: gap for gap in reading.gaps}
    for entry in reading.entries:
        while gap := gaps.pop(expected, None):
            expected, chain = gap.last + 1, gap.chain
        assert entry.seq == expected
        assert entry.body is not None
        chain = link(chain, entry.seq, entry.body)
        assert entry.chain == chain
        expected += 1
    while gap := gaps.pop(expected, None):
        expected = gap.last + 1
    assert not gaps
    assert reading.through == expected - 1


def numbered(items: Sequence[Pending], first: int = 1) -> Iterable[tuple[int, Pending]]:
    return enumerate(items, first)
