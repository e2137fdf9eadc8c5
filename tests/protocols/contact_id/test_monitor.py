import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.contact_id.monitor import PROTOCOLS
from protocols.decode import decode

FOLDER = Path(__file__).parents[2] / "vectors/contact_id"
SERIAL: list[dict[str, Any]] = json.loads((FOLDER / "serial.json").read_text())
DIGITS: list[dict[str, Any]] = json.loads((FOLDER / "digits.json").read_text())


def _shown(protocol: str, data: bytes, name: str) -> list[Any]:
    return [line[name] for line in decode(protocol, data) if name in line]


@pytest.mark.parametrize("vector", SERIAL, ids=lambda vector: vector["name"])
def test_serial_vectors_field_by_field(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    frames = _shown(vector["protocol"], data, "frame")
    assert len(frames) == len(vector["frames"])
    for frame, wanted in zip(frames, vector["frames"], strict=True):
        assert {name: frame.get(name) for name in wanted} == wanted
    assert _shown(vector["protocol"], data, "counts") == [vector["counts"]]


@pytest.mark.parametrize("vector", DIGITS, ids=lambda vector: vector["name"])
def test_digit_vectors_field_by_field(vector: dict[str, Any]) -> None:
    data = vector["digits"].encode()
    assert _shown("contact-id-dtmf", data, "frame") == [{**vector["expect"], "valid": True}]
    (observation,) = _shown("contact-id-dtmf", data, "observation")
    assert (
        observation["native"]["code"] == vector["expect"]["qualifier"] + vector["expect"]["event"]
    )
    assert _shown("contact-id-dtmf", data, "send") == []  # the kiss-off is a tone


def test_a_message_is_shown_as_frame_observation_answer_and_count() -> None:
    lines = json.loads(json.dumps([*decode("contact-id-mlr2", b"5011 181234E12001005\x14")]))
    assert [next(iter(line)) for line in lines] == ["frame", "observation", "send", "counts"]
    assert lines[1]["observation"] == {
        "point": "receiver/1234/005",
        "kind": "alarm",
        "subkind": "panic",
        "condition": "120",
        "qualifier": "new",
        "source": "receiver",
        "address": {
            "receiver": "01",
            "line": "1",
            "account": "1234",
            "partition": "01",
            "zone": "005",
        },
        "native": {
            "scheme": "contact-id",
            "code": "1120",
            "text": "Panic",
            "fields": {"format": "sur-gard-mlr2", "message_type": "18", "group": "01"},
        },
        "raw": "353031312031383132333445313230303130303514",
        "integrity": ["terminator", "syntax"],
    }
    assert lines[2] == {"send": "06"}


def test_a_repeat_is_a_frame_and_an_answer_but_no_second_observation() -> None:
    data = b"5011 181234E12001005\x14" * 2
    assert len(_shown("contact-id-mlr2", data, "frame")) == 2
    assert len(_shown("contact-id-mlr2", data, "observation")) == 1
    assert _shown("contact-id-mlr2", data, "send") == ["06", "06"]


def test_digits_are_found_between_noise_and_a_wrong_checksum_is_rejected() -> None:
    good, wrong = b"1234181131010158", b"1234181131010157"
    (counts,) = _shown("contact-id-dtmf", b"99" + good + b"\n" + wrong + b"\n" + good, "counts")
    assert counts == {"frames": 2, "rejected": 2, "discarded_bytes": 2 + 1 + 16 + 1}


@given(st.sampled_from(PROTOCOLS), st.binary(max_size=300))
def test_any_bytes_end_in_counts_that_json_can_hold(protocol: str, data: bytes) -> None:
    lines = list(decode(protocol, data))
    assert list(lines[-1]) == ["counts"]
    json.dumps(lines)
