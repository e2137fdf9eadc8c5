from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from buffer.log import EventLog
from buffer.reading import GAPS_MAX, SLICE_ROWS, LogReader
from events.chain import genesis
from events.replication import Entry, Gap, Lane
from tests.buffer.logs import alarm, check_chain, copy_states, finished, item, open_log, read


def filled(folder: Path, urgent: list[bool], trimmed: int = 0) -> EventLog:
    log = open_log(folder)
    log.append([alarm(n) if is_urgent else item(n) for n, is_urgent in enumerate(urgent, 1)])
    copy_states(log)
    log.trim(trimmed)
    return log


@given(
    urgent=st.lists(st.booleans(), min_size=1, max_size=60),
    trimmed=st.integers(0, 30),
    limits=st.lists(st.integers(1, 3000), min_size=1, max_size=20),
    main_first=st.booleans(),
)
def test_both_lanes_together_give_the_log_exactly(
    urgent: list[bool], trimmed: int, limits: list[int], main_first: bool
) -> None:
    """A station reads the lanes in any interleaving; with its urgent copies it has every body."""
    with TemporaryDirectory() as folder:
        log = filled(Path(folder), urgent, trimmed)
        expected = read(log, Lane.MAIN)
        check_chain(log.head.log_id, expected)
        copies: dict[int, Entry] = {}
        main: list[Entry] = []
        gaps: list[Gap] = []
        at = {Lane.MAIN: 0, Lane.URGENT: 0}
        turn = 0
        while at[Lane.MAIN] < log.head.head:
            lane = Lane.MAIN if (turn % 2 == 0) is main_first else Lane.URGENT
            reading = read(
                log,
                lane,
                at[lane],
                limit_bytes=limits[turn % len(limits)],
                bare_through=at[Lane.URGENT],
            )
            turn += 1
            assert reading.through >= at[lane]
            assert reading.head == log.head.head
            at[lane] = reading.through
            if lane is Lane.URGENT:
                copies |= {entry.seq: entry for entry in reading.entries}
            else:
                main += reading.entries
                gaps += reading.gaps
        whole = [entry if entry.body is not None else copies[entry.seq] for entry in main]
        assert tuple(whole) == expected.entries
        assert [entry.chain for entry in main] == [entry.chain for entry in expected.entries]
        assert tuple(gaps) == expected.gaps
        log.close()


def test_at_least_one_entry_comes_however_small_the_limit(tmp_path: Path) -> None:
    log = filled(tmp_path, [False, True, False, True])
    for lane, expected in ((Lane.MAIN, 1), (Lane.URGENT, 2)):
        reading = read(log, lane, limit_bytes=1)
        assert [entry.seq for entry in reading.entries] == [expected]
        assert reading.through == expected
    log.close()


def test_a_limit_is_kept_to_the_entry(tmp_path: Path) -> None:
    log = filled(tmp_path, [False] * 20)
    size = len(read(log, Lane.MAIN, limit_bytes=1).entries[0].body or b"") + 32
    assert len(read(log, Lane.MAIN, limit_bytes=5 * size + size // 2).entries) == 5
    log.close()


def test_the_urgent_lane_is_through_to_the_head_when_nothing_is_left(tmp_path: Path) -> None:
    log = filled(tmp_path, [True, False, False])
    assert read(log, Lane.URGENT).through == 3
    assert read(log, Lane.URGENT, 1).entries == ()
    assert read(log, Lane.URGENT, 1).through == 3
    log.close()


def test_reading_at_and_beyond_the_head_gives_nothing(tmp_path: Path) -> None:
    log = filled(tmp_path, [True, False])
    for lane in Lane:
        for after in (2, 3, 10**15):
            reading = read(log, lane, after)
            assert (reading.entries, reading.gaps, reading.head) == ((), (), 2)
            assert reading.through == after
    log.close()


def test_an_empty_log_reads_as_empty(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for lane in Lane:
        reading = read(log, lane)
        assert (reading.entries, reading.gaps, reading.through, reading.head) == ((), (), 0, 0)
    log.close()


def test_bare_entries_are_only_the_urgent_ones_that_went_ahead(tmp_path: Path) -> None:
    log = filled(tmp_path, [True, False, True, False, True])
    reading = read(log, Lane.MAIN, bare_through=3)
    assert [entry.seq for entry in reading.entries if entry.body is None] == [1, 3]
    assert all(len(entry.chain) == 16 for entry in reading.entries)
    log.close()


def test_a_reading_of_many_slices_is_whole_while_the_log_grows(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    count = 3 * SLICE_ROWS
    log.append([alarm(n) if n % 50 == 0 else item(n) for n in range(1, count + 1)])
    slices = 0

    def disturb() -> None:
        nonlocal slices
        slices += 1
        log.append([item(count + slices)])  # what arrives between slices
        copy_states(log)
        log.trim(slices)  # and what is trimmed behind the reading

    reading = read(log, Lane.MAIN, between=disturb)
    assert slices >= 3
    check_chain(log.head.log_id, reading)
    assert reading.through == log.head.head
    log.close()


def test_large_bodies_are_read_slice_by_slice(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.append([item(n, text="x" * 50_000) for n in range(40)])
    reading = read(log, Lane.MAIN)
    check_chain(log.head.log_id, reading)
    assert len(reading.entries) == 40
    log.close()


def test_a_reading_with_many_gaps_is_given_in_parts(tmp_path: Path) -> None:
    log = open_log(tmp_path, 16 * 1024 * 1024)
    count = 6 * GAPS_MAX
    log.append([item(n, kind="alarm" if n % 2 else "measurement") for n in range(1, count + 1)])
    copy_states(log)
    while not log.evict(held=0, urgent=False).exhausted:
        pass
    after, most, chain, parts = 0, 0, genesis(log.head.log_id), 0
    while after < log.head.head:
        reading = read(log, Lane.MAIN, after)
        check_chain(log.head.log_id, reading, after, chain)
        most = max(most, len(reading.gaps))
        ends = [(gap.last, gap.chain) for gap in reading.gaps]
        ends += [(entry.seq, entry.chain) for entry in reading.entries]
        after, chain = max(ends)
        parts += 1
    assert parts >= 3
    assert GAPS_MAX <= most <= GAPS_MAX + SLICE_ROWS
    log.close()


@settings(max_examples=20)
@given(urgent=st.lists(st.booleans(), min_size=1, max_size=40), after=st.integers(0, 20))
def test_an_sqlite_that_joins_text_alone_gives_the_same(urgent: list[bool], after: int) -> None:
    with TemporaryDirectory() as folder:
        log = filled(Path(folder), urgent)
        joining = LogReader(log.connection, lambda: log.head.head, joins=True)
        digits = LogReader(log.connection, lambda: log.head.head, joins=False)
        for lane in Lane:
            for bare_through in (0, len(urgent) // 2, len(urgent)):
                read_one, read_other = (
                    finished(reader.read(lane, after, limit_bytes=5000, bare_through=bare_through))
                    for reader in (joining, digits)
                )
                assert read_one == read_other
                bodies = [entry.body for entry in read_one.entries]
                assert (None in bodies) == (lane is Lane.MAIN and any(urgent[after:bare_through]))
        log.close()
