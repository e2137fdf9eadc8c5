from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.contact_id.formats import (
    FORMATS,
    FRAME_LENGTH_MAX,
    Format,
    Frame,
    FrameKind,
    Splitter,
)

tags = st.sampled_from(sorted(FORMATS))
hexadecimal = "0123456789BCDEF"


def fields(form: Format) -> st.SearchStrategy[dict[str, str]]:
    receiver = 1 if form.tag == "685" else 2
    line = 3 if form.tag == "system3" else 1

    def digits(count: int) -> st.SearchStrategy[str]:
        return st.text(hexadecimal, min_size=count, max_size=count)

    return st.fixed_dictionaries(
        {
            "receiver": digits(receiver),
            "line": digits(line),
            "message_type": st.sampled_from(["18", "98"]),
            "account": digits(4),
            "qualifier": st.sampled_from("ERP"),
            "event": digits(3),
            "group": digits(2),
            "zone_or_user": digits(3),
            "address_kind": st.sampled_from("CU"),
        }
    )


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a format, and messages of it between noise."""
    tag = draw(tags)
    form = FORMATS[tag]
    pieces = draw(
        st.lists(
            st.one_of(
                fields(form).map(form.event),
                st.just(form.heartbeat({"receiver": "1", "line": "1"})),
                st.binary(max_size=12),
                st.binary(min_size=FRAME_LENGTH_MAX - 4, max_size=FRAME_LENGTH_MAX + 40),
                fields(form).map(form.event).map(lambda data: data[: len(data) // 2]),
                st.just(bytes([form.terminator])),
            ),
            max_size=8,
        )
    )
    return tag, b"".join(pieces)


def split(
    tag: str, pieces: Iterable[bytes], *, strip: bool
) -> tuple[list[Frame], tuple[int, ...]]:
    splitter = Splitter(FORMATS[tag], strip_parity=strip)
    frames = [frame for piece in pieces for frame in splitter.feed(piece)]
    return frames, (splitter.rejected, splitter.discarded_bytes, splitter.unterminated)


@given(st.data(), tags)
def test_every_form_round_trips(data: st.DataObject, tag: str) -> None:
    form = FORMATS[tag]
    wanted = data.draw(fields(form))
    (frame,), counts = split(tag, [form.event(wanted)], strip=False)
    assert frame.kind is FrameKind.EVENT
    assert frame.fields == {name: wanted[name] for name in frame.fields}
    assert set(wanted) - set(frame.fields) <= {"address_kind"}
    assert counts == (0, 0, 0)


@given(streams(), st.lists(st.integers(1, 30), max_size=40), st.booleans())
def test_every_split_says_the_same(
    stream: tuple[str, bytes], cuts: list[int], strip: bool
) -> None:
    tag, data = stream
    pieces, rest = [], data
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    pieces.append(rest)
    assert split(tag, pieces, strip=strip) == split(tag, [data], strip=strip)


@given(streams(), st.booleans())
def test_every_byte_is_a_frame_discarded_or_waiting(
    stream: tuple[str, bytes], strip: bool
) -> None:
    tag, data = stream
    frames, (_, discarded, waiting) = split(tag, [data], strip=strip)
    known = sum(
        len(frame.raw)
        for frame in frames
        if frame.kind not in (FrameKind.NOISE, FrameKind.UNREADABLE)
    )
    assert known + discarded + waiting == len(data)


@given(st.data(), tags, st.binary(max_size=3 * FRAME_LENGTH_MAX))
def test_the_next_good_message_is_found_whatever_came_before(
    data: st.DataObject, tag: str, noise: bytes
) -> None:
    form = FORMATS[tag]
    good = form.event(data.draw(fields(form)))
    frames, _ = split(tag, [noise + good], strip=False)
    assert frames[-1].kind is FrameKind.EVENT
    assert frames[-1].raw == good


def test_a_flood_without_terminator_stays_bounded() -> None:
    splitter = Splitter(FORMATS["mlr2"], strip_parity=False)
    assert list(splitter.feed(b"5" * 100_000)) == []
    assert splitter.unterminated < FRAME_LENGTH_MAX
    assert splitter.discarded_bytes + splitter.unterminated == 100_000


@pytest.mark.parametrize("odd", [False, True])
def test_parity_in_bit_7_is_checked_and_taken_off(odd: bool) -> None:
    text = b"5011 181234E15102040\x14"
    line = bytes(byte | 0x80 if byte.bit_count() % 2 != odd else byte for byte in text)
    (frame,), _ = split("mlr2", [line], strip=True)
    assert frame.kind is FrameKind.EVENT
    assert frame.raw == line
    assert frame.parity_stripped
    for place in range(len(line)):
        broken = bytearray(line)
        broken[place] ^= 0x80
        frames, _ = split("mlr2", [bytes(broken)], strip=True)
        assert all(frame.kind is not FrameKind.EVENT for frame in frames)


@pytest.mark.parametrize(
    ("tag", "line", "kind"),
    [
        ("mlr2", b"0011 AC FAIL\x14", "0"),
        ("mlr2", b"1011      1234     3\x14", "1"),
        ("mlr2", b"3011 1234 BA01\x14", "3"),
        ("mlr2", b"S011[#1234|NBA01]\x14", "S"),
        ("system3", b"001001 LINE 1 FAULT\x14", "0"),
        ("system3", b"S01001[#001234|NBA01]\x14", "S"),
    ],
)
def test_other_first_characters_are_kept_as_they_came(tag: str, line: bytes, kind: str) -> None:
    (frame,), counts = split(tag, [line], strip=False)
    assert frame.kind is FrameKind.OTHER
    assert frame.fields["type"] == kind
    assert frame.fields["receiver"] == "01"
    assert frame.text == line[:-1].decode()
    assert counts == (0, 0, 0)


@pytest.mark.parametrize("first", "01234678S")
def test_a_damaged_event_is_not_taken_for_another_form(first: str) -> None:
    line = first.encode() + b"011 181234E15102040\x14"
    (frame,), _ = split("mlr2", [line], strip=False)
    assert frame.kind is FrameKind.UNREADABLE
