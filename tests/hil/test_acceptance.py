"""What counts as accepted: an ideal gateway is never convicted, and the careless ones are."""

import random
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from events.calendar import rfc3339
from hil.acceptance import (
    Answer,
    Message,
    Run,
    Watch,
    contact_sight,
    level_signals,
    module_sight,
    panel_signals,
    runs,
)
from hil.account import Account, Book, Row, settle

CONDITION = ("button", "alarm", "panic")
QUALIFY_S = 0.25
MARGIN_S = 0.3
SLACK_S = 0.1
STEP_S = 0.05


@dataclass
class World:
    changes: list[tuple[float, bool]]
    watches: list[Watch]
    end_s: float


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A contact that changes now and then, and a gateway that comes and goes."""
    moment = 0.0
    changes = [(0.0, draw(st.booleans()))]
    for _ in range(draw(st.integers(0, 12))):
        moment += STEP_S * draw(st.integers(1, 30))
        changes.append((moment, not changes[-1][1]))
    watches = []
    start = STEP_S * draw(st.integers(0, 10))
    for _ in range(draw(st.integers(0, 4))):
        watching = start + STEP_S * draw(st.integers(0, 3))
        ended = watching + STEP_S * draw(st.integers(0, 60))
        watches.append(Watch(joined_s=start, watching_s=watching, ended_s=ended))
        start = ended + STEP_S * draw(st.integers(1, 40))
    return World(changes, watches, max(moment, start) + 2.0)


def level_at(world: World, moment: float) -> bool:
    return [on for at, on in world.changes if at <= moment + 1e-9][-1]


def gateway(
    world: World, draw: random.Random, *, qualify_s: float = QUALIFY_S, compares: bool = True
) -> list[str]:
    """Record as a gateway that samples every 10 ms would, restarting with what it had stored."""
    stored: bool | None = None
    said: list[str] = []
    for watch in world.watches:
        moment = draw.uniform(watch.joined_s, watch.watching_s)
        if not compares:
            stored = level_at(world, moment)
        if stored is None and not level_at(world, moment):
            stored = False  # the first level of all, and it is off: nothing to say
        differs_since = None
        while moment < watch.ended_s:
            level = level_at(world, moment)
            if level == (stored or False):
                differs_since = None
            elif differs_since is None:
                differs_since = moment
            if differs_since is not None and moment - differs_since >= qualify_s - 1e-9:
                stored = level
                differs_since = None
                said.append("new" if level else "restore")
            moment += 0.01
    return said


def judge(world: World, said: list[str]) -> Account:
    history = [
        contact_sight(run, world.watches, qualify_s=QUALIFY_S, margin_s=MARGIN_S, slack_s=SLACK_S)
        for run in runs(world.changes, world.end_s)
    ]
    signals, finals = level_signals(CONDITION, history, live=[])
    made = Book(
        gateway="g",
        device="button",
        input="contact",
        points=frozenset({"button"}),
        signals=signals,
        finals=finals,
    )
    rows = [
        Row(
            n=n,
            gateway="g",
            log_id="log",
            seq=n,
            point="button",
            kind="alarm",
            subkind="panic",
            qualifier=qualifier,
            received_at=rfc3339(0),
        )
        for n, qualifier in enumerate(said, 1)
    ]
    return settle([made], rows)


@given(worlds(), st.randoms(use_true_random=False))
def test_an_ideal_gateway_is_never_convicted(world: World, draw: random.Random) -> None:
    assert judge(world, gateway(world, draw)).findings == ()


def pressed_while_down() -> World:
    return World(
        changes=[(0.0, False), (10.0, True)],
        watches=[
            Watch(joined_s=0.0, watching_s=0.1, ended_s=5.0),
            Watch(joined_s=12.0, watching_s=12.1, ended_s=20.0),
        ],
        end_s=20.0,
    )


def test_a_change_while_nobody_watched_must_be_found_at_the_start() -> None:
    honest = judge(pressed_while_down(), gateway(pressed_while_down(), random.Random(1)))
    assert (honest.ok, honest.accepted) == (True, 1)
    careless = gateway(pressed_while_down(), random.Random(1), compares=False)
    account = judge(pressed_while_down(), careless)
    assert (account.lost, account.states_right) == (1, 0)


def test_a_pulse_while_nobody_watched_is_not_accepted() -> None:
    world = pressed_while_down()
    world.changes.append((11.0, False))
    account = judge(world, [])
    assert (account.accepted, account.findings) == (0, ())
    assert judge(world, ["new", "restore"]).unexplained == 1  # the first restore may be there


def test_bounces_that_become_events_are_convicted() -> None:
    changes = [(0.0, False)]
    for bounce in range(5):
        changes += [(2.0 + bounce * 0.1, True), (2.05 + bounce * 0.1, False)]
    watches = [Watch(joined_s=0.0, watching_s=0.1, ended_s=10.0)]
    world = World(changes, watches, 10.0)
    assert judge(world, gateway(world, random.Random(1))).findings == ()
    hasty = gateway(world, random.Random(1), qualify_s=0.0)
    assert len(hasty) == 10
    assert judge(world, hasty).unexplained == 5


def test_a_level_held_through_a_kill_is_said_once() -> None:
    world = pressed_while_down()
    world.changes = [(0.0, False), (3.0, True)]
    assert judge(world, ["new"]).ok
    assert judge(world, ["new", "new"]).twice == 1
    assert judge(world, []).lost == 1


def test_a_level_taken_just_before_a_kill_may_be_stored_or_not() -> None:
    world = pressed_while_down()
    world.changes = [(0.0, False), (4.7, True), (6.0, False)]
    assert judge(world, []).findings == ()
    assert judge(world, ["new", "restore"]).findings == ()
    assert judge(world, ["new"]).states_right == 0


def module_book(
    answers: list[tuple[float, bool]], watch: Watch
) -> tuple[int, int, dict[tuple[str, str, str], bool]]:
    history = [
        module_sight(
            run, [watch], [Answer(at, at) for at, on in answers if on == run.on], margin_s=MARGIN_S
        )
        for run in runs([(0.0, False), (1.0, True), (2.0, False)], 10.0)
    ]
    signals, finals = level_signals(CONDITION, history, live=[])
    return sum(s.required for s in signals), len(signals), finals


def test_a_register_counts_once_it_was_answered_twice() -> None:
    watch = Watch(joined_s=0.0, watching_s=0.0, ended_s=9.0)
    quiet = [(0.2, False), (0.4, False)]
    after = [(2.2, False), (2.4, False)]
    required, _, finals = module_book([*quiet, (1.2, True), (1.4, True), *after], watch)
    assert (required, finals) == (2, {CONDITION: False})
    required, possible, _ = module_book([*quiet, (1.2, True), *after], watch)
    assert (required, possible) == (0, 3)  # the first off, and a pair that depends on one answer
    required, possible, _ = module_book([*quiet, *after], watch)
    assert (required, possible) == (0, 1)


def test_an_answer_at_the_moment_of_a_kill_is_doubtful() -> None:
    watch = Watch(joined_s=0.0, watching_s=0.0, ended_s=1.5)
    answers = [(0.2, False), (0.4, False), (1.2, True), (1.4, True)]
    required, _, finals = module_book(answers, watch)
    assert (required, finals) == (0, {})


def test_a_message_is_accepted_by_its_acknowledgement_alone() -> None:
    acknowledged = Message(condition=CONDITION, qualifier="new", sent_s=1.0, acknowledged_s=1.1)
    unanswered = Message(condition=CONDITION, qualifier="restore", sent_s=2.0, acknowledged_s=None)
    signals, finals = panel_signals([acknowledged, unanswered], live=[(0.0, 1.5)])
    assert [(s.required, s.live) for s in signals] == [(True, True), (False, False)]
    assert finals == {}
    assert panel_signals([acknowledged], live=[])[1] == {CONDITION: True}


def test_runs_join_equal_levels() -> None:
    found = runs([(0.0, False), (1.0, False), (2.0, True)], 5.0)
    assert found == [
        Run(on=False, from_s=0.0, to_s=2.0),
        Run(on=True, from_s=2.0, to_s=5.0),
    ]
    assert runs([], 5.0) == []
