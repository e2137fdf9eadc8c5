from station.told import QUIET_S, STRANGERS_MAX, Told
from sync.peers import Notice


def refused(key: str, gateway: str = "") -> Notice:
    return Notice(reason="key-refused", text=f"the key {key}", key=key, gateway=gateway)


def test_each_stranger_is_named_at_once_and_then_counted() -> None:
    told = Told()
    first = told.take(refused("a"), 0.0)
    assert first is not None
    assert (first.subkind, first.gateway, first.details) == ("key-refused", "", {"key": "a"})
    assert told.take(refused("b"), 1.0) is not None
    assert [told.take(refused("a"), second) for second in (60.0, 120.0)] == [None, None]
    (again,) = told.due(QUIET_S)
    assert (again.count, again.details) == (2, {"key": "a"})


def test_strangers_without_end_are_spoken_of_together() -> None:
    told = Told()
    named = [told.take(refused(f"key-{number}"), 0.0) for number in range(1000)]
    assert sum(each is not None for each in named) == STRANGERS_MAX + 1
    assert sum(each.count for each in told.due(QUIET_S)) == 1000 - STRANGERS_MAX - 1


def test_a_flood_of_strangers_hides_no_gateway() -> None:
    told = Told()
    for number in range(1000):
        told.take(refused(f"key-{number}"), 0.0)
    own = told.take(refused("k", gateway="house-1"), 0.0)
    assert own is not None
    assert own.gateway == "house-1"


def test_after_the_list_changed_a_refusal_is_news_again() -> None:
    told = Told()
    told.take(refused("a"), 0.0)
    told.take(refused("a"), 1.0)
    assert [each.count for each in told.start_anew()] == [1]
    assert told.take(refused("a"), 2.0) is not None
