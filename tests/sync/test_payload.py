"""What travels with a command is bounded on both sides."""

import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from events.commands import PAYLOAD_LENGTH_MAX, UNPACKED_LENGTH_MAX
from events.errors import UsageError
from sync.payload import pack, pack_tail, unpack


@given(st.binary(max_size=2000))
def test_it_comes_back_as_it_went(data: bytes) -> None:
    assert unpack(pack(data)) == data


def test_what_is_too_long_is_refused_and_a_tail_is_cut() -> None:
    noise = os.urandom(200_000)
    with pytest.raises(UsageError):
        pack(noise)
    with pytest.raises(UsageError):
        pack(b"x" * (UNPACKED_LENGTH_MAX + 1))
    packed = pack_tail(noise)
    assert len(packed) <= PAYLOAD_LENGTH_MAX
    assert noise.endswith(unpack(packed))


@given(st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        unpack(b"\0" + data)


def test_a_bomb_is_not_unpacked() -> None:
    bomb = zstandard.ZstdCompressor().compress(b"\0" * (UNPACKED_LENGTH_MAX + 1))
    with pytest.raises(UsageError, match="more than may be sent"):
        unpack(bomb)
