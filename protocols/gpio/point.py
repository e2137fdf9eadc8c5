"""One configured point: what its contact does, in observations.

Above `protocols.gpio.contact` it knows the wiring, the point's names, what was last stored of it,
and the faults of its line: edges that were lost, a line that cannot be had, a missing pull.
"""

from events.kinds import Kind, Qualifier, Subkind
from events.model import Instant, Native, Observation, Scalar
from protocols.gpio.config import GpioPoint, line_name
from protocols.gpio.contact import Change, Contact, Counters
from protocols.levels import Memory, stored_level, unwatched

SOURCE = "gpio"
SCHEME = "gpio"

LOST_EDGE_QUIET_US = 60_000_000
"""A lost-edge fault ends after this long without another loss, and is repeated at most as often."""


def microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


class ContactPoint:
    """The life of one point, across any number of losses of its line.

    Its methods return observations in the order in which they happened.
    """

    def __init__(self, config: GpioPoint, memory: Memory) -> None:
        self._config = config
        self._memory = memory
        self._watched = False
        qualify_us = config.qualify_ms * 1000
        restore_ms = config.restore_ms
        self._contact = Contact(
            qualify_us=qualify_us,
            restore_us=qualify_us if restore_ms is None else restore_ms * 1000,
            reported=bool(stored_level(memory, config.id, config.kind, config.subkind)),
        )
        self._losses = _Losses(active=self._stored_fault(Subkind.LOST_EDGE))
        self._faults = {
            subkind: self._stored_fault(subkind)
            for subkind in (Subkind.LINE, Subkind.CONFIGURATION)
        }

    @property
    def id(self) -> str:
        return self._config.id

    @property
    def config(self) -> GpioPoint:
        return self._config

    @property
    def counters(self) -> Counters:
        return self._contact.counters

    def start(self, *, level: bool, now: Instant) -> list[Observation]:
        """Begin to watch with the level, high or not, that the line has now.

        The first time says for how long nobody watched. A level that differs from the last
        stored one is reported once it has held, flagged `initial`; a point of which nothing was
        ever stored is taken to have been at rest.
        """
        active = self._is_active(level)
        self._contact.start(active=active, now_us=microseconds(now.monotonic))
        if self._watched:
            return []
        self._watched = True
        gap = unwatched(self._memory, point=self.id, source=SOURCE, level=active, now=now)
        return [gap]

    def edge(self, *, level: bool, at_us: int, lost: int = 0) -> list[Observation]:
        """Take an edge that led to `level`; see `Contact.edge`."""
        changes = self._contact.edge(active=self._is_active(level), at_us=at_us, lost=lost)
        return [self._change(change) for change in changes] + self._account(at_us)

    def reading(self, *, level: bool, now: Instant) -> list[Observation]:
        """Take the level read back from the line; see `Contact.reading`."""
        now_us = microseconds(now.monotonic)
        self._contact.reading(active=self._is_active(level), now_us=now_us)
        return self._account(now_us)

    def timeout(self, now: Instant) -> list[Observation]:
        """Report what has become due; calling early or twice does no harm."""
        now_us = microseconds(now.monotonic)
        seen = [self._change(change) for change in self._contact.timeout(now_us)]
        if self._losses.settle(now_us):
            seen.append(self._lost_edge(Qualifier.RESTORE))
        return seen

    def deadline(self) -> float | None:
        """Return the monotonic second at which `timeout` is due, or None."""
        return min(
            (
                due
                for due in (self._contact.deadline(), self._losses.deadline())
                if due is not None
            ),
            default=None,
        )

    def line_fault(self, text: str) -> list[Observation]:
        """Report why the line cannot be had or is gone; an empty text says that it is there."""
        return self._fault(Subkind.LINE, text)

    def pull_fault(self, text: str) -> list[Observation]:
        """Report why the pull cannot be set as configured; an empty text says that it is."""
        return self._fault(Subkind.CONFIGURATION, text)

    def status(self) -> dict[str, Scalar]:
        """Return the point's own account, for `status`."""
        counters = self._contact.counters
        account: dict[str, Scalar] = {
            "line": line_name(self._config.line),
            "active": self._contact.active,
            "reported": self._contact.reported,
            "edges": counters.edges,
            "lost_edges": counters.lost_edges,
        }
        faults = [str(subkind) for subkind, present in self._faults.items() if present]
        if faults:
            account["fault"] = ", ".join(faults)
        return account

    def _is_active(self, level: bool) -> bool:
        return level == self._config.active_level

    def _stored_fault(self, subkind: str) -> bool:
        return bool(stored_level(self._memory, self.id, Kind.FAULT, subkind))

    def _account(self, now_us: int) -> list[Observation]:
        """Report losses that were counted since the last call, at most once in the quiet time."""
        qualifier = self._losses.count(self._contact.counters, now_us)
        return [] if qualifier is None else [self._lost_edge(qualifier)]

    def _change(self, change: Change) -> Observation:
        level = self._config.active_level if change.active else not self._config.active_level
        closed = change.active == (self._config.contact == "no")
        return Observation(
            point=self.id,
            kind=self._config.kind,
            subkind=self._config.subkind,
            qualifier=Qualifier.NEW if change.active else Qualifier.RESTORE,
            source=SOURCE,
            address=self._address(),
            value=change.active,
            native=Native(
                scheme=SCHEME,
                code="closed" if closed else "open",
                fields={"contact": self._config.contact, "level": int(level)},
            ),
            text=self._config.label,
            edge_us=change.edge_us,
            flags=("initial",) if change.initial else (),
            cause="" if change.active else "device",
        )

    def _lost_edge(self, qualifier: Qualifier) -> Observation:
        counters = self._contact.counters
        return Observation(
            point=self.id,
            kind=Kind.FAULT,
            subkind=Subkind.LOST_EDGE,
            qualifier=qualifier,
            source=SOURCE,
            address=self._address(),
            details={"lost_edges": counters.lost_edges, "gaps": counters.gaps},
            cause="timeout" if qualifier is Qualifier.RESTORE else "",
        )

    def _fault(self, subkind: Subkind, text: str) -> list[Observation]:
        present = bool(text)
        if present == self._faults[subkind]:
            return []
        self._faults[subkind] = present
        return [
            Observation(
                point=self.id,
                kind=Kind.FAULT,
                subkind=subkind,
                qualifier=Qualifier.NEW if present else Qualifier.RESTORE,
                source=SOURCE,
                address=self._address(),
                text=text,
            )
        ]

    def _address(self) -> dict[str, str]:
        address = {"line": line_name(self._config.line)}
        if self._config.chip is not None:
            address["chip"] = self._config.chip
        return address


class _Losses:
    """The rate at which lost edges are told: begin, at most one repeat a minute, end."""

    def __init__(self, *, active: bool) -> None:
        self._active = active
        self._gaps = 0
        self._told_us = 0
        self._last_us: int | None = None

    def count(self, counters: Counters, now_us: int) -> Qualifier | None:
        """Return how the losses since the last call are to be told, None for not at all."""
        if counters.gaps == self._gaps:
            return None
        self._gaps = counters.gaps
        self._last_us = now_us
        if self._active and now_us - self._told_us < LOST_EDGE_QUIET_US:
            return None
        qualifier = Qualifier.STILL if self._active else Qualifier.NEW
        self._active = True
        self._told_us = now_us
        return qualifier

    def settle(self, now_us: int) -> bool:
        """Tell whether the fault ends now."""
        if not self._active:
            return False
        if self._last_us is None:  # left over from an earlier run: quiet counts from here
            self._last_us = now_us
        if now_us - self._last_us < LOST_EDGE_QUIET_US:
            return False
        self._active = False
        return True

    def deadline(self) -> float | None:
        if not self._active or self._last_us is None:
            return None
        return (self._last_us + LOST_EDGE_QUIET_US) / 1e6
