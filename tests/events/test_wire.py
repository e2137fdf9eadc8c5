from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import UnreadableEvent
from events.model import Observation, Origin, Record, Stamp
from events.wire import decode, encode
from tests.strategies import records


@given(records())
def test_a_record_survives_the_wire_unchanged(record: Record) -> None:
    assert decode(encode(record)) == record


@given(records())
def test_encoding_is_the_same_every_time(record: Record) -> None:
    assert encode(record) == encode(decode(encode(record)))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_event_are_named_and_raise_nothing_else(data: bytes) -> None:
    with suppress(UnreadableEvent):
        assert isinstance(decode(data), Record)


@given(records(), st.data())
def test_a_cut_body_is_unreadable(record: Record, data: st.DataObject) -> None:
    body = encode(record)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(UnreadableEvent):
        decode(body[:cut])


def test_a_newer_form_is_refused_with_what_to_do() -> None:
    body = msgspec.msgpack.encode((2, {"anything": 1}))
    with pytest.raises(UnreadableEvent, match="form 2") as caught:
        decode(body)
    assert "newer program" in caught.value.hint


def test_fields_of_a_newer_minor_are_ignored() -> None:
    record = Record(
        stamp=Stamp(monotonic_us=5, boot_id="b"),
        observation=Observation(point="p", kind="alarm"),
        origin=Origin("log", 3),
    )
    document = msgspec.msgpack.decode(encode(record))
    document[1]["added_later"] = [1, 2]
    document[1]["observation"]["added_later"] = "x"
    assert decode(msgspec.msgpack.encode(document)) == record


def test_bodies_of_the_first_release_stay_readable() -> None:
    body = bytes.fromhex(
        "920182a57374616d7082ac6d6f6e6f746f6e69635f757305a7626f6f745f6964a162"
        "ab6f62736572766174696f6e82a5706f696e74a170a46b696e64a5616c61726d"
    )
    record = decode(body)
    assert (record.stamp.monotonic_us, record.stamp.boot_id) == (5, "b")
    assert (record.observation.point, record.observation.kind) == ("p", "alarm")
    assert record == decode(encode(record))
