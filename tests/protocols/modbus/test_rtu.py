"""RTU on the wire: any split says the same, noise is skipped, echoes are told from answers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.modbus import exchange, rtu
from protocols.modbus.exchange import Request
from protocols.modbus.pdu import Direction
from protocols.modbus.rtu import BUFFER_LENGTH_MAX, Answer, AnswerReader, Scanner
from protocols.modbus.simulated import SimulatedUnit

UNIT = SimulatedUnit(
    unit=5,
    coils=[True, False] * 20,
    discrete_inputs=[False, True, True] * 20,
    holding_registers=list(range(1000, 1040)),
    input_registers=list(range(2000, 2040)),
)

requests = st.one_of(
    st.builds(
        exchange.read,
        st.just(5),
        st.integers(1, 4),
        st.integers(0, 7),
        st.integers(1, 32),
    ),
    st.builds(exchange.write_coil, st.just(5), st.integers(0, 39), st.booleans()),
    st.builds(exchange.write_register, st.just(5), st.integers(0, 39), st.integers(0, 0xFFFF)),
    st.builds(
        exchange.write_registers,
        st.just(5),
        st.integers(0, 7),
        st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=30),
    ),
)
# Noise that cannot be the beginning of anything: unit addresses beyond those of a serial line.
noise = st.lists(st.integers(248, 255), max_size=20).map(bytes)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def answer_to(request: Request) -> bytes:
    return rtu.frame(5, UNIT.answer(request.pdu))


def scan(parts: list[bytes], directions: tuple[Direction, ...] = rtu.BOTH) -> tuple[object, ...]:
    scanner = Scanner(directions)
    found = [adu for part in parts for adu in scanner.receive(part)]
    found += scanner.flush()
    return found, scanner.discarded, scanner.rejected


def read_answer(
    request: Request, parts: list[bytes], echoes: bool | None = None
) -> tuple[Answer | None, int]:
    reader = AnswerReader()
    reader.echoes = echoes
    reader.expect(request, rtu.frame(request.unit, request.pdu))
    found = [answer for part in parts if (answer := reader.receive(part)) is not None]
    assert len(found) <= 1
    if not found:
        reader.give_up()
    return (found[0] if found else None), reader.discarded


def test_a_frame_is_the_one_that_every_other_program_builds() -> None:
    assert rtu.frame(1, bytes.fromhex("03006b0003")).hex() == "0103006b00037417"
    assert rtu.crc_fits(bytes.fromhex("0103006b00037417"))
    assert not rtu.crc_fits(bytes.fromhex("0103006b00037416"))


@given(
    data=st.lists(st.one_of(st.binary(max_size=30), requests.map(answer_to)), max_size=6).map(
        b"".join
    ),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_the_scanner_finds_the_same_whatever_the_split(data: bytes, cuts: list[int]) -> None:
    whole = scan([data])
    assert scan(pieces(data, cuts)) == whole
    assert scan([bytes((byte,)) for byte in data]) == whole


@given(
    before=noise, between=noise, after=noise, first=requests, second=requests, code=st.booleans()
)
def test_frames_are_found_between_noise(
    before: bytes, between: bytes, after: bytes, first: Request, second: Request, code: bool
) -> None:
    frames = [
        rtu.frame(5, first.pdu),
        answer_to(first),
        rtu.frame(5, second.pdu),
        answer_to(second),
    ]
    data = before + between.join(frames) + after
    scanner = Scanner()
    found = scanner.receive(data) + scanner.flush()
    assert [adu.raw for adu in found] == frames
    assert [adu.skipped for adu in found] == [len(before), *[len(between)] * 3]
    assert scanner.discarded == len(before) + 3 * len(between) + len(after)
    runs = [len(before), *[len(between)] * 3, len(after)]
    assert scanner.rejected == sum(length >= 4 for length in runs)


@given(request=requests, cut=st.integers(1, 200))
def test_a_truncated_frame_costs_no_frame_behind_it(request: Request, cut: int) -> None:
    whole = answer_to(request)
    stump = whole[: cut % len(whole)]
    scanner = Scanner((Direction.RESPONSE,))
    good = rtu.frame(5, bytes.fromhex("0402abcd"))
    found = scanner.receive(stump + good) + scanner.flush()
    assert found[-1].raw == good or (found == [] and not stump)


@given(request=requests, before=noise, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_the_answer_is_read_whatever_the_split_and_the_glitch_before_it(
    request: Request, before: bytes, cuts: list[int]
) -> None:
    data = before + answer_to(request) + b"\xff\xff"
    whole, discarded = read_answer(request, [data], echoes=False)
    assert whole is not None
    assert (whole.raw, whole.skipped) == (answer_to(request), len(before))
    assert read_answer(request, pieces(data, cuts), echoes=False) == (whole, discarded)


@given(request=requests, cuts=st.lists(st.integers(0, 400), max_size=8), glitch=noise)
def test_a_local_echo_is_dropped_and_only_a_local_echo(
    request: Request, cuts: list[int], glitch: bytes
) -> None:
    sent = rtu.frame(5, request.pdu)
    data = glitch[:8] + sent + answer_to(request)
    answer, _ = read_answer(request, pieces(data, cuts), echoes=True)
    assert answer is not None
    assert (answer.raw, answer.echo_skipped) == (answer_to(request), len(sent))
    alone, _ = read_answer(request, pieces(sent, cuts), echoes=True)
    assert alone is None, "an echo alone is no answer"


def test_the_reader_learns_from_reads_whether_the_line_echoes() -> None:
    reader = AnswerReader()
    poll, switch = exchange.read(5, 3, 0, 1), exchange.write_coil(5, 0, True)
    sent = rtu.frame(5, poll.pdu)
    reader.expect(poll, sent)
    assert reader.receive(sent + answer_to(poll)) is not None
    assert [reader.echoes] == [True]
    reader.expect(switch, rtu.frame(5, switch.pdu))
    assert reader.receive(rtu.frame(5, switch.pdu)) is None, "our own words are no confirmation"
    assert not reader.doubtful
    assert reader.receive(answer_to(switch)) is not None
    reader.forget_line()
    reader.expect(poll, sent)
    assert reader.receive(answer_to(poll)) is not None
    assert [reader.echoes] == [False]
    reader.expect(switch, rtu.frame(5, switch.pdu))
    assert reader.receive(answer_to(switch)) is not None


def test_an_identical_frame_on_an_unknown_line_stays_in_doubt() -> None:
    reader = AnswerReader()
    switch = exchange.write_coil(5, 0, True)
    reader.expect(switch, rtu.frame(5, switch.pdu))
    assert reader.receive(answer_to(switch)) is None
    assert reader.doubtful


def test_an_echo_that_could_pass_for_the_answer_is_still_an_echo() -> None:
    """Reading 17 to 24 coils from 0x03nn: the request has the form of its own answer."""
    request = exchange.read(5, 1, 0x03CD, 19)
    sent = rtu.frame(5, request.pdu)
    reader = AnswerReader()
    reader.echoes = True
    reader.expect(request, sent)
    assert reader.receive(sent) is None
    answer = reader.receive(rtu.frame(5, bytes.fromhex("0103aabb05")))
    assert answer is not None
    assert answer.raw[3:5] == b"\xaa\xbb"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("02040400fbff38f957", "another unit"),
        ("010302000a3843", "another function"),
        ("01040200fbf8b3", "another byte count"),
        ("01040400fbff", "truncated"),
        ("01040400fbff38ca58", "a wrong CRC"),
        ("018302c0f1", "the exception of another function"),
    ],
)
def test_what_is_no_answer_is_not_taken_and_does_not_hide_the_answer(data: str, why: str) -> None:
    request = exchange.read(1, 4, 0, 2)
    good = bytes.fromhex("01040400fbff38ca57")
    wrong = bytes.fromhex(data)
    assert read_answer(request, [wrong])[0] is None, why
    answer, _ = read_answer(request, [wrong, good])
    assert answer is not None, why
    assert (answer.raw, answer.skipped) == (good, len(wrong))


def test_a_flood_is_bounded_and_the_answer_behind_it_is_found() -> None:
    request = exchange.read(1, 4, 0, 2)
    reader = AnswerReader()
    reader.expect(request, rtu.frame(1, request.pdu))
    for _ in range(200):
        assert reader.receive(b"\x01\x04" * 256) is None
        assert reader.pending() <= BUFFER_LENGTH_MAX
    answer = reader.receive(bytes.fromhex("01040400fbff38ca57"))
    assert answer is not None
    assert reader.discarded == 200 * 512


@given(data=st.binary(max_size=600), request=requests)
def test_random_bytes_are_no_answer(data: bytes, request: Request) -> None:
    answer, discarded = read_answer(request, [data])
    assert answer is None
    assert discarded == len(data)
