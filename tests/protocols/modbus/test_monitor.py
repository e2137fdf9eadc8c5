"""The bus monitor: recorded frames field by field, pairs of request and answer, refusals."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import UsageError
from protocols.modbus import rtu, tcp
from protocols.modbus.exchange import read, write_coil
from protocols.modbus.monitor import decode
from tests.protocols.modbus.vectors import load, request_of

VECTORS = [(vector, name == "tcp") for name in ("rtu", "tcp") for vector in load(name)]


def run(
    data: bytes, request: bytes | None = None, *, over_tcp: bool = False
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    lines = list(decode(data, request, tcp=over_tcp))
    assert [list(line) for line in lines] == [["frame"]] * (len(lines) - 1) + [["counts"]]
    return [line["frame"] for line in lines[:-1]], lines[-1]["counts"]


@pytest.mark.parametrize(("vector", "over_tcp"), VECTORS, ids=lambda value: str(value)[10:50])
def test_recorded_frames_come_out_field_by_field(vector: dict[str, Any], over_tcp: bool) -> None:
    data = bytes.fromhex(vector["hex"])
    frames, counts = run(data, request_of(vector), over_tcp=over_tcp)
    if vector["expect"] is None:
        assert frames == []
        assert counts == {"frames": 0, "rejected": 1, "discarded_bytes": len(data)}
        return
    (frame,) = frames
    assert vector["expect"].items() <= frame.items()
    extra = set(frame) - set(vector["expect"])
    assert not extra or (
        "direction" not in vector["expect"]
        and extra
        <= {
            "direction",
            "byte_count",
        }
    )
    assert counts == {
        "frames": 1,
        "rejected": 0,
        "discarded_bytes": vector["expect"].get("skip", 0),
    }


def test_a_frame_that_fits_both_directions_is_an_answer_only_behind_its_request() -> None:
    switch = rtu.frame(1, write_coil(1, 172, True).pdu)
    assert [frame["direction"] for frame in run(switch)[0]] == ["request"]
    assert [frame["direction"] for frame in run(switch * 4)[0]] == ["request", "response"] * 2
    other = rtu.frame(2, write_coil(2, 172, True).pdu)
    assert [frame["direction"] for frame in run(switch + other)[0]] == ["request", "request"]
    assert [frame["direction"] for frame in run(switch, switch)[0]] == ["response"]


def test_a_read_that_looks_like_its_answer_is_told_apart_by_what_is_possible() -> None:
    answer = rtu.frame(1, bytes.fromhex("0103cd6b05"))
    (frame,) = run(answer)[0]
    assert (frame["direction"], frame["byte_count"]) == ("response", 3)


def test_a_local_echo_is_two_frames_to_a_monitor_and_one_to_the_judge_of_an_answer() -> None:
    request = rtu.frame(1, read(1, 4, 0, 2).pdu)
    answer = bytes.fromhex("01040400fbff38ca57")
    assert [frame["direction"] for frame in run(request + answer)[0]] == ["request", "response"]
    (frame,) = run(request + answer, request)[0]
    assert (frame["direction"], frame["echo_skipped"]) == ("response", 8)


def test_over_tcp_requests_and_answers_are_paired_by_their_number() -> None:
    pdu = write_coil(1, 0, True).pdu
    data = b"".join(tcp.frame(number, 1, pdu) for number in (1, 2, 2, 1, 1))
    directions = [frame["direction"] for frame in run(data, over_tcp=True)[0]]
    assert directions == ["request", "request", "response", "response", "request"]


def test_over_tcp_an_answer_must_carry_the_number_of_its_request() -> None:
    request = tcp.frame(7, 1, read(1, 3, 0, 1).pdu)
    good = tcp.frame(7, 1, bytes.fromhex("0302abcd"))
    for wrong in (
        tcp.frame(8, 1, bytes.fromhex("0302abcd")),
        tcp.frame(7, 2, bytes.fromhex("0302abcd")),
        tcp.frame(7, 1, bytes.fromhex("0304abcdabcd")),
    ):
        assert run(wrong, request, over_tcp=True) == (
            [],
            {"frames": 0, "rejected": 1, "discarded_bytes": len(wrong)},
        )
        frames, counts = run(wrong + good, request, over_tcp=True)
        assert [frame["transaction"] for frame in frames] == [7]
        assert counts["rejected"] == 1


def test_an_undefined_function_code_is_shown_with_its_data() -> None:
    (frame,) = run(rtu.frame(9, bytes.fromhex("41cafe")))[0]
    assert frame == {"direction": "request", "unit": 9, "fc": 65, "data": "cafe"}


@pytest.mark.parametrize("request_", [b"", b"\x01\x03", bytes.fromhex("01040400fbff38ca57")])
@pytest.mark.parametrize("over_tcp", [False, True])
def test_what_is_no_request_is_refused_with_a_hint(request_: bytes, over_tcp: bool) -> None:
    with pytest.raises(UsageError) as refusal:
        run(b"", request_, over_tcp=over_tcp)
    assert refusal.value.hint


@given(data=st.binary(max_size=600), over_tcp=st.booleans(), asked=st.booleans())
def test_no_bytes_raise_and_every_byte_is_counted(
    data: bytes, over_tcp: bool, asked: bool
) -> None:
    pdu = read(1, 3, 0, 1).pdu
    sent = tcp.frame(1, 1, pdu) if over_tcp else rtu.frame(1, pdu)
    frames, counts = run(data, sent if asked else None, over_tcp=over_tcp)
    assert counts["frames"] == len(frames)
    assert counts["discarded_bytes"] <= len(data)
    if not frames:
        assert counts["discarded_bytes"] == len(data)
