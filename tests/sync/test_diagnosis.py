"""One word about a path, once for each change."""

from events.replication import Lane
from sync.diagnosis import SETTLE_S, TRYING, UP, LaneState, PathWatch
from sync.peers import PathFault

DOWN = LaneState(fault=PathFault.UNREACHABLE, text="nobody accepts")


def watch(now: float, *, main: LaneState = UP, urgent: LaneState = UP) -> PathWatch:
    path = PathWatch()
    path.report(Lane.MAIN, main, now)
    path.report(Lane.URGENT, urgent, now)
    return path


def test_a_path_is_up_when_both_lanes_are_and_down_with_either() -> None:
    assert watch(0.0).state() == UP
    assert watch(0.0, urgent=DOWN).state() == DOWN
    assert watch(0.0, main=DOWN, urgent=TRYING).state() == DOWN
    assert watch(0.0, urgent=TRYING).state() == TRYING


def test_a_state_is_told_once_when_it_has_settled() -> None:
    path = watch(10.0, main=DOWN)
    assert path.deadline() == 10.0 + SETTLE_S
    assert path.change(10.0 + SETTLE_S - 0.01) is None
    assert path.change(10.0 + SETTLE_S) == DOWN
    assert (path.change(99.0), path.deadline()) == (None, None)


def test_a_flap_that_is_over_before_it_settled_is_not_told() -> None:
    path = watch(0.0)
    assert path.change(SETTLE_S) == UP
    path.report(Lane.MAIN, DOWN, 10.0)
    path.report(Lane.MAIN, UP, 10.0 + SETTLE_S / 2)
    assert path.change(99.0) is None


def test_nothing_is_told_before_anything_is_known() -> None:
    path = PathWatch()
    assert (path.change(1e9), path.deadline()) == (None, None)
    path.report(Lane.MAIN, TRYING, 1.0)
    assert (path.change(1e9), path.deadline()) == (None, None)


def test_the_second_lane_with_the_same_fault_does_not_start_the_wait_again() -> None:
    path = watch(0.0, main=DOWN, urgent=TRYING)
    path.report(Lane.URGENT, DOWN, SETTLE_S - 0.1)
    assert path.change(SETTLE_S) == DOWN
