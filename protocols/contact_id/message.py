"""The sixteen digits of Contact ID (SIA DC-05), as they go over a telephone line.

`ACCT MT Q EEE GG CCC S`: account, message type 18 (98 in older panels), qualifier, event, group
(partition), zone or user, checksum. The digits are 0 to 9 and B to F; A is not used.
"""

from dataclasses import dataclass

from events.errors import LocalProtocolError, RemoteProtocolError

MESSAGE_LENGTH = 16
MESSAGE_TYPES = frozenset({"18", "98"})
QUALIFIERS = frozenset("136")
DIGITS = "0123456789BCDEF"

_WIDTHS = {
    "account": 4,
    "message_type": 2,
    "qualifier": 1,
    "event": 3,
    "group": 2,
    "zone_or_user": 3,
}
_VALUES = {digit: int(digit, 16) or 10 for digit in DIGITS}  # 0 counts as 10
_BY_VALUE = {_VALUES[digit]: digit for digit in "123456789BCDEF"}
_BY_VALUE[10] = "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One event of one account. Raises `LocalProtocolError` for what cannot be sent."""

    account: str
    qualifier: str
    event: str
    group: str
    zone_or_user: str
    message_type: str = "18"

    def __post_init__(self) -> None:
        for name, width in _WIDTHS.items():
            value: str = getattr(self, name)
            if len(value) != width or not set(value) <= set(DIGITS):
                raise LocalProtocolError(f"{name} {value!r} is not {width} digits of Contact ID")
        if self.message_type not in MESSAGE_TYPES or self.qualifier not in QUALIFIERS:
            raise LocalProtocolError(
                f"message type {self.message_type!r}, qualifier {self.qualifier!r}"
            )

    @property
    def digits(self) -> str:
        """Return the fifteen digits before the checksum."""
        return "".join(getattr(self, name) for name in _WIDTHS)

    @property
    def checksum(self) -> str:
        """Return the digit that makes the sum of all sixteen a multiple of 15, 0 counting 10."""
        return _BY_VALUE[15 - sum(_VALUES[digit] for digit in self.digits) % 15]

    def to_bytes(self) -> bytes:
        """Return the sixteen digits as ASCII."""
        return (self.digits + self.checksum).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> "Message":
        """Return the message in sixteen ASCII digits.

        Raises `RemoteProtocolError` for another length, another digit, type or qualifier, and for
        a checksum that does not fit.
        """
        text = data.decode("ascii", errors="replace")
        if len(text) != MESSAGE_LENGTH:
            raise RemoteProtocolError(f"{len(text)} digits, not {MESSAGE_LENGTH}")
        values: dict[str, str] = {}
        start = 0
        for name, width in _WIDTHS.items():
            values[name] = text[start : start + width]
            start += width
        try:
            message = cls(**values)
        except LocalProtocolError as error:
            raise RemoteProtocolError(str(error)) from error
        if text[-1] != message.checksum:
            raise RemoteProtocolError(f"checksum {text[-1]}, not {message.checksum}")
        return message
