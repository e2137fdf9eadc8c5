from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.settings import read
from events.toml_lines import Lines, written


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    address: Annotated[int, msgspec.Meta(ge=0)]
    pull: Literal["up", "down"] = "up"


class Port(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str
    baud: int = 9600


class Bus(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    port: Port | None = None
    point: tuple[Point, ...] = ()


class Whole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    bus: tuple[Bus, ...] = ()


GOOD = """
name = "hall"
[[bus]]
id = "b"
port = { path = "/dev/x" }
[[bus.point]]
id = "p"
address = 1
"""

FAULTY = '''\
nam = "a"
text = """
[[bus]]
"""
[[bus]]
id = 3  # wrong type
port = { path = "/dev/x", baud = "fast", bogus = 1 }
[[bus.point]]
id = "p"
address = -1
pull = "sideways"
[[bus]]
id = "v"
point = [
  { id = "q", address = 1 },
  { id = "r", adress = 2 },
]
'''


def test_a_good_text_gives_the_struct() -> None:
    settings = read(GOOD, Whole)
    assert settings.faults == []
    assert settings.value == Whole(
        name="hall",
        bus=(Bus(id="b", port=Port(path="/dev/x"), point=(Point(id="p", address=1),)),),
    )


def test_every_fault_is_named_at_once_with_its_line() -> None:
    settings = read(FAULTY, Whole)
    assert settings.value is None
    assert [(fault.line, fault.path) for fault in settings.faults] == [
        (1, "nam"),
        (2, "text"),
        (6, "bus[0].id"),
        (7, "bus[0].port.baud"),
        (7, "bus[0].port.bogus"),
        (10, "bus[0].point[0].address"),
        (11, "bus[0].point[0].pull"),
        (16, "bus[1].point[1].adress"),
        (16, "bus[1].point[1]"),
        (0, "$"),
    ]
    texts = [str(fault) for fault in settings.faults]
    assert "did you mean 'name'" in texts[0]
    assert "found 3" in texts[2]
    assert "'name' is missing" in texts[-1]


@pytest.mark.parametrize(
    ("text", "line"), [("a = ", 1), ("a = 1\nb = [1,\n", 3), ("\n\n[x\n", 3), ("a=1\na=2\n", 2)]
)
def test_broken_toml_is_a_fault_with_a_line(text: str, line: int) -> None:
    settings = read(text, Whole)
    assert settings.value is None
    assert [fault.line for fault in settings.faults] in ([line], [line - 1], [0])
    assert "not TOML" in settings.faults[0].message


def test_what_editors_and_machines_put_into_a_file_is_named() -> None:
    (mark,) = read("\ufeff" + GOOD, Whole).faults
    assert (mark.line, "byte order mark" in mark.message) == (1, True)
    (digits,) = read(GOOD.replace("address = 1", "address = " + "9" * 5000), Whole).faults
    assert (digits.line, "not TOML" in digits.message) == (8, True)


def test_depth_and_number_of_faults_are_bounded() -> None:
    for depth in (10, 100, 300, 5000):
        assert read("a = " + "[" * depth + "]" * depth, Whole).value is None
    many = "name = 'x'\n" + "\n".join(f"unknown-{i} = 1" for i in range(1000))
    assert len(read(many, Whole).faults) <= 201


@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    settings = read(text, Whole)
    assert (settings.value is None) == bool(settings.faults)


@given(st.data())
def test_no_damage_to_a_good_file_raises(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOOD)))
    length = data.draw(st.integers(0, 5))
    text = GOOD[:at] + data.draw(st.text(max_size=5)) + GOOD[at + length :]
    settings = read(text, Whole)
    assert (settings.value is None) == bool(settings.faults)


def test_lines_of_dotted_and_quoted_keys() -> None:
    lines = Lines('[a."b c"]\nd.e = 1\n[[f]]\n[f.g]\nh = 1\n[[f]]\n[[f.g2]]\ni = 1\n')
    assert lines.of(("a", "b c")) == 1
    assert lines.of(("a", "b c", "d", "e")) == 2
    assert lines.of(("f", 0, "g", "h")) == 5
    assert lines.of(("f", 1, "g2", 0, "i")) == 8
    assert lines.of(("f", 1, "nothing")) == 6
    assert lines.of(("nowhere",)) == 0


def test_paths_are_written_as_read() -> None:
    assert written(("bus", 0, "unit", 2, "address")) == "bus[0].unit[2].address"
    assert written(()) == "$"
