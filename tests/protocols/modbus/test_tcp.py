"""Modbus TCP on the wire: framing by length, and headers that end a connection."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus.tcp import Reader, frame
from tests.protocols.modbus.test_rtu import pieces

frames = st.builds(
    frame, st.integers(0, 0xFFFF), st.integers(0, 255), st.binary(min_size=1, max_size=253)
)


@given(sent=st.lists(frames, max_size=5), cuts=st.lists(st.integers(0, 1500), max_size=10))
def test_frames_are_cut_the_same_whatever_the_split(sent: list[bytes], cuts: list[int]) -> None:
    reader = Reader()
    data = b"".join(sent)
    found = [adu for part in pieces(data, cuts) for adu in reader.receive(part)]
    assert [adu.raw for adu in found] == sent
    assert [frame(adu.transaction, adu.unit, adu.pdu) for adu in found] == sent
    assert not reader.broken
    assert reader.flush() == 0


@pytest.mark.parametrize(
    "header",
    ["00010000000001", "00010000000101", "0001000000ff01", "00010001000601", "00010000ffff"],
)
def test_a_header_that_cannot_be_one_ends_the_connection(header: str) -> None:
    reader = Reader()
    good = frame(7, 1, b"\x03\x00\x00\x00\x01")
    bad = bytes.fromhex(header)
    assert [adu.raw for adu in reader.receive(good + bad)] == [good]
    assert reader.broken
    assert reader.receive(good) == [], "there is no way back to the beginning of a frame"
    assert reader.discarded == len(bad) + len(good)


@given(data=st.binary(max_size=2000))
def test_no_bytes_raise_and_all_are_accounted_for(data: bytes) -> None:
    reader = Reader()
    taken = sum(len(adu.raw) for adu in reader.receive(data))
    reader.flush()
    assert taken + reader.discarded == len(data)
