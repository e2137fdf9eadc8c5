import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.kinds import Qualifier
from station.supervision import PATHS_MAX, SILENT_S, Change, GatewayState, Known, Supervision

NEW, RESTORE = Qualifier.NEW, Qualifier.RESTORE
LOST_AFTER_S = 90.0


def classes() -> Supervision:
    supervision = Supervision(lost_after_s=LOST_AFTER_S)
    for name, lost_after_s in (("fast", 20.0), ("usual", None), ("slow", 180.0)):
        supervision.enrol(name, Known(seen=True), 0.0, lost_after_s)
    return supervision


def watching(known: Known | None = None, now: float = 0.0) -> Supervision:
    supervision = Supervision(lost_after_s=LOST_AFTER_S)
    supervision.enrol("g1", known or Known(), now)
    return supervision


def told(supervision: Supervision) -> list[tuple[str | None, Qualifier]]:
    return [(change.path, change.qualifier) for change in supervision.changes()]


def test_silence_is_announced_exactly_when_the_time_is_over_and_once() -> None:
    supervision = watching()
    supervision.heard("g1", "lan", 10.0)
    assert supervision.deadline() == 100.0
    supervision.timeout(99.999)
    assert supervision.changes() == []
    assert supervision.state("g1", 20.0) is GatewayState.CONNECTED
    assert supervision.state("g1", 20.1) is GatewayState.SILENT
    assert supervision.paths("g1", 20.1) == {"lan": GatewayState.SILENT}
    supervision.timeout(100.0)
    assert supervision.changes() == [Change(gateway="g1", path=None, qualifier=NEW, silent_s=90.0)]
    assert supervision.state("g1", 100.0) is GatewayState.LOST
    assert supervision.deadline() is None
    supervision.timeout(10_000.0)
    assert supervision.changes() == []


@pytest.mark.parametrize(
    ("gateway", "class_s"), [("fast", 20.0), ("usual", 90.0), ("slow", 180.0)]
)
def test_each_is_lost_exactly_after_its_own_class(gateway: str, class_s: float) -> None:
    supervision = classes()
    for name in ("fast", "usual", "slow"):
        supervision.heard(name, "lan", 1000.0)
    for step in range(1, 400):
        now = 1000.0 + step * 0.5
        for name in {"fast", "usual", "slow"} - {gateway}:
            supervision.heard(name, "lan", now)
        supervision.timeout(now - 0.001)
        assert (supervision.state(gateway, now - 0.001) is GatewayState.LOST) == (
            now - 0.001 >= 1000.0 + class_s
        )
        supervision.timeout(now)
    assert [change.gateway for change in supervision.changes()] == [gateway]


def test_another_class_counts_from_the_last_word() -> None:
    supervision = classes()
    supervision.heard("slow", "lan", 100.0)
    supervision.enrol("slow", Known(), 150.0, 20.0)
    assert supervision.lost_after_s("slow") == 20.0
    supervision.timeout(150.0)
    assert [
        (each.gateway, each.silent_s) for each in supervision.changes() if each.gateway == "slow"
    ] == [("slow", 50.0)]


def test_while_the_station_itself_slept_nobody_was_silent() -> None:
    supervision = watching()
    supervision.heard("g1", "lan", 10.0)
    supervision.slept(500.0)  # up to 520
    supervision.timeout(520.0)
    assert supervision.changes() == []
    assert supervision.deadline() == 600.0
    supervision.timeout(599.9)
    assert supervision.changes() == []
    supervision.timeout(600.0)
    assert told(supervision) == [(None, NEW)]


def test_the_first_word_after_a_silence_ends_it_once() -> None:
    supervision = watching()
    supervision.heard("g1", "lan", 0.0)
    supervision.timeout(90.0)
    supervision.changes()
    supervision.heard("g1", "lan", 200.0)
    supervision.heard("g1", "lan", 201.0)
    assert told(supervision) == [(None, RESTORE)]
    assert supervision.state("g1", 201.0) is GatewayState.CONNECTED
    assert supervision.deadline() == 291.0


def test_a_word_from_before_the_silence_ends_nothing() -> None:
    supervision = watching()
    supervision.heard("g1", "lan", 10.0)
    supervision.timeout(100.0)
    supervision.changes()
    supervision.heard("g1", "lan", 10.0)
    assert supervision.changes() == []
    assert supervision.state("g1", 100.0) is GatewayState.LOST
    supervision.heard("g1", "lan", 100.5)
    assert told(supervision) == [(None, RESTORE)]


def test_one_that_never_spoke_is_neither_fine_nor_quiet_about_it() -> None:
    supervision = watching()
    assert supervision.state("g1", 0.0) is GatewayState.NEVER_SEEN
    supervision.timeout(90.0)
    assert told(supervision) == [(None, NEW)]
    assert supervision.state("g1", 90.0) is GatewayState.NEVER_SEEN
    supervision.heard("g1", "lan", 95.0)
    assert told(supervision) == [(None, RESTORE)]


def test_after_a_restart_one_that_was_there_is_unknown_until_heard_or_lost() -> None:
    supervision = watching(Known(seen=True), now=1000.0)
    assert supervision.state("g1", 1000.0) is GatewayState.UNKNOWN
    assert supervision.silent_s("g1", 1001.0) is None
    supervision.timeout(1089.9)
    assert supervision.state("g1", 1089.9) is GatewayState.UNKNOWN
    supervision.timeout(1090.0)
    assert told(supervision) == [(None, NEW)]
    assert supervision.state("g1", 1090.0) is GatewayState.LOST


def test_after_a_restart_one_that_was_lost_stays_lost_and_is_not_announced_again() -> None:
    supervision = watching(Known(seen=True, lost=True), now=1000.0)
    assert supervision.state("g1", 1000.0) is GatewayState.LOST
    assert supervision.deadline() is None
    supervision.timeout(9999.0)
    assert supervision.changes() == []
    supervision.heard("g1", "lan", 10_000.0)
    assert told(supervision) == [(None, RESTORE)]


def test_a_path_that_falls_silent_while_another_lives_is_named_once() -> None:
    supervision = watching()
    supervision.heard("g1", "lan", 0.0)
    supervision.heard("g1", "lte", 0.0)
    for second in range(3, 300, 3):
        supervision.heard("g1", "lte", float(second))
        supervision.timeout(float(second))
        assert ("lan" in supervision.paths("g1", float(second))) is True
    assert told(supervision) == [("lan", NEW)]
    assert supervision.paths("g1", 297.0) == {
        "lan": GatewayState.LOST,
        "lte": GatewayState.CONNECTED,
    }
    supervision.heard("g1", "lan", 300.0)
    assert told(supervision) == [("lan", RESTORE)]


def test_when_all_paths_fall_silent_it_is_the_gateway_alone_that_is_lost() -> None:
    supervision = watching()
    supervision.heard("g1", "lan", 0.0)
    supervision.heard("g1", "lte", 2.0)
    supervision.timeout(91.0)
    assert told(supervision) == []
    supervision.timeout(92.0)
    assert told(supervision) == [(None, NEW)]
    assert set(supervision.paths("g1", 92.0).values()) == {GatewayState.LOST}
    supervision.heard("g1", "lte", 500.0)
    assert told(supervision) == [(None, RESTORE)]  # the other path has its own time from here
    supervision.heard("g1", "lte", 589.0)
    assert told(supervision) == []
    supervision.heard("g1", "lte", 590.0)
    assert told(supervision) == [("lan", NEW)]


def test_a_path_that_was_lost_before_a_restart_is_not_announced_again() -> None:
    supervision = watching(Known(seen=True, paths=(("lan", True), ("lte", False))), now=0.0)
    assert supervision.paths("g1", 0.0) == {
        "lan": GatewayState.LOST,
        "lte": GatewayState.UNKNOWN,
    }
    supervision.heard("g1", "lte", 1.0)
    supervision.heard("g1", "lte", 95.0)
    assert told(supervision) == []
    supervision.heard("g1", "lan", 96.0)
    assert told(supervision) == [("lan", RESTORE)]


def test_paths_that_a_gateway_makes_up_without_end_are_not_remembered() -> None:
    supervision = watching()
    for number in range(1000):
        supervision.heard("g1", f"path-{number}", 0.0)
    assert len(supervision.paths("g1", 0.0)) == PATHS_MAX


def test_strangers_and_revoked_gateways_are_not_missed() -> None:
    supervision = watching()
    supervision.heard("stranger", "lan", 0.0)
    assert supervision.state("stranger", 0.0) is GatewayState.REVOKED
    supervision.heard("g1", "lan", 0.0)
    supervision.revoke("g1")
    supervision.timeout(1000.0)
    assert supervision.changes() == []
    assert supervision.state("g1", 0.0) is GatewayState.REVOKED
    assert supervision.deadline() is None


steps = st.lists(
    st.tuples(
        st.floats(0.0, 120.0),
        st.sampled_from(["heard-lan", "heard-lte", "timeout", "restart"]),
    ),
    max_size=40,
)


@given(steps)
def test_news_and_restores_alternate_and_silence_never_looks_good(
    steps: list[tuple[float, str]],
) -> None:
    supervision = watching()
    now, heard_at = 0.0, None
    announced: dict[str | None, bool] = {}
    seen = False
    for wait, step in steps:
        now += wait
        supervision.timeout(now)
        if step.startswith("heard"):
            supervision.heard("g1", step.removeprefix("heard-"), now)
            heard_at, seen = now, True
        for change in supervision.changes():
            begins = change.qualifier is NEW
            assert announced.get(change.path, False) is not begins
            announced[change.path] = begins
        if step == "restart":
            paths = tuple(
                (name, announced.get(name, False)) for name in sorted(supervision.paths("g1", now))
            )
            known = Known(seen=seen, lost=announced.get(None, False), paths=paths)
            supervision, heard_at = watching(known, now), None
            assert supervision.changes() == []
        if supervision.state("g1", now) is GatewayState.CONNECTED:
            assert heard_at is not None
            assert now - heard_at <= SILENT_S


def test_an_idle_path_has_the_time_that_it_declares() -> None:
    """A metered path speaks every 90 s, whatever the class of its gateway."""
    supervision = Supervision(lost_after_s=20.0)
    supervision.enrol("g1", Known(seen=True), 0.0)
    supervision.heard("g1", "lte", 0.0, period_s=90.0)
    for second in range(1, 183):
        supervision.heard("g1", "lan", float(second), period_s=5.0)
        assert told(supervision) == ([("lte", NEW)] if second == 182 else [])
        expected = GatewayState.CONNECTED if second <= 180 else GatewayState.SILENT
        if second < 182:
            assert supervision.paths("g1", float(second))["lte"] is expected
    supervision.heard("g1", "lte", 183.0, period_s=90.0)
    assert told(supervision) == [("lte", RESTORE)]
