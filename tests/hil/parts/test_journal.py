from pathlib import Path

import msgspec
import pytest

from hil.parts import journal as journal_module
from hil.parts.journal import Entry, Journal


def test_entries_are_on_disk_as_they_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "panel.jsonl"
    with Journal("panel", path) as journal:
        journal.note("sent", point="flat-1", text="181131", at_s=1.0)
        journal.note("acknowledged", point="flat-1", accepted=True)
        on_disk = [
            msgspec.json.decode(line, type=Entry) for line in path.read_bytes().splitlines()
        ]
        assert on_disk == journal.entries
    assert on_disk[0].at_s == 1.0
    assert on_disk[1].at_s > 1.0


def test_entries_are_found_by_event_and_point() -> None:
    journal = Journal("board")
    heard: list[Entry] = []
    journal.listen(heard.append)
    journal.note("level", point="a", on=True)
    journal.note("level", point="b", on=True)
    journal.note("joined")
    assert [entry.point for entry in journal.of("level")] == ["a", "b"]
    assert [entry.event for entry in journal.of("level", "joined")] == ["level", "level", "joined"]
    assert len(journal.of("level", point="a")) == 1
    assert heard == journal.entries


def test_a_runaway_device_does_not_eat_the_bench(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "ENTRIES_MAX", 2)
    journal = Journal("board")
    journal.note("a")
    journal.note("b")
    with pytest.raises(OverflowError, match="board"):
        journal.note("c")
