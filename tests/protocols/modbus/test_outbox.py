"""The way to the store: urgent changes keep their order, of the others the newest is kept."""

from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from events.model import POSSIBLE_REPEAT, Observation
from protocols.modbus.outbox import (
    IN_FLIGHT_MAX,
    RETRY_S,
    ROUTINE_IN_FLIGHT_MAX,
    UNRECORDED,
    WAITING_MAX,
    Outbox,
)


def change(point: str, value: int) -> Observation:
    return Observation(point=point, kind="alarm", value=value)


def routine(point: str, value: int) -> Observation:
    return Observation(point=point, kind="status", value=value)


def measurement(point: str, value: int) -> Observation:
    return Observation(point=point, kind="measurement", value=value)


def test_a_measurement_replaces_a_waiting_one_of_its_point_and_no_other() -> None:
    outbox = Outbox()
    outbox.put([measurement("a", 1), measurement("b", 2), measurement("a", 4), change("c", 3)])
    assert [each.value for each in outbox.drain(0.0)] == [2, 4, 3]


def test_of_one_point_only_one_is_under_way() -> None:
    outbox = Outbox()
    outbox.put([change("a", 1), change("a", 2), change("b", 3)])
    assert [each.value for each in outbox.drain(0.0)] == [1, 3]
    assert outbox.drain(0.0) == []
    outbox.stored(1)
    assert [each.value for each in outbox.drain(0.0)] == [2]


def test_what_is_handed_out_is_bounded_and_the_rest_waits() -> None:
    outbox = Outbox()
    outbox.put(change(f"p{number}", number) for number in range(WAITING_MAX))
    was_full = outbox.full
    assert was_full
    first = outbox.drain(0.0)
    assert [each.value for each in first] == list(range(IN_FLIGHT_MAX))
    assert outbox.drain(0.0) == []
    outbox.stored(1)
    assert outbox.full is False
    assert [each.value for each in outbox.drain(0.0)] == [IN_FLIGHT_MAX]


def test_refused_changes_come_again_in_order_and_other_points_pass_them() -> None:
    outbox = Outbox()
    outbox.put([change("a", 1), change("a", 2)])
    outbox.drain(0.0)
    outbox.dropped(1, 0.0)
    outbox.put([change("a", 3), change("b", 4)])
    assert [each.value for each in outbox.drain(0.5)] == [4]
    assert outbox.next_release() == RETRY_S
    later = []
    for _ in range(3):
        outbox.stored(1)
        later += [each.value for each in outbox.drain(RETRY_S)]
    assert later == [1, 2, 3]
    assert outbox.next_release() is None


def test_a_refused_measurement_gives_way_to_a_newer_one() -> None:
    outbox = Outbox()
    outbox.put([measurement("a", 1), measurement("b", 2)])
    outbox.drain(0.0)
    outbox.put([measurement("a", 3)])
    outbox.dropped(2, 0.0)
    assert sorted(str(each.value) for each in outbox.drain(RETRY_S)) == ["2", "3"]


def test_what_was_never_settled_comes_again_with_a_flag() -> None:
    outbox = Outbox()
    outbox.put([change("a", 1), change("b", 2)])
    outbox.drain(0.0)
    outbox.stored(1)
    outbox.restart()
    (again,) = outbox.drain(0.0)
    assert (again.value, again.flags) == (2, (POSSIBLE_REPEAT,))


def told(observations: list[Observation]) -> list[tuple[object, object]]:
    return [(each.value, each.details.get(UNRECORDED)) for each in observations]


def test_of_refused_routine_changes_the_newest_goes_first_and_counts_the_rest() -> None:
    outbox = Outbox()
    outbox.put([routine("a", 1), routine("a", 2)])
    outbox.drain(0.0)
    outbox.dropped(1, 0.0)
    outbox.put([routine("a", number) for number in range(3, 2000)])
    assert told(outbox.drain(RETRY_S)) == [(1999, 1998)]
    outbox.put([routine("a", 2000)])
    outbox.dropped(1, RETRY_S)
    assert told(outbox.drain(2 * RETRY_S)) == [(2000, 1999)]
    assert outbox.unrecorded == 1999
    outbox.stored(1)
    outbox.put([routine("a", 2001), routine("a", 2002)])
    assert told(outbox.drain(2 * RETRY_S)) == [(2001, None)]
    outbox.stored(1)
    assert told(outbox.drain(2 * RETRY_S)) == [(2002, None)]


def test_a_measurement_takes_over_what_the_one_it_replaces_accounts_for() -> None:
    outbox = Outbox()
    outbox.put([measurement("a", 1)])
    outbox.drain(0.0)
    outbox.put([measurement("a", 2)])
    outbox.dropped(1, 0.0)
    assert told(outbox.drain(RETRY_S)) == [(2, 1)]
    outbox.restart()
    outbox.put([measurement("a", 3)])
    assert told(outbox.drain(RETRY_S)) == [(3, 2)]


def test_routine_changes_never_fill_it_whether_refused_or_slow() -> None:
    outbox = Outbox()
    outbox.put(routine(f"p{number % 200}", number) for number in range(4 * WAITING_MAX))
    assert not outbox.full
    assert len(outbox.drain(0.0)) == ROUTINE_IN_FLIGHT_MAX
    outbox.put(routine(f"p{number % 200}", number) for number in range(4 * WAITING_MAX))
    assert len(outbox._waiting) <= 200
    assert sum(map(len, outbox._waiting.values())) <= WAITING_MAX + 200
    outbox.put([change("hall", 1)])
    assert outbox.drain(0.0) == [change("hall", 1)], "room is left for what is urgent"


def test_an_alarm_passes_what_was_refused_of_the_same_point() -> None:
    outbox = Outbox()
    outbox.put([routine("a", 1)])
    outbox.drain(0.0)
    outbox.dropped(1, 0.0)
    outbox.put([change("a", 2)])
    assert outbox.drain(0.0) == [change("a", 2)]


def test_all_of_a_point_that_is_configured_as_urgent_is_kept_in_order() -> None:
    outbox = Outbox(frozenset({"lift"}))
    outbox.put([routine("lift", 1)])
    outbox.drain(0.0)
    outbox.put([routine("lift", number) for number in range(2, WAITING_MAX + 1)])
    outbox.dropped(1, 0.0)
    assert outbox.full
    found = []
    for _ in range(WAITING_MAX):
        found += outbox.drain(RETRY_S)
        outbox.stored(1)
    assert told(found) == [(number, None) for number in range(1, WAITING_MAX + 1)]
    assert not outbox.full


def test_nothing_is_to_be_released_while_it_is_under_way_or_has_no_room() -> None:
    outbox = Outbox()
    outbox.put([routine("a", 1)])
    outbox.drain(0.0)
    outbox.dropped(1, 0.0)
    outbox.drain(RETRY_S)
    outbox.put([routine("a", 2)])
    assert outbox.next_release() is None


class Conversation(RuleBasedStateMachine):
    """Any interleaving of putting, draining, storing and refusing loses no change."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.now_s = 0.0
        self.number = 0
        self.put: dict[str, list[int]] = defaultdict(list)
        self.stored: dict[str, list[int]] = defaultdict(list)
        self.in_flight: list[Observation] = []

    @rule(point=st.sampled_from("abc"), how_many=st.integers(1, 5))
    def see(self, point: str, how_many: int) -> None:
        for _ in range(how_many):
            self.number += 1
            self.put[point].append(self.number)
            self.outbox.put([change(point, self.number)])

    @rule(seconds=st.floats(0, 2))
    def drain(self, seconds: float) -> None:
        self.now_s += seconds
        self.in_flight += self.outbox.drain(self.now_s)

    @rule(count=st.integers(1, 4))
    def store(self, count: int) -> None:
        for observation in self.in_flight[:count]:
            assert isinstance(observation.value, int)
            self.stored[observation.point].append(observation.value)
        self.outbox.stored(len(self.in_flight[:count]))
        del self.in_flight[:count]

    @rule(count=st.integers(1, 4))
    def refuse(self, count: int) -> None:
        self.outbox.dropped(len(self.in_flight[:count]), self.now_s)
        del self.in_flight[:count]

    @invariant()
    def in_flight_is_bounded(self) -> None:
        assert len(self.in_flight) <= IN_FLIGHT_MAX

    def teardown(self) -> None:
        for _ in range(self.number + 1):
            self.now_s += 2
            self.in_flight += self.outbox.drain(self.now_s)
            self.store(len(self.in_flight) or 1)
        for point, numbers in self.put.items():
            assert self.stored[point] == numbers, "all, none twice, in order"


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
