"""What goes into a log: records, encoded once and for all."""

from dataclasses import dataclass
from typing import Final

import msgspec

from events.model import RAW_LENGTH_MAX, Native, Observation, Origin, Record, Stamp
from events.points import POINT_LENGTH_MAX
from events.wire import BODY_LENGTH_MAX, encode

TRUNCATED: Final = "truncated"
_TEXT_LENGTH_MAX: Final = 2000
_NAME_LENGTH_MAX: Final = 64
_NOT_ENCODABLE = (msgspec.MsgspecError, UnicodeError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Pending:
    """A record on its way into a log, encoded once and for all."""

    record: Record
    body: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.body)


def pending(
    observation: Observation, stamp: Stamp, *, urgent: bool, origin: Origin | None = None
) -> Pending:
    """Encode an observation as a record. Never fails, and never gives a body that is too long.

    What is too long, or cannot be encoded, loses the parts that matter least; such a record has
    the flag `truncated`. A lone surrogate or a number beyond 64 bits in some text of a device must
    not cost the alarm that came with it.
    """
    record = Record(stamp=stamp, observation=observation, urgent=urgent, origin=origin)
    for form in (_whole, _shortened, _bare):
        body = _encoded(candidate := form(record))
        if body is not None:
            return Pending(candidate, body)
    raise AssertionError("the bare form of a record is always short and plain")


def _encoded(record: Record) -> bytes | None:
    try:
        body = encode(record)
    except _NOT_ENCODABLE:
        return None
    return body if len(body) <= BODY_LENGTH_MAX else None


def _whole(record: Record) -> Record:
    return record


def _shortened(record: Record) -> Record:
    """Cut the long free-form fields; keep everything that identifies and classifies."""
    seen = record.observation
    native = seen.native and Native(
        scheme=_plain(seen.native.scheme, _NAME_LENGTH_MAX),
        code=_plain(seen.native.code, _NAME_LENGTH_MAX),
        text=_plain(seen.native.text, _TEXT_LENGTH_MAX),
    )
    return msgspec.structs.replace(
        record,
        observation=msgspec.structs.replace(
            seen,
            value=_plain(seen.value, _TEXT_LENGTH_MAX)
            if isinstance(seen.value, str)
            else seen.value,
            raw_value=None,
            native=native,
            text=_plain(seen.text, _TEXT_LENGTH_MAX),
            raw=seen.raw[:RAW_LENGTH_MAX],
            state=(),
            changed=(),
            details={},
            flags=(*seen.flags[:8], TRUNCATED),
        ),
    )


def _bare(record: Record) -> Record:
    """Keep what an alarm cannot do without."""
    seen = record.observation
    return msgspec.structs.replace(
        record,
        observation=Observation(
            point=_plain(seen.point, POINT_LENGTH_MAX),
            kind=_plain(seen.kind, _NAME_LENGTH_MAX),
            subkind=_plain(seen.subkind, _NAME_LENGTH_MAX),
            condition=_plain(seen.condition, _NAME_LENGTH_MAX),
            qualifier=_plain(seen.qualifier, _NAME_LENGTH_MAX),
            source=_plain(seen.source, POINT_LENGTH_MAX),
            text=_plain(seen.text, _TEXT_LENGTH_MAX),
            raw=bytes(seen.raw[:RAW_LENGTH_MAX]),
            flags=(TRUNCATED,),
        ),
    )


def _plain(text: str, length: int) -> str:
    """Return at most `length` characters of a text, with nothing in it that UTF-8 cannot say."""
    return text[:length].encode("utf-8", "backslashreplace").decode("utf-8")
