"""Bytes from a stranger: a message, or a refusal; never anything else."""

import contextlib
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from events.chain import CHAIN_LENGTH
from events.commands import (
    Challenge,
    ChallengeOffer,
    ChallengeRequest,
    Command,
    Inquiry,
    Outcome,
    Verdict,
)
from events.errors import SyncError
from events.model import ClockQuality, Instant, Stamp
from events.replication import (
    MESSAGE_LENGTH_MAX,
    Batch,
    Entry,
    Fetch,
    Gap,
    Hello,
    Lane,
    LogHead,
    Message,
    Refused,
    Welcome,
)
from sync import messages
from sync.messages import MalformedMessage, VersionMismatch, decode, encode

CHAIN = bytes(range(CHAIN_LENGTH))
STAMP = Stamp(monotonic_us=5, boot_id="boot")
HELLO = Hello(
    protocol_min=1,
    protocol_max=1,
    program="0.1",
    name="gw",
    boot_id="boot",
    lane=Lane.URGENT,
    path="lan",
    logs=(LogHead(log_id="a", first=1, head=2, chain=CHAIN),),
    stamp=STAMP,
)
FETCH = Fetch(id=1, lane=Lane.MAIN, log_id="a", after=3, stored=2, limit_bytes=4096)
BATCH = Batch(id=1, lane=Lane.MAIN, log_id="a", entries=b"", through=9, head=9)
CHALLENGE = Challenge(boot_id="boot", counter=7)
COMMAND = Command(
    id="c1",
    challenge=CHALLENGE,
    expires_s=30.0,
    target="lobby/siren",
    action="pulse",
    arguments={"duration_s": 5.0},
    issued_by="wang",
    payload=b"z",
)
MESSAGES: list[Message] = [
    HELLO,
    Welcome(protocol=1, program="0.1", name="st", stamp=STAMP),
    Refused(reason="version-mismatch", text="too old"),
    FETCH,
    msgspec.structs.replace(BATCH, gaps=(Gap(1, 9, CHAIN, "evicted"),)),
    ChallengeRequest(command_id="c1"),
    ChallengeOffer(command_id="c1", challenge=CHALLENGE),
    COMMAND,
    Inquiry(command_id="c1"),
    Outcome(command_id="c1", verdict=Verdict.FAILED, text="busy", value=3, payload=b"z"),
]

entries = st.lists(
    st.builds(
        Entry,
        st.integers(1, 2**63 - 1),
        st.binary(min_size=CHAIN_LENGTH, max_size=CHAIN_LENGTH),
        st.none() | st.binary(max_size=2000),
    ),
    max_size=30,
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back_as_it_went(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary(max_size=300))
def test_noise_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(SyncError):
        decode(data)


@given(st.sampled_from(MESSAGES), st.data())
def test_a_damaged_message_is_a_message_or_refused(message: Message, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for candidate in (bytes(damaged), bytes(damaged[:cut])):
        with contextlib.suppress(SyncError):
            assert isinstance(decode(candidate), Message)


UNFIT: list[Any] = [
    msgspec.structs.replace(FETCH, after=-1),
    msgspec.structs.replace(FETCH, stored=2**63),
    msgspec.structs.replace(FETCH, log_id="x" * 1001),
    msgspec.structs.replace(BATCH, through=-1),
    msgspec.structs.replace(BATCH, gaps=(Gap(5, 4, CHAIN, ""),)),
    msgspec.structs.replace(BATCH, gaps=(Gap(0, 4, CHAIN, ""),)),
    msgspec.structs.replace(BATCH, gaps=(Gap(1, 4, b"short", ""),)),
    msgspec.structs.replace(HELLO, logs=HELLO.logs * 2),
    msgspec.structs.replace(
        HELLO, logs=tuple(LogHead(log_id=str(n), first=1, head=0, chain=CHAIN) for n in range(9))
    ),
    msgspec.structs.replace(HELLO, name="x" * 70_000),
]


@pytest.mark.parametrize("message", UNFIT, ids=range(len(UNFIT)))
def test_numbers_and_lengths_out_of_range_are_refused(message: Message) -> None:
    with pytest.raises(MalformedMessage):
        decode(encode(message))


def test_a_message_may_not_be_longer_than_the_protocol_says() -> None:
    with pytest.raises(MalformedMessage):
        decode(bytes(MESSAGE_LENGTH_MAX + 1))


def test_a_hello_of_another_version_is_named_even_where_its_form_is_unknown() -> None:
    for lowest, highest in ((2, 9), (0, 0)):
        for rest in ({}, {"name": 7, "new": [1]}):
            opening = {"type": "hello", "protocol_min": lowest, "protocol_max": highest}
            with pytest.raises(VersionMismatch) as caught:
                decode(msgspec.msgpack.encode(opening | rest))
            assert caught.value.hint
    with pytest.raises(VersionMismatch):
        decode(encode(msgspec.structs.replace(HELLO, protocol_min=2, protocol_max=2)))


def test_a_newer_gateway_that_still_speaks_ours_is_welcome() -> None:
    fields = msgspec.to_builtins(HELLO, builtin_types=(bytes,))
    newer = decode(msgspec.msgpack.encode(fields | {"protocol_max": 5, "unheard_of": 1}))
    assert isinstance(newer, Hello)
    assert messages.common_version(newer.protocol_min, newer.protocol_max) == 1


@given(entries)
def test_entries_come_back_as_they_went(sent: list[Entry]) -> None:
    packed, encoding = messages.encode_entries(sent)
    batch = msgspec.structs.replace(BATCH, entries=packed, encoding=encoding)
    assert list(messages.decode_entries(batch)) == sent


def test_compression_is_used_where_it_pays_and_only_there() -> None:
    alike = [Entry(n, CHAIN, b"the same words again") for n in range(1, 200)]
    packed, encoding = messages.encode_entries(alike)
    assert encoding == "zstd"
    assert len(packed) < 200 * 20
    assert messages.encode_entries(alike[:1])[1] == ""
    assert messages.encode_entries([]) == (b"", "")


def bomb() -> bytes:
    return zstandard.ZstdCompressor().compress(bytes(MESSAGE_LENGTH_MAX * 16))


def unsized() -> bytes:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    return compressor.compress(bytes(MESSAGE_LENGTH_MAX * 2))


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        (bomb(), "zstd"),
        (unsized(), "zstd"),
        (b"not zstd", "zstd"),
        (b"", "zstd"),
        (bomb()[:20], "zstd"),
        (zstandard.ZstdCompressor().compress(b"\x90") + b"more", "zstd"),
        (b"\x91\x93\x00\xc4\x10" + CHAIN + b"\xc0", ""),
        (b"\x91\x93\x01\xc4\x02hi\xc0", ""),
        (b"\x90\x90", ""),
        (b"\x90", "gzip"),
    ],
)
def test_entries_that_are_none_are_refused_and_cost_no_memory(
    packed: bytes, encoding: str
) -> None:
    batch = msgspec.structs.replace(BATCH, entries=packed, encoding=encoding)
    with pytest.raises(MalformedMessage):
        messages.decode_entries(batch)


def test_an_instant_is_stamped_in_microseconds() -> None:
    now = Instant(monotonic=1.5, wall=2.25, clock=ClockQuality.FREE)
    assert messages.stamp(now, "b") == Stamp(
        monotonic_us=1_500_000, wall_us=2_250_000, boot_id="b", clock=ClockQuality.FREE
    )
    assert messages.stamp(Instant(monotonic=1.0), "b").wall_us is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "x" * 65},
        {"expires_s": 0.0},
        {"expires_s": 3601.0},
        {"target": "x" * 201},
        {"arguments": {str(n): n for n in range(17)}},
        {"arguments": {"text": "x" * 2001}},
        {"issued_by": "x" * 65},
        {"payload": b"x" * 49_153},
        {"challenge": Challenge(boot_id="boot", counter=-1)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_command_beyond_its_bounds_is_malformed(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage):
        decode(encode(msgspec.structs.replace(COMMAND, **wrong)))
