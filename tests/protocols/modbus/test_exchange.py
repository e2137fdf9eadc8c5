"""Requests, and what is and is not taken as their answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import LocalProtocolError
from protocols.modbus.exchange import (
    Request,
    judge,
    parse_request,
    read,
    write_coil,
    write_coils,
    write_register,
    write_registers,
)
from protocols.modbus.simulated import SimulatedUnit

REQUESTS = [
    read(1, 1, 0, 9),
    read(1, 2, 3, 8),
    read(1, 3, 0, 2),
    read(1, 4, 1, 4),
    write_coil(1, 2, True),
    write_register(1, 3, 1234),
    write_coils(1, 0, [True, False, True]),
    write_registers(1, 4, [1, 2]),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"function {request.fc}")
def test_a_well_behaved_unit_satisfies_its_request_and_no_other(request_: Request) -> None:
    answer = SimulatedUnit(unit=1).answer(request_.pdu)
    assert judge(request_, 1, answer) is not None
    assert judge(request_, 2, answer) is None, "another unit"
    assert judge(request_, 1, answer + b"\x00") is None, "too long"
    assert judge(request_, 1, answer[:-1]) is None, "too short"
    assert judge(request_, 1, bytes((answer[0] + 1,)) + answer[1:]) is None, "another function"
    others = [other for other in REQUESTS if other is not request_]
    assert [other for other in others if judge(other, 1, answer)] == []


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"function {request.fc}")
def test_only_its_own_exception_answers_a_request(request_: Request) -> None:
    own = judge(request_, 1, bytes((request_.fc | 0x80, 2)))
    assert own is not None
    assert own.exception == 2
    assert judge(request_, 1, bytes((request_.fc % 4 + 0x81, 2))) is None or request_.fc > 4
    assert judge(request_, 1, b"\x80\x03") is None
    quirk = judge(request_, 1, b"\x80\x03", any_exception=True)
    assert quirk is not None
    assert (quirk.fc, quirk.exception) == (0x80, 3)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: f"function {request.fc}")
def test_a_captured_request_judges_like_the_one_we_sent(request_: Request) -> None:
    assert parse_request(1, request_.pdu) == request_


@given(address=st.integers(0, 100), count=st.integers(1, 16), other=st.integers(1, 16))
def test_a_byte_count_that_was_not_asked_for_is_refused(
    address: int, count: int, other: int
) -> None:
    answer = SimulatedUnit(unit=1, input_registers=[7] * 200).answer(
        read(1, 4, address, other).pdu
    )
    assert (judge(read(1, 4, address, count), 1, answer) is not None) == (count == other)


@pytest.mark.parametrize(
    "impossible",
    [
        lambda: read(1, 3, 0, 126),
        lambda: read(1, 1, 0, 2001),
        lambda: read(1, 3, 0xFFFF, 2),
        lambda: read(1, 3, 0, 0),
        lambda: read(1, 5, 0, 1),
        lambda: write_register(1, 0, 0x10000),
        lambda: write_register(1, -1, 0),
        lambda: write_coils(1, 0, [True] * 1969),
        lambda: write_registers(1, 0, [0] * 124),
        lambda: write_registers(1, 0, []),
    ],
)
def test_what_the_standard_does_not_allow_is_not_sent(impossible: object) -> None:
    assert callable(impossible)
    with pytest.raises(LocalProtocolError):
        impossible()


def test_bytes_that_are_no_request_judge_nothing() -> None:
    assert parse_request(1, bytes.fromhex("8302")) is None
    assert parse_request(1, b"") is None
    assert parse_request(1, b"\x41\x00") is None
