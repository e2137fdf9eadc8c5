"""Hypothesis strategies for the record types, shared by every package's tests."""

from hypothesis import strategies as st

from events.kinds import Kind, Qualifier, Subkind
from events.model import (
    ClockQuality,
    DeviceTime,
    Native,
    Observation,
    Origin,
    Record,
    Scalar,
    Stamp,
)

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
points = st.lists(names, min_size=1, max_size=3).map("/".join)
texts = st.text(max_size=12)
microseconds = st.integers(0, 2**50)


def scalars() -> st.SearchStrategy[Scalar]:
    return st.one_of(
        st.text(max_size=8),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False),
    )


def natives() -> st.SearchStrategy[Native]:
    return st.builds(
        Native,
        scheme=names,
        code=texts,
        text=texts,
        fields=st.dictionaries(names, scalars(), max_size=3),
    )


def observations(point: st.SearchStrategy[str] = points) -> st.SearchStrategy[Observation]:
    return st.builds(
        Observation,
        point=point,
        kind=st.sampled_from([*map(str, Kind), "of-tomorrow"]),
        subkind=st.sampled_from(["", *map(str, Subkind)]),
        qualifier=st.sampled_from([*map(str, Qualifier)]),
        source=st.one_of(st.just(""), names),
        address=st.dictionaries(names, texts, max_size=2),
        value=st.none() | scalars(),
        unit=texts,
        native=st.none() | natives(),
        device_time=st.none() | st.builds(DeviceTime, text=texts, zone=texts),
        text=texts,
        edge_us=st.none() | microseconds,
        raw=st.binary(max_size=20),
        flags=st.lists(names, max_size=2).map(tuple),
        details=st.dictionaries(names, scalars(), max_size=2),
    )


def stamps() -> st.SearchStrategy[Stamp]:
    return st.builds(
        Stamp,
        monotonic_us=microseconds,
        boot_id=names,
        wall_us=st.none() | microseconds,
        clock=st.sampled_from(ClockQuality),
    )


def records(
    observation: st.SearchStrategy[Observation] | None = None,
) -> st.SearchStrategy[Record]:
    return st.builds(
        Record,
        stamp=stamps(),
        observation=observation or observations(),
        urgent=st.booleans(),
        origin=st.none() | st.builds(Origin, names, st.integers(1, 2**40)),
    )
