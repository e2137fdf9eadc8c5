"""What a pushed configuration would take away is named, whatever it is."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config_diff import Diff, compare
from gateway.protected import point_protection, points
from gateway.sections import Configuration

BASE = """
[gateway]
name = "hall"
data_dir = "data"
key_file = "hall.key"
socket = "hall.sock"
[store]
bound_bytes = 10000000
[annunciation]
output = "lobby/siren"
[[station]]
name = "east"
public_key_file = "east.pub"
[[station.path]]
name = "fibre"
address = "station.example:7780"
[[bus]]
id = "pumps"
driver = "modbus-tcp"
address = "10.0.0.7:502"
[[bus.unit]]
id = "cellar"
unit = 1
[[bus.unit.point]]
id = "cellar/gas"
table = "input"
address = 3
type = "uint16"
kind = "alarm"
subkind = "gas"
threshold = 40.0
hysteresis = 2.0
[[bus.unit.point]]
id = "cellar/level"
table = "input"
address = 4
type = "uint16"
kind = "measurement"
deadband = 2.0
[[receiver]]
id = "panels"
format = "mlr2"
port = { path = "/dev/serial/by-id/panels" }
[[receiver.point]]
id = "flat-1/zone"
account = "1234"
zone = "001"
[gpio]
[[gpio.point]]
id = "lobby/panic"
line = 5
contact = "nc"
kind = "alarm"
subkind = "panic"
qualify_ms = 50
[[gpio.point]]
id = "lobby/door"
label = "Door"
line = 6
contact = "no"
kind = "status"
subkind = "door"
urgent = true
[[output]]
id = "lobby/siren"
pin = 17
"""


def read(text: str) -> Configuration:
    return msgspec.toml.decode(text.encode(), type=Configuration)


def diff(old: str = "", new: str = "", base: str = BASE) -> Diff:
    assert base.count(old) == 1 or not old, old
    return compare(read(base), read(base.replace(old, new) if old else base))


def lost(found: Diff) -> list[str]:
    return [change.text for change in found.changes if change.lost]


def test_the_same_configuration_changes_nothing() -> None:
    assert diff() == Diff(changes=(), refused=())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('subkind = "panic"', 'subkind = "door"', "will report subkind door instead of panic"),
        ("qualify_ms = 50", "qualify_ms = 500", "must hold for 500 ms instead of 50 ms"),
        ("qualify_ms = 50", "qualify_ms = 20", "qualify_ms 50 becomes 20"),
        ('contact = "nc"', 'contact = "no"', "contact nc becomes no"),
        ("line = 5", "line = 9", "line 5 becomes 9"),
        ("threshold = 40.0", "threshold = 60.0", "will be raised at 60 instead of 40"),
        ("threshold = 40.0", "", "will have no threshold"),
        ("hysteresis = 2.0", "hysteresis = 9.0", "will report less: hysteresis 9 instead of 2"),
        ("10.0.0.7:502", "10.0.0.8:502", "address 10.0.0.8:502 instead of 10.0.0.7:502"),
        ("unit = 1", "unit = 2", "unit 2 instead of 1"),
        ('zone = "001"', 'zone = "002"', "zone 001 becomes 002"),
        ('format = "mlr2"', 'format = "685"', "format mlr2 becomes 685"),
    ],
)
def test_a_change_of_how_a_protected_point_is_read_needs_a_second_person(
    old: str, new: str, words: str
) -> None:
    found = diff(old, new)
    assert any(words in text for text in lost(found)), found
    assert found.needs_second_person


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("urgent = true", "", "point lobby/door (Door) will no longer be urgent"),
        ("deadband = 2.0", "deadband = 5.0", "will report less: deadband 5 instead of 2"),
        ('output = "lobby/siren"', "", "will switch nothing instead of output lobby/siren"),
        ("[annunciation]\n", "[annunciation]\nafter_s = 90\n", "after 90 s instead of 100 s"),
    ],
)
def test_what_is_not_protected_is_named_and_needs_nobody(old: str, new: str, words: str) -> None:
    found = diff(old, new)
    assert any(words in change.text for change in found.changes), found
    assert not found.needs_second_person


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('label = "Door"', 'label = "Front door"'),
        ("line = 6", "line = 6\npull = 'external'"),
        ("[[output]]", '[[output]]\nid = "roof/lamp"\npin = 18\n[[output]]'),
        ('address = "station.example:7780"', 'address = "10.9.9.9:7780"'),
        ('address = "station.example:7780"', 'address = "station.example:7780"\nmetered = true'),
    ],
)
def test_what_takes_nothing_away_is_not_called_a_loss(old: str, new: str) -> None:
    found = diff(old, new)
    assert found.changes
    assert lost(found) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "hall"', 'name = "hut"', "[gateway] name"),
        ('data_dir = "data"', 'data_dir = "other"', "[gateway] data_dir"),
        ('key_file = "hall.key"', 'key_file = "x.key"', "[gateway] key_file"),
        ('public_key_file = "east.pub"', 'public_key_file = "evil.pub"', "key of station east"),
        (
            'public_key_file = "east.pub"',
            'public_key_file = "east.pub"\nnext_public_key_file = "evil.pub"',
            "station east",
        ),
        ('name = "east"', 'name = "west"', "station east cannot be removed"),
        ("bound_bytes = 10000000", "bound_bytes = 2000000", "bound_bytes"),
    ],
)
def test_what_the_gateway_trusts_cannot_be_changed_by_a_push(
    old: str, new: str, words: str
) -> None:
    assert any(words in text for text in diff(old, new).refused)


@given(kept=st.sets(st.integers(0, 4)))
def test_every_point_that_goes_is_named_and_a_protected_one_needs_two(kept: set[int]) -> None:
    before = read(BASE)
    names = [point.id for point in points(before)]
    stay = {name for number, name in enumerate(names) if number in kept}
    replace = msgspec.structs.replace
    assert before.gpio is not None

    def cut(section: object) -> object:
        left = tuple(point for point in section.point if point.id in stay)  # type: ignore[attr-defined]
        return replace(section, point=left)  # type: ignore[type-var]

    after = replace(
        before,
        bus=tuple(replace(bus, unit=tuple(cut(unit) for unit in bus.unit)) for bus in before.bus),
        receiver=tuple(cut(receiver) for receiver in before.receiver),
        gpio=cut(before.gpio),
    )
    found = compare(before, after)
    for point in points(before):
        named = any(point.id in text and "no longer be watched" in text for text in lost(found))
        assert named is (point.id not in stay)
    guarded = {
        point.id
        for point in points(before)
        if point_protection(point) or not hasattr(point, "kind")
    }
    assert found.needs_second_person is bool(guarded - stay)
