"""The connections of one gateway: which count, which carries a lane, and who may speak at all."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from events.replication import Hello, Lane
from sync.peers import Admission
from sync.progress import Progress
from sync.sink import Sink, SinkState

CONNECTIONS_MAX = 32  # of one gateway: paths, lanes, and some that have not died yet
BACK_AFTER_S = 5.0  # a better path that is back for so long carries again
FRESH_S = 2.0  # a word that its path is lost is older than a connection that is younger
CLAIM_S = 1.5  # so long the older program has to prove that it lives
PING_AFTER_S = 0.5  # what comes earlier may have been under way before the newer one spoke


@dataclass(slots=True, eq=False)
class Connection:
    """One DEALER as the router sees it. `greeted` is the newest hello that was acted on.

    since: when the first hello was acted on. claimed_at: when it was told to wait. due: nothing is to
        be done before, however often it is looked at; 0.0 where that is to be found out.
    """

    route: bytes
    key: str
    gateway: str
    sink: Sink
    heard: float
    greeted: Hello | None = None
    since: float = 0.0
    claimed_at: float | None = None
    due: float = 0.0
    committed_at: float = 0.0  # when the ledger had done its newest commit

    def serves(self, lane: Lane) -> bool:
        return self.greeted is not None and self.greeted.lane is lane

    def status(self, greeted: Hello, now: float) -> dict[str, Any]:
        return {
            "gateway": self.gateway,
            "path": greeted.path,
            "lane": greeted.lane.value,
            "program": greeted.program,
            "state": self.sink.state.value,
            "active": self.sink.active,
            "period_s": greeted.period_s,
            "heard_s": self.heard,
            "silent_s": max(0.0, now - self.heard),
        }

    @property
    def rank(self) -> int:
        return 0 if self.greeted is None else self.greeted.rank


@dataclass(slots=True, eq=False)
class Gateway:
    """One enrolled gateway, in order of arrival of its connections."""

    name: str
    progress: Progress = field(default_factory=Progress)
    connections: dict[bytes, Connection] = field(default_factory=dict)

    def superseded(self, newest: Connection) -> list[Connection]:
        """Return the connections that no longer count since a greeted one spoke.

        Older ones for the same path and lane, those of an earlier start of the gateway's program,
        and those of its lane on paths that it says are lost; but when several paths come back, the
        first word over each of them still calls the others lost.
        """
        hello = newest.greeted
        if hello is None:
            return []
        return [
            other
            for other in self.connections.values()
            if other is not newest
            and other.greeted is not None
            and (
                _is_another(other.greeted, hello)
                or (other.greeted.path, other.greeted.lane) == (hello.path, hello.lane)
                or (
                    other.greeted.lane is hello.lane
                    and other.greeted.path in hello.lost
                    and newest.heard - other.since >= FRESH_S
                )
            )
        ]

    def to_activate(self, lane: Lane, now: float) -> dict[Connection, bool]:
        """Return which connections must begin or cease to carry the lane: one does.

        The one that carries goes on until it dies or a better path has been back for a while.
        """
        serving = [each for each in self.connections.values() if each.serves(lane)]
        active = [each for each in serving if each.sink.active]
        chosen = min(active, key=lambda each: each.since, default=None)
        settled = [
            each
            for each in serving
            if chosen is None or (each.rank < chosen.rank and now - each.since >= BACK_AFTER_S)
        ]
        if settled:
            chosen = min(reversed(settled), key=lambda each: each.rank)
        return {each: each is chosen for each in serving if each.sink.active != (each is chosen)}

    def judge(self, newest: Connection, hello: Hello, now: float) -> Admission:
        """Tell whether a program that was not heard before may speak for this gateway.

        The one before it has gone, as a rule. Only where it goes on speaking are there two.
        """
        others = list(self.others(hello))
        if not others:
            return Admission.YES
        if newest.claimed_at is None:
            newest.claimed_at = now
        if any(other.heard > newest.claimed_at + PING_AFTER_S for other in others):
            return Admission.NO
        return Admission.YES if now - newest.claimed_at >= CLAIM_S else Admission.WAIT

    def others(self, hello: Hello) -> Iterator[Connection]:
        """Yield the connections of another start of this gateway's program, or another machine."""
        for other in self.connections.values():
            if other.greeted is not None and _is_another(other.greeted, hello):
                yield other

    def to_ping(self, now: float) -> list[Connection]:
        """Return who must prove now that it lives: another one claims the gateway's name."""
        claims = [each for each in self.connections.values() if _waits(each)]
        if not any(now - (each.claimed_at or 0.0) >= PING_AFTER_S for each in claims):
            return []
        return [each for each in self.connections.values() if each.greeted is not None]


def _waits(connection: Connection) -> bool:
    return connection.claimed_at is not None and connection.sink.state is SinkState.WAITING


def _is_another(old: Hello, new: Hello) -> bool:
    """Tell whether two hellos come from two starts of the program, or from two machines."""
    return (old.boot_id, old.instance) != (new.boot_id, new.instance)
