from hypothesis import given
from hypothesis import strategies as st

from events.kinds import Qualifier
from station.announcements import Announced, Announcement
from station.mass_loss import (
    MASS_MIN,
    NAMES_LENGTH_MAX,
    NEWCOMER_S,
    SETTLED_S,
    UPDATE_S,
    WINDOW_S,
    MassLoss,
    together_s,
)
from station.supervision import SILENT_S, Change, Known, Supervision

NEW, RESTORE, STILL = Qualifier.NEW, Qualifier.RESTORE, Qualifier.STILL


def change(gateway: str, qualifier: Qualifier = NEW, path: str | None = None) -> Change:
    return Change(gateway=gateway, path=path, qualifier=qualifier, silent_s=90.0)


def names(count: int) -> list[str]:
    return [f"g{number}" for number in range(count)]


def named(said: Announcement) -> set[str]:
    assert said.details is not None
    return set(str(said.details["gateways"]).split(", ")) - {""}


def test_a_few_losses_are_announced_one_by_one() -> None:
    fold = MassLoss()
    for number, name in enumerate(names(MASS_MIN - 1)):
        assert fold.take([change(name)], [], number * 0.1) == ([change(name)], [])
    assert fold.take([change("g0", RESTORE)], [], 1.0) == ([change("g0", RESTORE)], [])
    assert fold.deadline() is None


def test_losses_that_are_far_apart_are_no_mass() -> None:
    fold = MassLoss()
    for number, name in enumerate(names(3 * MASS_MIN)):
        alone, said = fold.take([change(name)], [], number * WINDOW_S / (MASS_MIN - 1))
        assert (len(alone), said) == (1, [])


def test_a_mass_is_one_event_at_once_that_names_all_and_how_many_are_silent() -> None:
    fold = MassLoss()
    alone, (said,) = fold.take([change("g0"), change("g1")], names(40)[2:], 100.0)
    assert alone == []
    assert (said.gateway, said.subkind, said.qualifier) == ("", "mass-loss", NEW)
    assert said.text == "2 gateways are lost at once: g0, g1; 38 more are silent"
    assert said.details == {"lost": 2, "silent": 38, "gateways": "g0, g1"}
    assert said.marks == {"g0": Announced.FOLDED, "g1": Announced.FOLDED}
    later = []
    for step in range(1, 13):  # the others follow within three seconds
        lost = [change(name) for name in names(40)[2:][(step - 1) * 4 : step * 4]]
        alone, told = fold.take(lost, [], 100.0 + step * 0.25)
        assert alone == []
        later += told
    assert later == []
    _, (update,) = fold.take([], [], 100.25 + UPDATE_S)
    assert update.qualifier is STILL
    assert named(update) == set(names(40))
    assert update.marks == dict.fromkeys(names(40)[2:], Announced.FOLDED)
    assert fold.take([], [], 200.0) == ([], [])
    assert fold.lost == set(names(40))


def test_who_fell_silent_together_is_told_from_who_is_a_little_late() -> None:
    supervision = Supervision(lost_after_s=20.0)
    for name in names(40):
        supervision.enrol(name, Known(seen=True), 0.0)
        supervision.heard(name, "lan", 100.0 + int(name[1:]) % 4)
    for name in names(40)[8:]:
        supervision.heard(name, "lan", 110.0)  # late, and no part of the cut
    supervision.timeout(120.0)
    changes = supervision.changes()
    assert [each.gateway for each in changes] == ["g0", "g4"]
    assert supervision.silent(120.0, together_s(changes)) == set(names(8)) - {"g0", "g4"}
    assert together_s([]) == SILENT_S


def test_who_was_not_among_the_silent_is_named_soon() -> None:
    fold = MassLoss()
    fold.take([change(name) for name in names(MASS_MIN)], [], 100.0)
    assert fold.take([change("late")], [], 101.0) == ([], [])
    assert fold.deadline() == 101.0 + NEWCOMER_S
    _, (update,) = fold.take([], [], 101.0 + NEWCOMER_S)
    assert "late" in named(update)


def test_when_all_are_back_it_ends_at_once() -> None:
    fold = MassLoss()
    fold.take([change(name) for name in names(10)], [], 100.0)
    assert fold.take([change(name, RESTORE) for name in names(9)], [], 200.0) == ([], [])
    _, (update,) = fold.take([], [], 200.0 + UPDATE_S)
    assert (update.qualifier, named(update)) == (STILL, {"g9"})
    assert update.marks == dict.fromkeys(names(9), Announced.NO)
    alone, (ended,) = fold.take([change("g9", RESTORE)], [], 210.0)
    assert (alone, ended.qualifier, ended.marks) == ([], RESTORE, {"g9": Announced.NO})
    assert ended.text == "10 gateways are back after they were lost at once"
    assert (fold.lost, fold.deadline()) == (frozenset(), None)


def test_who_does_not_come_back_with_the_others_is_lost_by_itself() -> None:
    fold = MassLoss()
    fold.take([change(name) for name in names(10)], [], 100.0)
    fold.take([change(name, RESTORE) for name in names(8)], [], 200.0)
    fold.take([], [], 206.0)
    assert fold.take([], [], 199.9 + SETTLED_S) == ([], [])
    assert fold.deadline() == 200.0 + SETTLED_S
    _, (ended, *left) = fold.take([], [], 200.0 + SETTLED_S)
    assert ended.text.endswith("still lost: g8, g9")
    assert ended.marks == {"g8": Announced.ALONE, "g9": Announced.ALONE}
    assert [(each.gateway, each.subkind, each.qualifier) for each in left] == [
        ("g8", "gateway-lost", NEW),
        ("g9", "gateway-lost", NEW),
    ]
    assert fold.take([change("g8", RESTORE)], [], 900.0) == ([change("g8", RESTORE)], [])


def test_a_mass_goes_on_after_a_restart_and_after_a_revocation() -> None:
    fold = MassLoss()
    fold.resume(names(6), 10.0)
    assert fold.take([], [], 11.0) == ([], [])
    for name in names(6)[:5]:
        fold.take([change(name, RESTORE)], [], 12.0)
    fold.forget("g5")
    _, (ended,) = fold.take([], [], 12.1)
    assert ended.qualifier is RESTORE
    assert ended.marks == dict.fromkeys(names(6), Announced.NO)


def test_thousands_of_names_stay_within_bounds_and_say_how_many_are_left_out() -> None:
    many = [f"gateway-with-a-long-name-{number}" for number in range(5000)]
    _, (said,) = MassLoss().take([change(name) for name in many], [], 0.0)
    assert said.details is not None
    listed = str(said.details["gateways"])
    assert len(listed) <= NAMES_LENGTH_MAX + 30
    assert listed.endswith(" more")
    assert listed.count(", ") + 1 + int(listed.split(" and ")[1].split(maxsplit=1)[0]) == 5000
    assert said.marks is not None
    assert len(said.marks) == 5000


def test_paths_are_never_folded() -> None:
    lost = [change(name, path="lan") for name in names(20)]
    assert MassLoss().take(lost, [], 0.0) == (lost, [])


steps = st.lists(
    st.tuples(
        st.floats(0.0, 20.0),
        st.lists(st.integers(0, 11), max_size=12),
        st.booleans(),  # the station starts anew
    ),
    max_size=40,
)


class Station:
    """Twelve gateways, their supervision, and what the ledger has of it."""

    def __init__(self) -> None:
        self.everybody = names(12)
        self.ledger = dict.fromkeys(self.everybody, Announced.NO)
        self.mass = False
        self.start(0.0)

    def start(self, now: float) -> None:
        self.supervision, self.fold = Supervision(lost_after_s=20.0), MassLoss()
        for name, mark in self.ledger.items():
            known = Known(seen=True, lost=bool(mark), folded=mark is Announced.FOLDED)
            self.supervision.enrol(name, known, now)
        folded = [name for name, mark in self.ledger.items() if mark is Announced.FOLDED]
        self.fold.resume(folded, now)
        self.mass = bool(folded)

    def pass_half_a_second(self, heard: list[int], now: float) -> None:
        for number in heard:
            self.supervision.heard(self.everybody[number], "lan", now)
        self.supervision.timeout(now)
        changes = self.supervision.changes()
        silent = self.supervision.silent(now, together_s(changes))
        alone, said = self.fold.take(changes, silent, now)
        for each in alone:
            assert (each.qualifier is NEW) is (self.ledger[each.gateway] is Announced.NO)
            self.ledger[each.gateway] = Announced(each.qualifier is NEW)
        for told in said:
            if told.gateway:
                continue  # marked by the end of the mass, just before
            assert told.marks is not None
            self.ledger |= told.marks
            assert self.mass is (told.qualifier is not NEW)
            self.mass = told.qualifier is not RESTORE

    def is_told(self, name: str, now: float) -> bool:
        lost = self.supervision.state(name, now) == "lost"
        return lost == (self.ledger[name] is not Announced.NO)


@given(steps, st.integers(1, 12))
def test_whoever_is_lost_stands_in_the_ledger_as_such_and_nobody_else(
    steps: list[tuple[float, list[int], bool]], talking: int
) -> None:
    """Some talk and some do not, in any pattern: announced is lost, and once."""
    station, now = Station(), 0.0
    for wait, heard, restart in steps:
        for _ in range(max(1, round(wait / 0.5))):
            now += 0.5
            station.pass_half_a_second(heard[:talking], now)
            unsaid = station.fold.deadline() is not None
            assert unsaid or all(station.is_told(name, now) for name in station.everybody)
        if restart:
            station.start(now)
