"""Who is still there: silence becomes a fault, and a word after it ends the fault.

A pure engine. Every message of a gateway, on any path and lane, is told to `heard`; the shell
calls `timeout` at `deadline` and drains `changes`. A change is to be stored before anybody acts on
it, and what was stored is given back to `enrol` after a restart: a gateway that was lost stays
lost, without being announced again; one that was there is `unknown` until it speaks or until
`lost_after_s` have passed. Silence is never shown as anything good, and time in which the station
itself did not listen (`slept`) is nobody's silence.
"""

from dataclasses import dataclass
from enum import StrEnum

from events.kinds import Qualifier

SILENT_S = 10.0  # a gateway that lives says something at least every 3 s
PATH_GRACE_S = 2.0  # beside two of its periods: then an idle path is lost
PATHS_MAX = 8  # a gateway names its paths itself; more than these are not told apart


class GatewayState(StrEnum):
    UNKNOWN = "unknown"  # heard before this start, not yet since
    CONNECTED = "connected"
    SILENT = "silent"  # no word for longer than any heartbeat, not yet for so long as to be lost
    LOST = "lost"
    NEVER_SEEN = "never-seen"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A fault began or ended: of the whole gateway (`path` is None) or of one of its paths.

    silent_s: how long nothing was heard, as far as this start of the program knows.
    """

    gateway: str
    path: str | None
    qualifier: Qualifier
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the ledger remembers of a gateway: whether it ever spoke, and what is announced.

    folded: its loss was announced together with others' (`station.mass_loss`).
    """

    seen: bool = False
    lost: bool = False
    folded: bool = False
    paths: tuple[tuple[str, bool], ...] = ()  # name, announced as lost


@dataclass(slots=True)
class _Watched:
    """One thing that must not fall silent."""

    since: float  # of the last word, or of the start of watching
    heard: bool = False  # since this start
    lost: bool = False
    period_s: float = 0.0  # at which it is to say something; 0: it did not declare one

    @property
    def silent_after_s(self) -> float:
        return max(SILENT_S, 2 * self.period_s)


class _Gateway(_Watched):
    __slots__ = ("lost_after_s", "paths", "seen")

    def __init__(self, known: Known, now: float, lost_after_s: float) -> None:
        super().__init__(since=now, lost=known.lost)
        self.lost_after_s = lost_after_s
        self.seen = known.seen
        self.paths = {
            name: _Watched(since=now, lost=lost) for name, lost in known.paths[:PATHS_MAX]
        }


class Supervision:
    """Silence of every enrolled gateway. Times are monotonic seconds.

    lost_after_s: for those who declare nothing else.
    """

    def __init__(self, *, lost_after_s: float) -> None:
        self._lost_after_s = lost_after_s
        self._gateways: dict[str, _Gateway] = {}
        self._changes: list[Change] = []

    def enrol(
        self, gateway: str, known: Known, now: float, lost_after_s: float | None = None
    ) -> None:
        """Watch a gateway from now on. Of one that is watched already only the class changes."""
        allowed_s = self._lost_after_s if lost_after_s is None else lost_after_s
        watched = self._gateways.setdefault(gateway, _Gateway(known, now, allowed_s))
        watched.lost_after_s = allowed_s

    def revoke(self, gateway: str) -> None:
        """Stop watching: what the operator sent away cannot be missing."""
        self._gateways.pop(gateway, None)

    def heard(self, gateway: str, path: str, now: float, *, period_s: float = 0.0) -> None:
        """Note a message. Ends the gateway's and the path's fault; may begin another path's.

        period_s: how often the path says something while another one carries. It is lost after
        two of them and a little, and one that declares none with the gateway's class.

        `now` may lie a little back: when the message came, not when it was told. A message that
        is not newer than the last one known says nothing: it ends no fault.
        """
        watched = self._gateways.get(gateway)
        if watched is None or (watched.lost and watched.heard and now <= watched.since):
            return
        if watched.lost:
            self._change(gateway, None, watched, Qualifier.RESTORE, now)
            for other in watched.paths.values():
                other.since = now  # they were silent with the gateway; their own time starts here
        watched.since = now if not watched.heard else max(watched.since, now)
        watched.heard = watched.seen = True
        spoken = watched.paths.get(path)
        if spoken is None:
            if len(watched.paths) >= PATHS_MAX and not _forget_one(watched.paths):
                return
            spoken = watched.paths[path] = _Watched(since=now)
        if spoken.lost:
            self._change(gateway, path, spoken, Qualifier.RESTORE, now)
        spoken.since, spoken.heard = max(spoken.since, now), True
        spoken.period_s = period_s
        for name, other in watched.paths.items():
            if not other.lost and now - other.since >= _path_allowed_s(watched, other):
                self._change(gateway, name, other, Qualifier.NEW, now)

    def deadline(self) -> float | None:
        """Return when `timeout` has something to do, or None."""
        due = [each.since + each.lost_after_s for each in self._gateways.values() if not each.lost]
        return min(due, default=None)

    def timeout(self, now: float) -> None:
        """Announce what has been silent for too long."""
        for name, watched in self._gateways.items():
            if not watched.lost and now >= watched.since + watched.lost_after_s:
                self._change(name, None, watched, Qualifier.NEW, now)

    def slept(self, slept_s: float) -> None:
        """Note that for so long, up to now, the station itself could hear nobody."""
        for gateway in self._gateways.values():
            for each in (gateway, *gateway.paths.values()):
                each.since += slept_s

    def changes(self) -> list[Change]:
        """Return what began and ended since the last call, in order."""
        drained, self._changes = self._changes, []
        return drained

    def state(self, gateway: str, now: float) -> GatewayState:
        """Return how a gateway is; `revoked` for one that is not watched."""
        watched = self._gateways.get(gateway)
        if watched is None:
            return GatewayState.REVOKED
        if not watched.seen:
            return GatewayState.NEVER_SEEN
        if watched.lost:
            return GatewayState.LOST
        return _heard_state(watched, now)

    def silent(self, now: float, silent_s: float = SILENT_S) -> frozenset[str]:
        """Return who is not heard for longer than `silent_s`, and not announced as lost."""
        return frozenset(
            name
            for name, watched in self._gateways.items()
            if not watched.lost and now - watched.since > silent_s
        )

    def lost_after_s(self, gateway: str) -> float:
        """Return after which silence a gateway is lost."""
        watched = self._gateways.get(gateway)
        return self._lost_after_s if watched is None else watched.lost_after_s

    def silent_s(self, gateway: str, now: float) -> float | None:
        """Return the seconds since the last word in this start, or None if there was none."""
        watched = self._gateways.get(gateway)
        return now - watched.since if watched is not None and watched.heard else None

    def paths(self, gateway: str, now: float) -> dict[str, GatewayState]:
        """Return how each path that was ever used is. A lost gateway has no path that is up."""
        watched = self._gateways.get(gateway)
        if watched is None:
            return {}
        return {name: _path_state(watched, path, now) for name, path in watched.paths.items()}

    def _change(
        self, gateway: str, path: str | None, watched: _Watched, qualifier: Qualifier, now: float
    ) -> None:
        watched.lost = qualifier is Qualifier.NEW
        self._changes.append(
            Change(gateway=gateway, path=path, qualifier=qualifier, silent_s=now - watched.since)
        )


def _forget_one(paths: dict[str, _Watched]) -> bool:
    """Make room by dropping a path that is lost, if there is one: its name is no longer used."""
    gone = next((name for name, path in paths.items() if path.lost), None)
    if gone is None:
        return False
    del paths[gone]
    return True


def _path_allowed_s(gateway: _Gateway, path: _Watched) -> float:
    return 2 * path.period_s + PATH_GRACE_S if path.period_s else gateway.lost_after_s


def _path_state(gateway: _Gateway, path: _Watched, now: float) -> GatewayState:
    return GatewayState.LOST if gateway.lost or path.lost else _heard_state(path, now)


def _heard_state(watched: _Watched, now: float) -> GatewayState:
    """Return the state of what is not announced as lost: no answer is never shown as fine."""
    if not watched.heard:
        return GatewayState.UNKNOWN
    silent = now - watched.since > watched.silent_after_s
    return GatewayState.SILENT if silent else GatewayState.CONNECTED
