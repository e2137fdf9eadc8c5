"""Which read is due: earliest deadline first, and silent units only where nobody pays for them.

A unit is *trusted* while it answers. A request to one that is not trusted is a *probe*: it may cost
its whole timeout and late window. After a probe that failed, every trusted read that is due goes
first, so that no read waits for more than one probe. On a bus that never falls idle the next probe
also waits until probes take no more of the time than silent units leave over: the mean period of
the others then stays within `MEAN_RISE` of what it is when all answer. Reads keep to the grid of
their period: what a probe delayed is made up for, up to `ARREARS_MAX` periods.

The grids of the units are spread evenly over the period. Units that die together are then found out
one by one, each in its own share of the period, and not all while the same healthy unit is due.

An untrusted unit is asked the very request it left unanswered and no other. Its first answer is a
sign of life and no more; it is trusted again with the second in a row. On RTU, where nothing
numbers the answers, one that is later than any window is then never taken for an answer to another
question, and a unit that is always that late stays at fault.
"""

from dataclasses import dataclass, field

from protocols.modbus.exchange import Request
from protocols.modbus.plan import Read
from protocols.modbus.sections import NOTICE_S, Unit
from protocols.modbus.watch import Watch

ARREARS_MAX = 10
MEAN_RISE = 0.1
SPREAD_STEP = 0.25  # of a period: the most by which a read comes early to reach its place
SHARE_USED = 0.8  # of the time that may go to probes: reads do not all cost the same
BACKOFF_MIN_S = 1.0
BACKOFF_MAX_S = 40.0
BACKOFF_FLOOR_S = 5.0
# Periods by which a due read may be put off in favour of one of higher priority.
_SLACK = {"high": 0.0, "normal": 1.0, "low": 4.0}


@dataclass(slots=True, kw_only=True, eq=False)
class Item:
    """One read with its place in time.

    offset_s: by how much the grid of its period is yet to be moved, to earlier times.
    hold_until: not before this, whatever is due: the unit said that it is busy.
    refusals: exceptions in a row.
    skips_same: an answer equal to `last_pdu`, the one before, says nothing new.
    """

    unit: "UnitState"
    read: Read
    request: Request
    watches: tuple[Watch, ...]
    period_s: float
    slack_s: float
    due: float = 0.0
    offset_s: float = 0.0
    hold_until: float = 0.0
    served_at: float = -float("inf")
    refusals: int = 0
    busy: int = 0
    skips_same: bool = False
    last_pdu: bytes | None = None

    @property
    def ready_at(self) -> float:
        return max(self.due, self.hold_until)


@dataclass(slots=True, kw_only=True, eq=False)
class UnitState:
    """What is known of one unit.

    misses: unanswered requests since it was last trusted. alive: it has answered the last one.
    """

    config: Unit
    timeout_s: float
    late_window_s: float
    items: list[Item] = field(default_factory=list)
    trusted: bool = False
    misses: int = 0
    alive: bool = False
    probe: Item | None = None
    probe_at: float = 0.0
    backoff_s: float = BACKOFF_MIN_S
    answered_at: float | None = None

    @property
    def cost_s(self) -> float:
        return self.timeout_s + self.late_window_s


def slack_s(priority: str, period_s: float) -> float:
    """Return how long a read of this priority may be put off."""
    return _SLACK[priority] * period_s


class Schedule:
    """The reads of one bus."""

    def __init__(self, units: list[UnitState], *, retries: int) -> None:
        self.units = units
        self._polled = [unit for unit in units if unit.items]
        self._retries = retries
        self._failed_until = -float("inf")
        self._failed_cost_s = 0.0
        self._origin_s = 0.0

    def restart(self, now_s: float) -> None:
        """Begin on a line just opened: everything is due, and nobody has answered yet."""
        self._failed_until = -float("inf")
        self._origin_s = now_s
        for unit in self._polled:
            unit.trusted = False
            unit.misses = 0
            unit.alive = False
            unit.probe = None
            unit.probe_at = now_s
            unit.backoff_s = BACKOFF_MIN_S
            for item in unit.items:
                item.due, item.hold_until = now_s, 0.0
                item.last_pdu = None

    def choose(self, now_s: float) -> Item | None:
        """Return the read to send now, if any."""
        due = [item for item in self._trusted_items() if item.ready_at <= now_s]
        probes = [unit for unit in self._polled if not unit.trusted and unit.probe_at <= now_s]
        if probes and self._may_probe(due, now_s):
            unit = min(probes, key=lambda unit: (unit.misses > self._retries, unit.probe_at))
            return unit.probe or unit.items[0]
        return min(due, key=_place, default=None)

    def wake(self) -> float | None:
        """Return when `choose` may next return something."""
        times = [item.ready_at for item in self._trusted_items()]
        times += [unit.probe_at for unit in self._polled if not unit.trusted]
        return min(times, default=None)

    def answered(self, item: Item, now_s: float) -> bool:
        """Note an answer, normal or exception, that came now; return whether it can be trusted."""
        unit = item.unit
        unit.answered_at = now_s
        if unit.misses and not unit.alive:
            unit.alive = True
            unit.probe_at = now_s
            return False
        if not unit.trusted:
            unit.trusted = True
            unit.misses = 0
            unit.probe = None
            unit.backoff_s = BACKOFF_MIN_S
            for other in unit.items:
                other.due = now_s
                other.offset_s = self._offset_s(other)
        self._served(item, now_s)
        return True

    def missed(self, item: Item, now_s: float, silent_until: float) -> bool:
        """Note that nothing came; return True when the unit counts as silent from now on.

        `silent_until` is the end of the late window.
        """
        unit = item.unit
        self.failed(silent_until, unit.cost_s)
        unit.trusted = unit.alive = False
        unit.probe = item
        unit.misses += 1
        if unit.misses <= self._retries:
            unit.probe_at = silent_until
            return False
        unit.probe_at = silent_until + unit.backoff_s
        unit.backoff_s = min(2 * unit.backoff_s, self._backoff_max_s(unit))
        return True

    def failed(self, until: float, cost_s: float) -> None:
        """Note that something without an answer has cost so much time, up to `until`."""
        self._failed_until = max(self._failed_until, until)
        self._failed_cost_s = cost_s

    def replace(self, item: Item, parts: list[Item]) -> None:
        """Read `parts` instead of `item` from now on."""
        items = item.unit.items
        at = items.index(item)
        items[at : at + 1] = parts

    def _trusted_items(self) -> list[Item]:
        return [item for unit in self._polled if unit.trusted for item in unit.items]

    def _may_probe(self, due: list[Item], now_s: float) -> bool:
        if not due:
            return True
        return all(item.served_at >= self._failed_until for item in due) and (
            now_s >= self._failed_until + self._patience_s(self._failed_cost_s)
        )

    def _offset_s(self, item: Item) -> float:
        """Return how far a read is behind its place, if those of the units are spread evenly."""
        place = (self._polled.index(item.unit) + 1) / len(self._polled)
        return (item.due - self._origin_s - place * item.period_s) % item.period_s

    def _served(self, item: Item, now_s: float) -> None:
        item.served_at = now_s
        step_s = min(item.offset_s, SPREAD_STEP * item.period_s)
        item.offset_s -= step_s
        due = item.due + item.period_s - step_s
        item.due = max(due, now_s - ARREARS_MAX * item.period_s)

    def _backoff_max_s(self, unit: UnitState) -> float:
        """Return the longest pause that still lets every silent unit be asked within `NOTICE_S`."""
        silent = sum(not other.trusted for other in self._polled)
        room_s = NOTICE_S - silent * (unit.cost_s + self._patience_s(unit.cost_s))
        return min(BACKOFF_MAX_S, max(BACKOFF_FLOOR_S, room_s))

    def _patience_s(self, cost_s: float) -> float:
        """Return how long a busy bus goes without a probe after one that cost so much."""
        answering = sum(unit.trusted for unit in self._polled)
        share = SHARE_USED * (1 - answering / ((1 + MEAN_RISE) * len(self._polled)))
        return cost_s * (1 / share - 1)


def _place(item: Item) -> float:
    """Return an item's place among those due: by deadline; in arrears, least recently served first."""
    return max(item.due, item.served_at) + item.slack_s
