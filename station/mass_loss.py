"""Many gateways lost at once are one thing to a dispatcher: one event that names them all.

A pure engine between supervision and the backlog. A loss that stands alone goes through as it is.
When five or more are lost or silent together, `mass-loss` begins: it names who is lost, and how
many more are silent. Who follows is named in an update, who comes back likewise, and it ends when
all are back. A few who do not come back with the rest are then announced one by one.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from events.kinds import Qualifier, Subkind
from events.model import Scalar
from station.announcements import Announced, Announcement
from station.supervision import SILENT_S, Change

NEW = Qualifier.NEW
MASS_MIN = 5
HEARTBEAT_S = 4.5  # who is silent for longer has missed one
SPREAD_S = 4.0  # last words before one cut are so far apart at most
WINDOW_S = 10.0  # losses within it are one wave
NEWCOMER_S = 0.5  # who was not among the silent is named within this time
UPDATE_S = 5.0  # everybody else, and who comes back
SETTLED_S = 60.0  # nobody came back for so long: the few that are left stand alone
NAMES_LENGTH_MAX = 30_000  # in the details
NAMES_SHOWN = 8  # in the text


@dataclass(slots=True)
class _Mass:
    """lost: who is lost, by the mass or since. unsaid: of them, who was not named yet.

    silent: who was counted as silent when last spoken of. back: who came back and was not named.
    gone: who is not watched any more, though the ledger still has it as lost.
    """

    lost: set[str] = field(default_factory=set)
    unsaid: set[str] = field(default_factory=set)
    silent: frozenset[str] = frozenset()
    back: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    returned: int = 0
    moved_at: float = 0.0
    due: float | None = None

    def hurry(self, at: float) -> None:
        self.due = at if self.due is None else min(self.due, at)


def together_s(changes: Sequence[Change]) -> float:
    """Return how long those are silent at least who fell silent together with the lost ones."""
    lost = [each.silent_s for each in changes if each.path is None and each.qualifier is NEW]
    return max(HEARTBEAT_S, min(lost) - SPREAD_S) if lost else SILENT_S


class MassLoss:
    """Folds losses into one."""

    def __init__(self) -> None:
        self._mass: _Mass | None = None
        self._recent: list[float] = []  # when single losses were announced

    def resume(self, folded: Iterable[str], now: float) -> None:
        """Go on with a mass loss that began before this start of the program."""
        lost = set(folded)
        if lost:
            self._mass = _Mass(lost=lost, moved_at=now)

    @property
    def lost(self) -> frozenset[str]:
        """Return who is lost under the present mass loss."""
        return frozenset() if self._mass is None else frozenset(self._mass.lost)

    def take(
        self, changes: Sequence[Change], silent: Collection[str], now: float
    ) -> tuple[list[Change], list[Announcement]]:
        """Return the changes that are announced one by one, and what is said of many."""
        alone = [change for change in changes if change.path is not None]
        whole = [change for change in changes if change.path is None]
        lost = [change for change in whole if change.qualifier is NEW]
        back = [change for change in whole if change.qualifier is not NEW]
        alone += [change for change in back if not self._returned(change.gateway, now)]
        said = []
        if lost and self._mass is None:
            self._recent = [at for at in self._recent if now - at < WINDOW_S]
            if len(self._recent) + len(lost) + len(silent) < MASS_MIN:
                self._recent += [now] * len(lost)
                return alone + lost, []
            self._mass = _Mass(silent=frozenset(silent), moved_at=now)
            self._mass.lost = {change.gateway for change in lost}
            said.append(self._began(self._mass))
        elif lost and self._mass is not None:
            for change in lost:
                self._mass.lost.add(change.gateway)
                self._mass.unsaid.add(change.gateway)
                self._mass.back.discard(change.gateway)
                named = change.gateway in self._mass.silent
                self._mass.hurry(now + (UPDATE_S if named else NEWCOMER_S))
            self._mass.moved_at = now
        return alone, said + self._due(silent, now)

    def forget(self, gateway: str) -> None:
        """Leave out a gateway that is not watched any more."""
        if self._mass is not None and gateway in self._mass.lost:
            self._mass.lost.discard(gateway)
            self._mass.unsaid.discard(gateway)
            self._mass.gone.add(gateway)
            self._mass.hurry(self._mass.moved_at)

    def deadline(self) -> float | None:
        """Return when `take` will have something to say without any change."""
        mass = self._mass
        if mass is None:
            return None
        settles = mass.moved_at + SETTLED_S if self._leaves_a_few(mass) else None
        return min((at for at in (mass.due, settles) if at is not None), default=None)

    def _returned(self, gateway: str, now: float) -> bool:
        mass = self._mass
        if mass is None or gateway not in mass.lost:
            return False
        mass.lost.discard(gateway)
        mass.unsaid.discard(gateway)
        mass.back.add(gateway)
        mass.returned += 1
        mass.moved_at = now
        mass.hurry(now + UPDATE_S)
        return True

    def _due(self, silent: Collection[str], now: float) -> list[Announcement]:
        mass = self._mass
        if mass is None:
            return []
        if not mass.lost:
            self._mass = None
            return [_ended(mass, ())]
        if self._leaves_a_few(mass) and now >= mass.moved_at + SETTLED_S:
            self._mass = None
            left = sorted(mass.lost)
            return [_ended(mass, left), *map(_left_behind, left)]
        if mass.due is None or now < mass.due:
            return []
        return [self._updated(mass, silent)]

    def _leaves_a_few(self, mass: _Mass) -> bool:
        return mass.returned > 0 and len(mass.lost) < MASS_MIN

    def _began(self, mass: _Mass) -> Announcement:
        names = sorted(mass.lost)
        text = f"{_count(len(names))} lost at once: {_some(names)}"
        if mass.silent:
            text += f"; {len(mass.silent)} more are silent"
        return _announcement(NEW, text, mass, Announced.FOLDED, names)

    def _updated(self, mass: _Mass, silent: Collection[str]) -> Announcement:
        mass.silent = frozenset(silent)
        text = f"{_count(len(mass.lost))} lost: {_some(sorted(mass.lost))}"
        if mass.back:
            text += f"; {len(mass.back)} are back: {_some(sorted(mass.back))}"
        said = _announcement(Qualifier.STILL, text, mass, Announced.FOLDED, sorted(mass.unsaid))
        mass.unsaid.clear()
        mass.back.clear()
        mass.gone.clear()
        mass.due = None
        return said


def _ended(mass: _Mass, left: Sequence[str]) -> Announcement:
    text = f"{_count(mass.returned)} back after they were lost at once"
    if left:
        text += f"; still lost: {_some(left)}"
    return _announcement(Qualifier.RESTORE, text, mass, Announced.ALONE, left)


def _left_behind(gateway: str) -> Announcement:
    return Announcement(
        gateway=gateway,
        subkind=Subkind.GATEWAY_LOST,
        qualifier=NEW,
        text=f"gateway {gateway} did not come back with the others that were lost at once",
        silence=True,
    )


def _announcement(
    qualifier: Qualifier, text: str, mass: _Mass, announced: Announced, names: Sequence[str]
) -> Announcement:
    lost = sorted(mass.lost)
    details: dict[str, Scalar] = {
        "lost": len(lost),
        "silent": len(mass.silent),
        "gateways": _listed(lost),
    }
    if mass.back:
        details["back"] = _listed(sorted(mass.back))
    marks = dict.fromkeys(mass.back | mass.gone, Announced.NO) | dict.fromkeys(names, announced)
    return Announcement(
        gateway="",
        subkind=Subkind.MASS_LOSS,
        qualifier=qualifier,
        text=text,
        details=details,
        marks=marks,
    )


def _count(number: int) -> str:
    return "1 gateway is" if number == 1 else f"{number} gateways are"


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _listed(names: Sequence[str]) -> str:
    """Return names as one text of bounded length, which says how many it leaves out."""
    length = 0
    for index, name in enumerate(names):
        length += len(name) + 2
        if length > NAMES_LENGTH_MAX:
            return ", ".join(names[:index]) + f" and {len(names) - index} more"
    return ", ".join(names)
