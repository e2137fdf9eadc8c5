import json

from hypothesis import given
from hypothesis import strategies as st

from events.model import ClockQuality, Native, Observation, Record, Stamp
from events.replication import Entry, Gap
from events.wire import encode
from gateway.event_lines import event_line, gap_line

STAMP = Stamp(
    monotonic_us=10_000_000, boot_id="b", wall_us=1_790_000_000_000_000, clock=ClockQuality.FREE
)


def line(observation: Observation, stamp: Stamp = STAMP) -> dict[str, object]:
    body = encode(Record(stamp=stamp, observation=observation, urgent=True))
    told = event_line("log-1", Entry(seq=7, chain=b"", body=body))
    json.dumps(told)
    return told


def test_a_line_has_what_scripts_depend_on() -> None:
    told = line(
        Observation(
            point="p",
            kind="alarm",
            raw=b"\x01\xff",
            edge_us=9_000_000,
            native=Native(scheme="contact-id", code="1110"),
        )
    )
    assert (told["log_id"], told["seq"], told["point"], told["kind"]) == ("log-1", 7, "p", "alarm")
    assert (told["subkind"], told["qualifier"], told["value"], told["unit"]) == (
        "",
        "new",
        None,
        "",
    )
    assert told["at"] == "2026-09-21T14:13:19.000Z"  # a second before it was stored
    assert (told["clock"], told["urgent"], told["raw"]) == ("free", True, "01ff")
    assert told["native"] == {"scheme": "contact-id", "code": "1110"}


def test_an_unknown_kind_is_shown_as_information() -> None:
    assert line(Observation(point="p", kind="earthquake"))["kind"] == "information"


def test_a_clock_that_was_never_set_tells_no_time() -> None:
    unset = Stamp(monotonic_us=5, boot_id="b")
    assert line(Observation(point="p", kind="alarm"), unset)["at"] is None


@given(st.binary(max_size=40))
def test_a_body_that_nobody_can_read_is_still_a_line(body: bytes) -> None:
    told = event_line("log-1", Entry(seq=3, chain=b"", body=body))
    assert (told["seq"], told["subkind"]) == (3, "unreadable-event")


def test_a_gap_is_named() -> None:
    told = gap_line("log-1", Gap(first=4, last=9, chain=b"", why="trimmed"))
    assert (told["first"], told["seq"], told["subkind"]) == (4, 9, "gap")
    assert "6 events" in str(told["text"])
