import pytest

from events.kinds import Kind, Qualifier, Subkind
from protocols.contact_id.code_table import ROWS
from protocols.contact_id.codes import lookup, qualifier


def test_the_table_is_whole() -> None:
    assert len(ROWS) == 322
    assert all(len(code) == 3 and code.isdigit() for code in ROWS)
    assert all(name for name, _, _ in ROWS.values())


@pytest.mark.parametrize(
    ("event", "name", "kind", "subkind", "address"),
    [
        ("100", "Medical", Kind.ALARM, Subkind.MEDICAL, "zone"),
        ("110", "Fire", Kind.ALARM, Subkind.FIRE, "zone"),
        ("115", "Pull Station", Kind.ALARM, Subkind.MANUAL_CALL_POINT, "zone"),
        ("120", "Panic", Kind.ALARM, Subkind.PANIC, "zone"),
        ("121", "Duress", Kind.ALARM, Subkind.DURESS, "user"),
        ("131", "Perimeter", Kind.ALARM, Subkind.PERIMETER, "zone"),
        ("144", "Sensor Tamper", Kind.TAMPER, Subkind.SENSOR, "zone"),
        ("151", "Gas Detected", Kind.ALARM, Subkind.GAS, "zone"),
        ("203", "Gate Valve Sensor", Kind.SUPERVISORY, Subkind.VALVE, "zone"),
        ("301", "AC Loss", Kind.FAULT, Subkind.MAINS, "zone"),
        ("383", "Sensor Tamper", Kind.TAMPER, Subkind.SENSOR, "zone"),
        ("401", "O/C By", Kind.ARMING, Subkind.AREA, "user"),
        ("423", "Forced Access", Kind.ALARM, Subkind.DOOR, "zone"),
        ("570", "Bypass", Kind.DISABLED, Subkind.ZONE, "zone"),
        ("602", "Periodic Test Report", Kind.TEST, Subkind.PERIODIC, "zone"),
    ],
)
def test_codes_mean_what_they_say(
    event: str, name: str, kind: Kind, subkind: Subkind, address: str
) -> None:
    code = lookup(event)
    assert (code.name, code.kind, code.subkind, code.address) == (name, kind, subkind, address)


@pytest.mark.parametrize(
    ("event", "kind", "subkind"),
    [
        ("119", Kind.ALARM, Subkind.FIRE),
        ("12F", Kind.ALARM, Subkind.PANIC),
        ("1BC", Kind.ALARM, Subkind.ENVIRONMENTAL),
        ("299", Kind.SUPERVISORY, Subkind.FIRE),
        ("369", Kind.FAULT, Subkind.COMMUNICATION),
        ("599", Kind.DISABLED, Subkind.ZONE),
        ("FFF", Kind.INFORMATION, Subkind.UNKNOWN),
        ("000", Kind.INFORMATION, Subkind.UNKNOWN),
    ],
)
def test_a_code_nobody_knows_has_the_kind_of_its_class(
    event: str, kind: Kind, subkind: Subkind
) -> None:
    assert event not in ROWS
    assert (lookup(event).kind, lookup(event).subkind, lookup(event).name) == (kind, subkind, "")


def test_every_alarm_class_of_the_standard_is_an_alarm_a_tamper_or_a_fault_of_its_zone() -> None:
    kinds = {lookup(event).kind for event in ROWS if event.startswith("1")}
    assert kinds == {Kind.ALARM, Kind.TAMPER, Kind.FAULT}
    assert [event for event in ROWS if event[0] == "1" and lookup(event).kind is Kind.FAULT] == [
        "156"  # day trouble
    ]


def test_openings_and_closings_exchange_the_words() -> None:
    fire, closing = lookup("110"), lookup("401")
    assert [qualifier(fire, digit) for digit in "136"] == [
        Qualifier.NEW,
        Qualifier.RESTORE,
        Qualifier.STILL,
    ]
    assert [qualifier(closing, digit) for digit in "136"] == [
        Qualifier.RESTORE,
        Qualifier.NEW,
        Qualifier.STILL,
    ]
