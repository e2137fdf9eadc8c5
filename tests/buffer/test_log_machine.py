"""Everything that can happen to a log, in any order, against a list."""

import shutil
from pathlib import Path
from tempfile import mkdtemp

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from buffer import schema
from buffer.entries import Pending
from buffer.log import FILE_NAME, EventLog
from buffer.memory import Memory
from buffer.notes import Notes
from events.errors import StoreFull
from events.model import Observation, condition
from events.replication import Lane
from tests.buffer.logs import MIB, check_chain, item, open_log, read

STATIONS = ("a" * 40, "b" * 40)


class LogMachine(RuleBasedStateMachine):
    """The log, killed and reopened at any time, holds what was acknowledged and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="log-machine-"))
        self.generation = 0
        self.log: EventLog
        self.memory: Memory
        self.model: list[Pending] = []
        self.trimmed = 0
        self.marks: dict[tuple[str, Lane], int] = {}
        self.states: dict[tuple[str, str, str, str], Observation] = {}
        self.raws: dict[str, bytes] = {}

    @initialize()
    def begin(self) -> None:
        self.log = open_log(self.place(), bound_bytes=4 * MIB)
        self.memory = self.log.memory()
        self.log_id = self.log.head.log_id

    def place(self) -> Path:
        return self.folder / str(self.generation)

    def accept(self, items: list[Pending], notes: list[Notes]) -> None:
        first = self.log.append(items, notes)
        assert first == len(self.model) + 1
        self.model += items
        for seq, each in enumerate(items, first):
            seen = each.record.observation
            self.memory.note(seq, seen, each.body)
            self.states[condition(seen)] = seen
            if seen.raw:
                self.raws[seen.source] = seen.raw

    @rule(
        kinds=st.lists(st.sampled_from(["alarm", "status", "measurement"]), max_size=80),
        size=st.sampled_from([0, 10, 700, 3000]),
        checkpoint=st.booleans(),
    )
    def append(self, kinds: list[str], size: int, checkpoint: bool) -> None:
        number = len(self.model)
        items = [
            item(number + n, kind=kind, text="x" * size, source=f"s{n % 3}", raw=b"r" * (n % 4))
            for n, kind in enumerate(kinds)
        ]
        notes = [Notes(checkpoint=self.memory.take_checkpoint())] if checkpoint else []
        self.accept(items, notes)

    @rule(station=st.sampled_from(STATIONS), lane=st.sampled_from(Lane), seq=st.integers(0, 500))
    def mark(self, station: str, lane: Lane, seq: int) -> None:
        self.marks[station, lane] = seq
        self.log.write_notes([Notes(marks=self.marks)])

    @rule(through=st.integers(0, 400))
    def trim(self, through: int) -> None:
        expected = max(0, min(through, len(self.model) - 1) - self.trimmed)
        # The copy of the states has to hold what goes: the store writes it at least so often.
        self.log.write_notes([Notes(checkpoint=self.memory.take_checkpoint())])
        assert self.log.trim(through) == expected
        self.trimmed += expected

    @rule()
    def fold(self) -> None:
        self.log.fold()

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.open_again()

    @rule()
    def kill(self) -> None:
        """Go on with the files as they are now, as a new process finds them."""
        before = self.place()
        self.generation += 1
        shutil.copytree(before, self.place())
        self.log.close()
        self.open_again()

    @rule(kinds=st.lists(st.sampled_from(["alarm", "status"]), min_size=1, max_size=30))
    def kill_before_the_commit(self, kinds: list[str]) -> None:
        """Nothing of a transaction that had not committed is there afterwards."""
        before = self.place()
        self.generation += 1
        self.log.connection.execute("BEGIN IMMEDIATE")
        row = (len(self.model) + 1, b"c" * 16, "status", "p", None, b"body" * 1000)
        self.log._rows.insert("routine_event", [row])
        schema.pragma(self.log.connection, "cache_spill = 1")
        shutil.copytree(before, self.place())
        self.log.connection.execute("ROLLBACK")
        self.log.close()
        self.open_again()

    @rule()
    def disk_full(self) -> None:
        limit = self.log._rows.page_count()
        schema.pragma(self.log.connection, f"max_page_count = {limit}")
        refused = [item(n, text="y" * 4000) for n in range(60)]
        try:
            self.log.append(refused)
        except StoreFull:
            pass
        else:  # enough free pages inside the file
            self.model += refused
            for seq, each in enumerate(refused, len(self.model) - len(refused) + 1):
                self.memory.note(seq, each.record.observation, each.body)
                self.states[condition(each.record.observation)] = each.record.observation
        file_limit = self.log.bound.file_bytes // schema.PAGE_BYTES
        schema.pragma(self.log.connection, f"max_page_count = {file_limit}")

    @precondition(lambda self: len(self.model) > 3)
    @rule(data=st.data())
    def read_from_anywhere(self, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, len(self.model)))
        limit = data.draw(st.sampled_from([1, 500, 5000, 1 << 20]))
        reading = read(self.log, Lane.MAIN, after, limit_bytes=limit)
        for entry in reading.entries:
            assert entry.body == self.model[entry.seq - 1].body
        assert len(reading.entries) + sum(g.last - g.first + 1 for g in reading.gaps) == (
            reading.through - after
        )
        assert reading.entries or reading.gaps or after == len(self.model)
        urgent = read(self.log, Lane.URGENT, after, limit_bytes=limit)
        assert [entry.seq for entry in urgent.entries] == [
            seq
            for seq in range(max(after, self.trimmed) + 1, urgent.through + 1)
            if self.model[seq - 1].record.urgent
        ]

    @invariant()
    def holds_what_was_acknowledged(self) -> None:
        head = self.log.head
        assert (head.log_id, head.head) == (self.log_id, len(self.model))
        assert head.first == self.trimmed + 1

    def open_again(self) -> None:
        self.log = open_log(self.place(), bound_bytes=4 * MIB)
        self.holds_what_was_acknowledged()
        reading = read(self.log, Lane.MAIN)
        check_chain(self.log_id, reading)
        assert [e.body for e in reading.entries] == [
            each.body for each in self.model[self.trimmed :]
        ]
        assert self.log.marks() == self.marks
        self.memory = self.log.memory()
        for key, seen in self.states.items():
            assert self.memory.latest(*key) == seen
        for source, raw in self.raws.items():
            assert self.memory.last_raw(source) == raw

    def teardown(self) -> None:
        self.log.close()
        assert (self.place() / FILE_NAME).exists()
        shutil.rmtree(self.folder)


LogMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestLog = LogMachine.TestCase
