from hypothesis import example, given
from hypothesis import strategies as st

from buffer.entries import pending
from buffer.memory import CHECKPOINT_EVERY, Memory
from events.model import Origin
from tests.buffer.logs import item, stamp


def note(memory: Memory, seq: int, **fields: object) -> None:
    each = item(seq, **fields)
    memory.note(seq, each.record.observation, each.body)


def test_the_newest_observation_of_a_condition_counts() -> None:
    memory = Memory()
    note(memory, 1, point="a", kind="alarm", subkind="panic")
    note(memory, 2, point="a", kind="alarm", subkind="panic", qualifier="restore")
    note(memory, 3, point="a", kind="tamper")
    found = memory.latest("a", "alarm", "panic")
    assert found is not None
    assert found.qualifier == "restore"
    assert memory.latest("a", "alarm", "") is None


def test_an_event_that_is_recorded_again_is_the_newest_only_where_it_was() -> None:
    memory = Memory()
    note(memory, 1, point="a", value=1)
    note(memory, 2, point="b", value=1)
    note(memory, 3, point="b", value=2)
    for seq, point, first in ((4, "a", 1), (5, "b", 2), (6, "a", 1)):
        origin = Origin("log", first)
        seen = item(seq, point=point, value=1).record.observation
        again = pending(seen, stamp(seq), urgent=False, origin=origin)
        memory.note(seq, seen, again.body, again_of=origin)
    assert [seq for seq, _ in memory.numbered(range(1, 10))] == [3, 6]


def test_raw_bytes_are_kept_per_source_and_survive_events_without() -> None:
    memory = Memory()
    note(memory, 1, source="receiver-1", raw=b"1")
    note(memory, 2, source="receiver-2", raw=b"2")
    note(memory, 3, source="receiver-1")
    assert memory.last_raw("receiver-1") == b"1"
    assert memory.last_raw("receiver-2") == b"2"
    assert memory.last_raw("gpio") is None


def test_the_longest_unheard_is_forgotten_and_counted() -> None:
    memory = Memory(conditions_max=3, sources_max=2)
    for seq, point in enumerate("abcadb", 1):
        note(memory, seq, point=point, kind="alarm", source=point, raw=b"x")
    assert memory.latest("c", "alarm", "") is None
    assert all(memory.latest(point, "alarm", "") is not None for point in "adb")
    assert memory.last_raw("d") == memory.last_raw("b") == b"x"
    assert memory.forgotten_count == 6  # b and c of the conditions, four of the sources


def test_a_checkpoint_is_due_after_so_many_events_or_bytes() -> None:
    def due(seq: int, *, every_bytes: int, written: bool = False) -> bool:
        memory = Memory(checkpoint_bytes=every_bytes)
        note(memory, seq)
        if written:
            memory.take_checkpoint()
        return memory.checkpoint_due

    assert not due(CHECKPOINT_EVERY - 1, every_bytes=10_000)
    assert due(CHECKPOINT_EVERY, every_bytes=10_000)
    assert not due(CHECKPOINT_EVERY, every_bytes=10_000, written=True)
    assert due(1, every_bytes=10)
    assert not due(1, every_bytes=10, written=True)


def test_a_checkpoint_that_was_not_written_is_due_again() -> None:
    memory = Memory()
    note(memory, CHECKPOINT_EVERY)
    memory.give_back(memory.take_checkpoint())
    assert memory.checkpoint_due
    assert memory.take_checkpoint().latest


def test_an_unreadable_body_is_no_observation() -> None:
    memory = Memory()
    memory.load(5, [("a", "alarm", "", "", 5, b"\xc1")], [])
    assert memory.latest("a", "alarm", "") is None


def test_what_was_learned_later_wins_in_a_merge() -> None:
    old, later = Memory(), Memory()
    note(old, 1, point="a", value=1, source="s", raw=b"old")
    note(old, 2, point="b", value=1)
    note(later, 1, point="a", value=2, source="s", raw=b"new")
    old.merge(later)
    seen = old.latest("a", "status", "")
    assert seen is not None
    assert seen.value == 2
    assert old.latest("b", "status", "") is not None
    assert old.last_raw("s") == b"new"
    assert old.through == 2


@example([(point, True) for point in "abcdea"])  # forgotten, and heard again
@example([*((point, True) for point in "abcde"), "fail", ("a", True)])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abcdef"), st.booleans()),
            st.sampled_from(["write", "fail"]),
        ),
        max_size=60,
    )
)
def test_the_copy_is_the_memory_whatever_failed_in_between(
    steps: list[tuple[str, bool] | str],
) -> None:
    memory = Memory(conditions_max=4, sources_max=2)
    rows: dict[tuple[str, ...], tuple[int, bytes]] = {}
    raws: dict[str, tuple[int, bytes]] = {}
    for seq, step in enumerate([*steps, "write"], 1):
        if isinstance(step, tuple):
            point, raw = step
            note(memory, seq, point=point, source=point, raw=b"raw" if raw else b"")
            continue
        checkpoint = memory.take_checkpoint()
        if step == "fail":
            memory.give_back(checkpoint)
            continue
        rows |= {row[:4]: row[4:] for row in checkpoint.latest}
        raws |= {row[0]: row[1:] for row in checkpoint.last_raw}
        for key in checkpoint.forgotten:
            rows.pop(key, None)
        for source in checkpoint.forgotten_sources:
            raws.pop(source, None)
    assert rows == memory._latest
    assert raws == memory._last_raw
    assert not memory.changed
