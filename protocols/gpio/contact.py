"""One dry contact: from edges to qualified changes.

A change counts once the new level has held for the qualification time; it bears the time of the
edge that began the run, not of the decision. Times are integer microseconds of the gateway's
monotonic clock, as the kernel stamps edges, so that no rounding decides a limit.

The levels here are already activity: the wiring (normally open or closed, pulled up or down) is
resolved by `protocols.gpio.point`. What the caller owes: every edge older than `now` is handed in
before `timeout(now)`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

CONFIRM_US = 50_000
"""How long an edge may take from the level on the pin to the queue of edges.

A level that was read but never announced by an edge for longer than this is a lost edge.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A qualified change of a contact.

    edge_us: the first edge of the run; for a run that began before we watched, the moment at
        which its level was first seen.
    qualified_us: when the level had held long enough.
    initial: the run began before we watched.
    """

    active: bool
    edge_us: int
    qualified_us: int
    initial: bool = False


@dataclass(slots=True, kw_only=True)
class Counters:
    """edges: handed in; lost_edges: known to have been missed; gaps: times that it happened."""

    edges: int = 0
    lost_edges: int = 0
    gaps: int = 0


class _Run(NamedTuple):
    """A stretch of one level: since when, and whether it began before we watched."""

    active: bool
    since_us: int
    initial: bool


class Contact:
    """The qualification of one contact.

    A level reports after `qualify_us` (active) or `restore_us` (at rest) of holding. Runs that
    break earlier report nothing, whatever their number, so that a chattering input reports at
    most once in each holding time.
    """

    def __init__(self, *, qualify_us: int, restore_us: int, reported: bool = False) -> None:
        self.counters = Counters()
        self._qualify_us = qualify_us
        self._restore_us = restore_us
        self._reported = reported
        self._run = _Run(active=reported, since_us=0, initial=True)
        self._broken: _Run | None = None  # by a level that was read and not yet announced

    @property
    def active(self) -> bool:
        """Return the level as last seen, qualified or not."""
        return self._run.active

    @property
    def reported(self) -> bool:
        """Return the level as last reported."""
        return self._reported

    def start(self, *, active: bool, now_us: int) -> None:
        """Begin to watch, with the level read just now; also after the line had been away.

        A level that differs from the last reported one begins a run now.
        """
        self._run = _Run(active, now_us, initial=True)
        self._broken = None

    def edge(self, *, active: bool, at_us: int, lost: int = 0) -> list[Change]:
        """Take an edge that led to a level, and the number of edges missed just before it.

        An edge to the level already seen changes nothing. After missed edges nothing is known of
        the time since the last one, so the run begins again.
        """
        self.counters.edges += 1
        self._expect(active=active, lost=lost)
        at_us = max(at_us, self._run.since_us)
        changes: list[Change] = []
        if lost:
            self._lose(lost)
        else:
            changes = self.timeout(at_us)
        if lost or active != self._run.active:
            self._run = _Run(active, at_us, initial=False)
        return changes

    def reading(self, *, active: bool, now_us: int) -> None:
        """Take the level as read back from the pin.

        A level that no edge announced begins a run now. If its edge still comes, that decides in
        its place; if it has not come when the level is read again, it is counted as lost.
        """
        if active != self._run.active:
            if self._broken is not None:
                self._lose(1)
            self._broken = self._run
            self._run = _Run(active, max(now_us, self._run.since_us), initial=False)
        elif self._broken is not None and now_us - self._run.since_us >= CONFIRM_US:
            self._broken = None
            self._lose(1)

    def timeout(self, now_us: int) -> list[Change]:
        """Report the run in progress if it has held for long enough at `now_us`."""
        due_us = self._due_us()
        if due_us is None or now_us < due_us:
            return []
        self._broken = None
        self._reported = self._run.active
        return [
            Change(
                active=self._run.active,
                edge_us=self._run.since_us,
                qualified_us=due_us,
                initial=self._run.initial,
            )
        ]

    def deadline(self) -> float | None:
        """Return the monotonic second at which `timeout` is due, or None."""
        due_us = self._due_us()
        return None if due_us is None else due_us / 1e6

    def _due_us(self) -> int | None:
        active, since_us, _ = self._run
        if active == self._reported:
            return None
        return since_us + (self._qualify_us if active else self._restore_us)

    def _expect(self, *, active: bool, lost: int) -> None:
        """Settle a run that began with a read level, now that an edge has come."""
        if self._broken is None:
            return
        if active == self._run.active and not lost:
            self._run = self._broken  # here is its edge: it decides as if nothing had been read
        elif not lost:
            self._lose(1)
        self._broken = None

    def _lose(self, count: int) -> None:
        self.counters.lost_edges += count
        self.counters.gaps += 1


def replay(
    edges: Iterable[tuple[bool, int]], *, qualify_us: int, restore_us: int, end_us: int
) -> list[Change]:
    """Return what a contact at rest reports on recorded edges `(active, at_us)` up to `end_us`."""
    contact = Contact(qualify_us=qualify_us, restore_us=restore_us)
    changes: list[Change] = []
    for active, at_us in edges:
        changes += contact.edge(active=active, at_us=at_us)
    return changes + contact.timeout(end_us)
