from hypothesis import given
from hypothesis import strategies as st

from buffer.entries import TRUNCATED, pending
from events.model import RAW_LENGTH_MAX, Native, Observation, Origin, Record
from events.wire import BODY_LENGTH_MAX, decode
from tests.buffer.logs import stamp
from tests.strategies import observations


@given(observations(), st.booleans(), st.none() | st.builds(Origin, st.just("log"), st.just(7)))
def test_a_record_is_encoded_as_it_is(
    seen: Observation, urgent: bool, origin: Origin | None
) -> None:
    made = pending(seen, stamp(), urgent=urgent, origin=origin)
    expected = Record(stamp=stamp(), observation=seen, urgent=urgent, origin=origin)
    assert made.record == expected
    assert decode(made.body) == expected


ugly = st.text(st.characters(codec=None), max_size=50)  # lone surrogates as well


@given(
    text=st.one_of(ugly, st.integers(50_000, 200_000).map("x".__mul__)),
    point=st.one_of(st.just("hall/1"), ugly, st.just("p" * 100_000)),
    raw=st.one_of(st.just(b"raw"), st.just(b"r" * 100_000)),
    value=st.one_of(st.none(), st.just(10**30), ugly, st.just("v" * 70_000)),
    native=st.none()
    | st.builds(Native, scheme=ugly, text=st.sampled_from(["", "t" * 90_000]), code=ugly),
    details=st.dictionaries(ugly, ugly, max_size=3),
)
def test_no_observation_is_lost_for_being_long_or_ugly(
    text: str,
    point: str,
    raw: bytes,
    value: str | int | None,
    native: Native | None,
    details: dict[str, str | int | float | bool],
) -> None:
    seen = Observation(
        point=point,
        kind="alarm",
        subkind="panic",
        condition="130",
        qualifier="restore",
        source="gpio",
        text=text,
        raw=raw,
        value=value,
        native=native,
        details=details,
    )
    made = pending(seen, stamp(), urgent=True)
    assert len(made.body) <= BODY_LENGTH_MAX
    assert decode(made.body) == made.record
    got = made.record.observation
    named = (got.kind, got.subkind, got.condition, got.qualifier, got.source)
    assert named == ("alarm", "panic", "130", "restore", "gpio")
    assert made.record.urgent
    assert got.raw[:3] == raw[:3]
    if got != seen:
        assert TRUNCATED in got.flags
        assert len(got.raw) <= RAW_LENGTH_MAX
        assert got.text[:5].isascii() is False or got.text.startswith(text[:5])


def test_a_long_text_is_cut_and_the_rest_stays() -> None:
    seen = Observation(
        point="hall/1",
        kind="alarm",
        text="t" * 70_000,
        raw=b"r" * 100,
        address={"account": "1234"},
        native=Native(scheme="contact-id", code="130"),
    )
    got = pending(seen, stamp(), urgent=True).record.observation
    assert got.text == "t" * 2000
    assert (got.raw, got.address, got.native) == (seen.raw, seen.address, seen.native)
    assert got.flags == (TRUNCATED,)
