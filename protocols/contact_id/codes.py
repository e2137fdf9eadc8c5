"""What a Contact ID event code means, in the house's words.

Nothing is lost in translation: the native code and the digits stay beside the kind. A code that
is not in the table gets the kind of its class, so that an unknown alarm is still an alarm.
"""

from dataclasses import dataclass
from typing import Literal

from events.kinds import Kind, Qualifier, Subkind
from protocols.contact_id.code_table import ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """One event code.

    name: as in the standard; empty for a code that is not in the table.
    address: whom the three last digits name.
    opening: 1 says opening (disarmed) and 3 closing (armed), so new and restore change places.
    """

    name: str
    kind: Kind
    subkind: Subkind
    address: Literal["zone", "user"] = "zone"
    opening: bool = False


_CLASSES: tuple[tuple[str, Kind, Subkind], ...] = (
    # first code of a class that is not listed, up to the next row
    ("000", Kind.INFORMATION, Subkind.UNKNOWN),
    ("100", Kind.ALARM, Subkind.MEDICAL),
    ("110", Kind.ALARM, Subkind.FIRE),
    ("120", Kind.ALARM, Subkind.PANIC),
    ("130", Kind.ALARM, Subkind.BURGLARY),
    ("150", Kind.ALARM, Subkind.ENVIRONMENTAL),
    ("200", Kind.SUPERVISORY, Subkind.FIRE),
    ("300", Kind.FAULT, Subkind.EQUIPMENT),
    ("320", Kind.FAULT, Subkind.SOUNDER),
    ("330", Kind.FAULT, Subkind.PERIPHERAL),
    ("350", Kind.FAULT, Subkind.COMMUNICATION),
    ("370", Kind.FAULT, Subkind.ZONE),
    ("380", Kind.FAULT, Subkind.SENSOR),
    ("400", Kind.INFORMATION, Subkind.AREA),
    ("410", Kind.INFORMATION, Subkind.COMMUNICATION),
    ("420", Kind.ACCESS, Subkind.USER),
    ("440", Kind.INFORMATION, Subkind.AREA),
    ("500", Kind.DISABLED, Subkind.EQUIPMENT),
    ("520", Kind.DISABLED, Subkind.SOUNDER),
    ("530", Kind.DISABLED, Subkind.PERIPHERAL),
    ("550", Kind.DISABLED, Subkind.COMMUNICATION),
    ("570", Kind.DISABLED, Subkind.ZONE),
    ("600", Kind.TEST, Subkind.UNKNOWN),
    ("620", Kind.INFORMATION, Subkind.UNKNOWN),
)

_USERS = frozenset(
    ["121", "124", "125"]
    + [str(code) for code in (*range(400, 423), 424, 425, 429, 430, *range(441, 467))]
)

_QUALIFIERS = {"1": Qualifier.NEW, "3": Qualifier.RESTORE, "6": Qualifier.STILL}
_EXCHANGED = {Qualifier.NEW: Qualifier.RESTORE, Qualifier.RESTORE: Qualifier.NEW}


def lookup(event: str) -> Code:
    """Return the meaning of a three-digit event code; never fails."""
    name, kind, subkind = ROWS.get(event) or ("", *_class_of(event))
    return Code(
        name=name,
        kind=kind,
        subkind=subkind,
        address="user" if event in _USERS else "zone",
        opening=kind is Kind.ARMING,
    )


def qualifier(code: Code, digit: str) -> Qualifier:
    """Return what the digit says of a code: 1 new, 3 restore, 6 still.

    For openings and closings 1 is disarmed, the restore of our kind `arming`, and 3 is armed.
    """
    plain = _QUALIFIERS[digit]
    return _EXCHANGED.get(plain, plain) if code.opening else plain


def _class_of(event: str) -> tuple[Kind, Subkind]:
    kind, subkind = Kind.INFORMATION, Subkind.UNKNOWN
    for first, class_kind, class_subkind in _CLASSES:
        if first > event:
            break
        kind, subkind = class_kind, class_subkind
    return kind, subkind
