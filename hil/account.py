"""The account: what the devices' own journals say against what stands at the station.

Pure, and fed from outside the product alone: books made from journals (`hil.acceptance`) and the
rows of `nplus-station events --json`. No counter of the product is asked. `docs/promise.md` is the
promise that is judged here.

A book belongs to one device that speaks in order. Its rows, in the order of their numbers in the
gateway's log, must be the book's signals in the book's order: each required signal once, an
optional one at most once, and nothing else.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from events.calendar import parse_rfc3339
from events.kinds import Kind, Qualifier

Condition = tuple[str, str, str]
"""Point, kind, subkind."""

What = tuple[str, str, str, str]
"""Point, kind, subkind, qualifier: what a signal and a row must agree on."""

ACCOUNTED_KINDS = frozenset(
    {
        Kind.ALARM,
        Kind.TAMPER,
        Kind.SUPERVISORY,
        Kind.ARMING,
        Kind.ACCESS,
        Kind.DISABLED,
        Kind.TEST,
    }
)
"""Kinds that only a device can cause: a row of them that no journal explains is a fault.

Faults, status, information and measurements are also the gateway's own words; they are accounted
for at the conditions that a book names, and left alone elsewhere.
"""

FaultName = Literal["lost", "twice", "unexplained", "order", "state", "number"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `nplus-station events --json`, as far as the account needs it."""

    n: int
    gateway: str | None
    point: str
    kind: str
    qualifier: str
    received_at: str
    stamped_at: str | None = None
    log_id: str | None = None
    seq: int | None = None
    subkind: str = ""
    late: bool = False
    volatile: bool = False
    urgent: bool = False

    @property
    def what(self) -> What:
        return (self.point, self.kind, self.subkind, self.qualifier)

    @property
    def condition(self) -> Condition:
        return (self.point, self.kind, self.subkind)


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What one device said once, and whether that must stand at the station.

    required: it was accepted in the meaning of `hil.acceptance`; otherwise it may be there.
    since_s: the moment on the wall clock from which its delay counts, in POSIX seconds.
    live: gateway and network were up throughout, so its delay is a figure of the product.
    first: the first level of a point, at rest, with which nothing could be compared.
    """

    point: str
    kind: str
    subkind: str
    qualifier: str
    required: bool
    since_s: float
    live: bool = True
    first: bool = False

    @property
    def what(self) -> What:
        return (self.point, self.kind, self.subkind, self.qualifier)


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """What one device's journal adds up to.

    input: `contact`, `modbus` or `panel`: how its delays are grouped.
    points: every point of the device; its rows are looked for under these.
    finals: what is known for certain of the conditions' last state: True while it is on.
    """

    gateway: str
    device: str
    input: str
    points: frozenset[str]
    signals: tuple[Signal, ...]
    finals: dict[Condition, bool] = {}


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as promised."""

    fault: FaultName
    gateway: str
    device: str
    text: str


class Delay(msgspec.Struct, frozen=True, kw_only=True):
    """How long one kind of input took to the station's commit, in milliseconds."""

    count: int
    p50_ms: float
    p99_ms: float


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of one book."""

    gateway: str
    device: str
    accepted: int
    recorded: int


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome. `ok` is the only thing that an exit status may be made of."""

    accepted: int
    recorded: int
    lost: int
    twice: int
    unexplained: int
    disordered: int
    numbers_missing: int
    states: int
    states_right: int
    unsure: int
    tallies: tuple[Tally, ...]
    delays: dict[str, Delay]
    findings: tuple[Finding, ...]
    ok: bool


def settle(books: Sequence[Book], rows: Sequence[Row]) -> Account:
    """Hold the books against the rows. An account of nothing is not ok."""
    histories = _Histories(rows)
    findings = [*_repeated_numbers(rows), *_missing_numbers(rows)]
    delays: dict[str, list[float]] = defaultdict(list)
    tallies: list[Tally] = []
    for book in books:
        own = histories.take(book)
        pairs, missing, surplus = align(book.signals, own)
        tallies.append(
            Tally(
                gateway=book.gateway,
                device=book.device,
                accepted=sum(signal.required for signal in book.signals),
                recorded=sum(signal.required for signal, _ in pairs),
            )
        )
        findings += _explain(book, missing, surplus)
        findings += _wrong_states(book, own)
        delays[book.input] += [
            _received_s(row) - signal.since_s for signal, row in pairs if signal.live
        ]
    findings += [_unexplained(row) for row in histories.rest()]
    count = Counter(finding.fault for finding in findings)
    accepted = sum(tally.accepted for tally in tallies)
    recorded = sum(tally.recorded for tally in tallies)
    states = sum(len(book.finals) for book in books)
    return Account(
        accepted=accepted,
        recorded=recorded,
        lost=count["lost"],
        twice=count["twice"],
        unexplained=count["unexplained"],
        disordered=count["order"],
        numbers_missing=count["number"],
        states=states,
        states_right=states - count["state"],
        unsure=sum(not (s.required or s.first) for book in books for s in book.signals),
        tallies=tuple(tallies),
        delays=_delays(delays),
        findings=tuple(findings),
        ok=not findings and accepted > 0 and recorded == accepted,
    )


class _Histories:
    """The rows of every point, in the order of the gateway's numbers, each handed out once.

    A gateway may have several logs, one after the other or, while its disk was out, two at once:
    within a log its numbers order the rows, between logs the gateway's clock does, and where that
    was not set the order in which the station first met them.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        met: dict[tuple[str | None, str | None], int] = {}
        for row in sorted(rows, key=lambda row: row.n):
            met.setdefault((row.gateway, row.log_id), len(met))
        numbered = sorted(
            rows, key=lambda row: (met[row.gateway, row.log_id], row.seq or 0, row.n)
        )
        newest: dict[int, str] = {}  # of each log, so that the clock never parts its numbers
        self._order: dict[int, tuple[str, int, int]] = {}
        for place, row in enumerate(numbered):
            log = met[row.gateway, row.log_id]
            newest[log] = max(newest.get(log, ""), row.stamped_at or "")
            self._order[id(row)] = (newest[log], log, place)
        self._rows: dict[tuple[str | None, str], list[Row]] = defaultdict(list)
        for row in sorted(numbered, key=lambda row: self._order[id(row)]):
            if row.log_id is not None:
                self._rows[row.gateway, row.point].append(row)

    def take(self, book: Book) -> list[Row]:
        """Return the rows that a book must explain."""
        known = {signal.what[:3] for signal in book.signals} | set(book.finals)
        own: list[Row] = []
        for point in book.points:
            mine = self._rows.pop((book.gateway, point), [])
            own += [r for r in mine if r.kind in ACCOUNTED_KINDS or r.condition in known]
        return sorted(own, key=lambda row: self._order[id(row)])

    def rest(self) -> Iterable[Row]:
        """Return the rows of devices that no book has taken."""
        for mine in self._rows.values():
            yield from (row for row in mine if row.kind in ACCOUNTED_KINDS)


def align(
    signals: Sequence[Signal], rows: Sequence[Row]
) -> tuple[list[tuple[Signal, Row]], list[Signal], list[Row]]:
    """Pair signals with rows, both in order, at the least number of faults.

    Returns the pairs, the required signals without a row, and the rows without a signal.
    """
    start = 0  # equal required heads always belong together: a long clean run costs nothing
    for signal, row in zip(signals, rows, strict=False):
        if not signal.required or signal.what != row.what:
            break
        start += 1
    pairs = list(zip(signals[:start], rows[:start], strict=True))
    signals, rows = signals[start:], rows[start:]
    cost = _costs(signals, rows)
    missing: list[Signal] = []
    surplus: list[Row] = []
    i = j = 0
    while i < len(signals) or j < len(rows):
        both = i < len(signals) and j < len(rows) and signals[i].what == rows[j].what
        if both and cost[i][j] == cost[i + 1][j + 1]:
            pairs.append((signals[i], rows[j]))
            i, j = i + 1, j + 1
        elif i < len(signals) and cost[i][j] == cost[i + 1][j] + signals[i].required:
            missing += [signals[i]] * signals[i].required
            i += 1
        else:
            surplus.append(rows[j])
            j += 1
    return pairs, missing, surplus


def _costs(signals: Sequence[Signal], rows: Sequence[Row]) -> list[list[int]]:
    """Return the least number of faults in what follows signal i and row j."""
    cost = [[0] * (len(rows) + 1) for _ in range(len(signals) + 1)]
    for j in range(len(rows) - 1, -1, -1):
        cost[-1][j] = len(rows) - j
    for i in range(len(signals) - 1, -1, -1):
        cost[i][-1] = cost[i + 1][-1] + signals[i].required
        for j in range(len(rows) - 1, -1, -1):
            best = min(cost[i + 1][j] + signals[i].required, cost[i][j + 1] + 1)
            if signals[i].what == rows[j].what:
                best = min(best, cost[i + 1][j + 1])
            cost[i][j] = best
    return cost


def _explain(book: Book, missing: Iterable[Signal], surplus: Iterable[Row]) -> Iterable[Finding]:
    """Name what an alignment left over: the same on both sides is there, but in a wrong place."""
    said = {signal.what for signal in book.signals}
    waiting = Counter(signal.what for signal in missing)
    for row in surplus:
        if waiting[row.what]:
            waiting[row.what] -= 1
            yield _finding("order", book, f"{_words(row.what)} stands out of order (n {row.n})")
        elif row.what in said:
            yield _finding("twice", book, f"{_words(row.what)} once too often (n {row.n})")
        else:
            yield _finding("unexplained", book, f"{_words(row.what)}: never said (n {row.n})")
    for what, count in waiting.items():
        for _ in range(count):
            yield _finding("lost", book, f"{_words(what)} is not at the station")


def _wrong_states(book: Book, own: Sequence[Row]) -> Iterable[Finding]:
    shown: dict[Condition, bool] = {}
    for row in own:
        shown[row.condition] = row.qualifier != Qualifier.RESTORE
    for condition, on in book.finals.items():
        if shown.get(condition, False) != on:
            state = "on" if on else "off"
            text = f"{'/'.join(condition[1:])} at {condition[0]} is {state}, the station's last word is not"
            yield _finding("state", book, text)


def _unexplained(row: Row) -> Finding:
    text = f"{_words(row.what)}: no device of this name (n {row.n})"
    return Finding(fault="unexplained", gateway=row.gateway or "", device="", text=text)


def _repeated_numbers(rows: Sequence[Row]) -> Iterable[Finding]:
    """Name places in a log, and numbers of the station, that occur more than once."""
    places = Counter((row.gateway, row.log_id, row.seq) for row in rows if row.log_id is not None)
    for (gateway, log_id, seq), count in places.items():
        for _ in range(count - 1):
            text = f"number {seq} of log {log_id} stands at the station {count} times"
            yield Finding(fault="twice", gateway=gateway or "", device="", text=text)
    for n, count in Counter(row.n for row in rows).items():
        if count > 1:
            text = f"the station used its own number {n} {count} times"
            yield Finding(fault="number", gateway="", device="", text=text)


def _missing_numbers(rows: Sequence[Row]) -> Iterable[Finding]:
    """Name numbers of a log that the station does not hold, though it holds later ones.

    An event that was in a gateway's memory may get a number on its disk as well: the station knows
    it again and shows it once, where it came first. Its second number is not missing.
    """
    logs: dict[tuple[str | None, str], set[int]] = defaultdict(set)
    second = Counter(row.gateway for row in rows if row.volatile)
    for row in rows:
        if row.log_id is not None and row.seq is not None and not row.volatile:
            logs[row.gateway, row.log_id].add(row.seq)
    for (gateway, log_id), held in logs.items():
        missing = sorted(set(range(1, max(held) + 1)) - held)
        if len(missing) <= second[gateway]:
            continue
        for seq in missing:
            text = f"number {seq} of log {log_id} is missing"
            yield Finding(fault="number", gateway=gateway or "", device="", text=text)


def _finding(fault: FaultName, book: Book, text: str) -> Finding:
    return Finding(fault=fault, gateway=book.gateway, device=book.device, text=text)


def _words(what: What) -> str:
    point, kind, subkind, qualifier = what
    return f"{point}: {kind}{f'/{subkind}' if subkind else ''} {qualifier}"


def _received_s(row: Row) -> float:
    return parse_rfc3339(row.received_at) / 1e6


def _delays(seconds: dict[str, list[float]]) -> dict[str, Delay]:
    everything = {name: values for name, values in seconds.items() if values}
    everything["all"] = [value for values in seconds.values() for value in values]
    return {
        name: Delay(
            count=len(values),
            p50_ms=round(percentile(values, 50) * 1000, 1),
            p99_ms=round(percentile(values, 99) * 1000, 1),
        )
        for name, values in everything.items()
        if values
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the nearest-rank percentile of at least one value."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]
