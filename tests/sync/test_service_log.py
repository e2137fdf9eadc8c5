import os

import pytest
import structlog

from sync import service_log
from sync.service_log import REPEAT_WINDOW_S, REPEATS_MAX, Line, Repeats


class Pen:
    """Writes lines through `Repeats` at times of our choosing."""

    def __init__(self) -> None:
        self.now = 0.0
        self.repeats = Repeats(lambda: self.now)

    def write(self, event: str, **values: object) -> Line | None:
        try:
            return self.repeats(None, "warning", {"event": event, **values})
        except structlog.DropEvent:
            return None


def test_a_repeated_line_is_said_once_then_counted() -> None:
    pen = Pen()
    assert pen.write("line lost", line="b", error="x") is not None
    for _ in range(7):
        assert pen.write("line lost", line="b", error="x") is None
    pen.now += REPEAT_WINDOW_S
    line = pen.write("line lost", line="b", error="x")
    assert line is not None
    assert line["repeated"] == 7
    pen.now += REPEAT_WINDOW_S
    line = pen.write("line lost", line="b", error="x")
    assert line is not None
    assert "repeated" not in line


def test_another_line_is_no_repeat() -> None:
    pen = Pen()
    assert pen.write("line lost", line="b", error="x")
    assert pen.write("line lost", line="c", error="x")
    assert pen.write("line lost", line="b", error="y")


def test_what_is_remembered_is_bounded() -> None:
    pen = Pen()
    for number in range(REPEATS_MAX * 3):
        pen.write(f"event {number}")
    assert len(pen.repeats._said) <= REPEATS_MAX


def test_a_reader_that_left_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bytes] = []

    def broken(_: int, data: bytes) -> int:
        tried.append(data)
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", broken)
    service_log._StandardError().msg("hello")
    assert tried == [b"hello\n"]
