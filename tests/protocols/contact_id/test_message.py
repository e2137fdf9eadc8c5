import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import LocalProtocolError, RemoteProtocolError
from protocols.contact_id.message import DIGITS, Message

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors/contact_id/digits.json").read_text()
)


def digits(count: int) -> st.SearchStrategy[str]:
    return st.text(DIGITS, min_size=count, max_size=count)


messages = st.builds(
    Message,
    account=digits(4),
    message_type=st.sampled_from(["18", "98"]),
    qualifier=st.sampled_from("136"),
    event=digits(3),
    group=digits(2),
    zone_or_user=digits(3),
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors_both_ways(vector: dict[str, Any]) -> None:
    data = vector["digits"].encode()
    message = Message.from_bytes(data)
    shown = {name: getattr(message, name, None) for name in vector["expect"]}
    expected = {
        name: value
        for name, value in vector["expect"].items()
        if name not in ("event_name", "qualifier_meaning")
    }
    assert {name: shown[name] for name in expected} == expected
    assert message.to_bytes() == data


@given(messages)
def test_round_trip(message: Message) -> None:
    assert Message.from_bytes(message.to_bytes()) == message


@given(messages)
def test_the_checksum_fits_both_formulations(message: Message) -> None:
    values = [10 if digit == "0" else int(digit, 16) for digit in message.to_bytes().decode()]
    assert sum(values) % 15 == 0
    assert values[-1] == 15 - sum(values[:-1]) % 15


@given(messages, st.integers(0, 15), st.sampled_from(DIGITS))
def test_one_wrong_digit_is_always_found(message: Message, place: int, digit: str) -> None:
    data = message.to_bytes().decode()
    broken = data[:place] + digit + data[place + 1 :]
    if broken != data:
        with pytest.raises(RemoteProtocolError):
            Message.from_bytes(broken.encode())


def test_a_checksum_that_counts_zero_as_nothing_is_refused() -> None:
    digits_before = "123418111001001"
    naive = "0FEDCB-987654321"[sum(int(digit, 16) for digit in digits_before) % 15]
    with pytest.raises(RemoteProtocolError):
        Message.from_bytes((digits_before + naive).encode())


@given(st.binary(max_size=20))
def test_any_other_bytes_are_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        assert Message.from_bytes(data).to_bytes() == data


@pytest.mark.parametrize(
    "wrong",
    [
        {"account": "12A4"},  # A is not a digit of Contact ID
        {"account": "123"},
        {"event": "1x0"},
        {"qualifier": "2"},
        {"message_type": "17"},
    ],
)
def test_what_cannot_be_sent_cannot_be_made(wrong: dict[str, str]) -> None:
    right = {
        "account": "1234",
        "qualifier": "1",
        "event": "110",
        "group": "01",
        "zone_or_user": "001",
    }
    assert Message(**right).to_bytes() == b"123418111001001B"
    with pytest.raises(LocalProtocolError):
        Message(**{**right, **wrong})
