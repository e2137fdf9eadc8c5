"""Register maps: types, word orders, scale, and numbers that are none."""

import math
import struct
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus.map import number, read_point, registers_of
from protocols.modbus.sections import Point, Type, WordOrder
from tests.protocols.modbus.world import contact

NUMBERS = {
    "int16": st.integers(-(2**15), 2**15 - 1),
    "uint16": st.integers(0, 2**16 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "uint32": st.integers(0, 2**32 - 1),
    "float32": st.floats(width=32, allow_nan=False),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "float64": st.floats(allow_nan=False),
}


def holding(**changes: Any) -> Point:
    return contact(table="holding", kind="measurement", **changes)


@pytest.mark.parametrize(
    ("order", "letters", "registers"),
    [
        ("big", "ABCD", (0x4248, 0xF5C3)),
        ("word-swapped", "CDAB", (0xF5C3, 0x4248)),
        ("byte-swapped", "BADC", (0x4842, 0xC3F5)),
        ("little", "DCBA", (0xC3F5, 0x4842)),
    ],
)
def test_word_orders_are_those_that_manuals_print(
    order: WordOrder, letters: WordOrder, registers: tuple[int, int]
) -> None:
    expected = struct.unpack(">f", b"\x42\x48\xf5\xc3")[0]  # 50.24
    assert number(registers, "float32", order) == expected
    assert number(registers, "float32", letters) == expected


@pytest.mark.parametrize("type_name", NUMBERS)
@pytest.mark.parametrize("order", get_args(WordOrder))
@given(data=st.data())
def test_numbers_survive_a_round_trip(data: Any, type_name: str, order: WordOrder) -> None:
    value = data.draw(NUMBERS[type_name])
    registers = registers_of(value, type_name, order)
    assert number(registers, type_name, order) == value
    assert len(registers) == holding(type=type_name).span


def test_every_type_is_tested() -> None:
    assert {*NUMBERS, "bool"} == set(get_args(Type))


@pytest.mark.parametrize(
    ("registers", "changes", "value", "raw"),
    [
        ((251,), {"scale": 0.1}, 25.1, 251),
        ((65336,), {"type": "int16", "scale": 0.1}, -20.0, -200),
        ((65336,), {}, 65336, 65336),
        ((300,), {"offset": -273.15}, 26.85, 300),
        ((0x41BC, 0xCCCD), {"type": "float32"}, 23.6, struct.unpack(">f", b"\x41\xbc\xcc\xcd")[0]),
        ((0b1000,), {"bit": 3}, True, 8),
        ((0b1000,), {"bit": 2}, False, 8),
        ((0x0800,), {"bit": 3, "word_order": "byte-swapped"}, True, 8),
        ((2,), {"type": "bool"}, True, 2),
        ((0,), {"type": "bool"}, False, 0),
    ],
)
def test_values_are_scaled_and_keep_their_raw_number(
    registers: tuple[int, ...], changes: dict[str, Any], value: Any, raw: Any
) -> None:
    reading = read_point(holding(**changes), registers)
    assert (reading.value, reading.raw) == (value, raw)
    assert type(reading.value) is type(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_no_value(value: float) -> None:
    registers = registers_of(value, "float32", "big")
    reading = read_point(holding(type="float32"), registers)
    assert reading.value is None
    assert reading.raw == str(value)


def test_a_scale_that_overflows_gives_no_value() -> None:
    registers = registers_of(1e308, "float64", "big")
    assert read_point(holding(type="float64", scale=1e10), registers).value is None


def test_bits_of_bit_tables_are_levels() -> None:
    assert read_point(contact(), (True,)).value is True
    assert read_point(contact(table="coil"), (False,)).value is False
