"""PDUs: the standard's examples, round trips, and the checks that pymodbus leaves to us."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU

from protocols.modbus import exchange
from protocols.modbus.codes import PDU_LENGTH_MAX
from protocols.modbus.pdu import (
    MORE,
    NEVER,
    Direction,
    Frame,
    bits_of,
    decode,
    pdu_length,
    words_of,
)
from tests.protocols.modbus.vectors import load

DIRECTED = [
    (vector, cut)
    for name, cut in (("rtu", (1, -2)), ("tcp", (7, None)))
    for vector in load(name)
    if vector["expect"] and "direction" in vector["expect"]
]

# Constructed from the field tables of the standard, one per function code beyond the recorded
# frames: function code, direction, PDU, what it says.
CONSTRUCTED: list[tuple[str, str, dict[str, Any]]] = [
    ("request", "0b", {"fc": 11}),
    ("response", "0bffff0108", {"fc": 11, "status": 65535, "event_count": 264}),
    (
        "response",
        "0c08000001080121 2000".replace(" ", ""),
        {
            "fc": 12,
            "byte_count": 8,
            "status": 0,
            "event_count": 264,
            "message_count": 289,
            "data": "2000",
        },
    ),
    ("response", "1103424dff", {"fc": 17, "byte_count": 3, "data": "424dff"}),
    ("request", "16000400f20025", {"fc": 22, "address": 4, "and_mask": 242, "or_mask": 37}),
    ("response", "16000400f20025", {"fc": 22, "address": 4, "and_mask": 242, "or_mask": 37}),
    (
        "request",
        "1700030006000e00030600ff00ff00ff",
        {
            "fc": 23,
            "read_address": 3,
            "read_count": 6,
            "write_address": 14,
            "write_count": 3,
            "byte_count": 6,
            "registers": [255, 255, 255],
        },
    ),
    ("response", "170400fe0acd", {"fc": 23, "byte_count": 4, "registers": [254, 2765]}),
    ("request", "1804de", {"fc": 24, "address": 1246}),
    (
        "response",
        "180006000201b81284",
        {"fc": 24, "byte_count": 6, "count": 2, "registers": [440, 4740]},
    ),
    ("request", "2b0e0100", {"fc": 43, "mei_type": 14, "read_code": 1, "object_id": 0}),
    (
        "response",
        "2b0e010100000100024142",
        {
            "fc": 43,
            "mei_type": 14,
            "read_code": 1,
            "conformity": 1,
            "more_follows": 0,
            "next_object_id": 0,
            "count": 1,
            "objects": {"00": "4142"},
        },
    ),
    ("response", "8003", {"fc": 128, "exception": 3}),
    ("request", "0502000007", {"fc": 5, "address": 512, "value": 7}),
    ("request", "0500000000", {"fc": 5, "address": 0, "value": False}),
    ("request", "41cafe", {"fc": 65, "data": "cafe"}),
]


@pytest.mark.parametrize(("vector", "cut"), DIRECTED, ids=lambda value: str(value)[:40])
def test_recorded_pdus_decode_field_by_field(
    vector: dict[str, Any], cut: tuple[int, int | None]
) -> None:
    raw = bytes.fromhex(vector["hex"])
    expect = {
        key: value
        for key, value in vector["expect"].items()
        if key not in {"transaction", "protocol", "length"}
    }
    frame = decode(
        raw[cut[0] : cut[1]], unit=expect["unit"], direction=Direction(expect["direction"])
    )
    assert frame is not None
    assert frame.plain() == expect


@pytest.mark.parametrize(("direction", "text", "expect"), CONSTRUCTED)
def test_every_function_code_has_its_fields(
    direction: str, text: str, expect: dict[str, Any]
) -> None:
    frame = decode(bytes.fromhex(text), unit=9, direction=Direction(direction))
    assert frame is not None
    assert frame.plain() == {"direction": direction, "unit": 9, **expect}


@pytest.mark.parametrize(("direction", "text", "expect"), CONSTRUCTED[:-1])
def test_the_length_follows_from_the_beginning(
    direction: str, text: str, expect: dict[str, Any]
) -> None:
    pdu = bytes.fromhex(text)
    assert pdu_length(pdu, Direction(direction)) == len(pdu)
    for cut in range(len(pdu)):
        assert pdu_length(pdu[:cut], Direction(direction)) in {MORE, len(pdu)}


@pytest.mark.parametrize(
    ("direction", "text", "why"),
    [
        ("response", "0304000a", "a byte count beyond the end"),
        ("response", "0303000a00", "half a register"),
        ("response", "0300", "nothing read"),
        ("response", "0100", "no bits"),
        ("request", "0300000000", "a count of zero"),
        ("request", "030000007e", "more than 125 registers"),
        ("request", "01000007d1", "more than 2000 bits"),
        ("request", "03ffff0002", "beyond the last register"),
        ("request", "0f0013000a01cd", "ten coils in one byte"),
        ("request", "100000000204000a", "two registers in two bytes"),
        ("request", "10000000010300000a", "one register in three bytes"),
        ("response", "1000000000", "no registers written"),
        ("request", "8302", "an exception from a master"),
        ("response", "83", "an exception without code"),
        ("response", "830200", "an exception with something behind it"),
        ("request", "00", "function code zero"),
        ("request", "", "nothing"),
        ("request", "0300000001ff", "something behind the end"),
    ],
)
def test_a_pdu_that_breaks_its_rules_is_no_frame(direction: str, text: str, why: str) -> None:
    assert decode(bytes.fromhex(text), unit=1, direction=Direction(direction)) is None, why


def test_pymodbus_itself_takes_what_these_checks_refuse() -> None:
    """If this fails, pymodbus has grown the checks, and ours may become simpler."""
    lenient = DecodePDU(is_server=True)
    assert lenient.decode(bytes.fromhex("0f0013000a01cd")) is not None
    assert lenient.decode(bytes.fromhex("100000000204000a")) is not None
    seven = lenient.decode(bytes.fromhex("0502000007"))
    assert seven is not None
    assert seven.bits == [True]


@given(pdu=st.binary(max_size=PDU_LENGTH_MAX + 20), direction=st.sampled_from(Direction))
def test_no_bytes_raise(pdu: bytes, direction: Direction) -> None:
    frame = decode(pdu, unit=1, direction=direction)
    assert frame is None or (frame.unit, frame.direction) == (1, direction)
    length = pdu_length(pdu, direction)
    assert length in {MORE, NEVER} or 1 <= length <= PDU_LENGTH_MAX


@given(
    code=st.sampled_from([*range(1, 25), 0x2B, 0x80, 0x81, 0x90]),
    rest=st.binary(max_size=40),
    direction=st.sampled_from(Direction),
)
def test_a_frame_takes_all_of_its_pdu(code: int, rest: bytes, direction: Direction) -> None:
    pdu = bytes((code,)) + rest
    frame = decode(pdu, unit=1, direction=direction)
    if frame is not None and frame.fc != 8 and pdu_length(pdu, direction) != NEVER:
        assert pdu_length(pdu, direction) == len(pdu)


@given(address=st.integers(0, 0xFF00), count=st.integers(1, 125), code=st.integers(1, 4))
def test_reads_survive_a_round_trip(address: int, count: int, code: int) -> None:
    request = exchange.read(17, code, address, count)
    assert decode(request.pdu, unit=17, direction=Direction.REQUEST) == Frame(
        direction=Direction.REQUEST, unit=17, fc=code, address=address, count=count
    )


@given(address=st.integers(0, 0xF000), bits=st.lists(st.booleans(), min_size=1, max_size=300))
def test_coils_survive_a_round_trip(address: int, bits: list[bool]) -> None:
    frame = decode(exchange.write_coils(3, address, bits).pdu, unit=3, direction=Direction.REQUEST)
    assert frame is not None
    assert (frame.address, frame.count, frame.bits) == (address, len(bits), tuple(bits))
    assert frame.byte_count == (len(bits) + 7) // 8


@given(
    address=st.integers(0, 0xFF00),
    words=st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=123),
)
def test_registers_survive_a_round_trip(address: int, words: list[int]) -> None:
    frame = decode(
        exchange.write_registers(3, address, words).pdu, unit=3, direction=Direction.REQUEST
    )
    assert frame is not None
    assert (frame.address, frame.count, frame.registers) == (address, len(words), tuple(words))
    assert words_of(tuple(words)) == b"".join(word.to_bytes(2, "big") for word in words)


def test_the_lowest_bit_of_a_byte_comes_first() -> None:
    assert bits_of(b"\x05\x80")[:3] == (True, False, True)
    assert bits_of(b"\x05\x80")[15] is True
