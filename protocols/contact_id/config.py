"""A `[[receiver]]` section: an alarm receiver on a serial port, and the points it reports for."""

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from events.points import NAME_PATTERN, POINT_LENGTH_MAX, POINT_PATTERN
from protocols.ports import SerialPort

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, max_length=64)]
PointId = Annotated[str, msgspec.Meta(pattern=POINT_PATTERN, max_length=POINT_LENGTH_MAX)]
Account = Annotated[str, msgspec.Meta(pattern="^[0-9A-F]{4}$")]
Address = Annotated[str, msgspec.Meta(pattern="^[0-9A-F]{3}$")]
Partition = Annotated[str, msgspec.Meta(pattern="^[0-9A-F]{2}$")]
RepeatWindowS = Annotated[float, msgspec.Meta(ge=0, le=300)]
AcknowledgeS = Annotated[float, msgspec.Meta(gt=0, le=30)]
SilenceS = Annotated[float, msgspec.Meta(ge=0, le=86_400)]

POINTS_MAX = 4096

Path = tuple[str | int, ...]
Finding = tuple[Path, str, bool]
"""Path inside the section, message, and whether it is only a warning."""

_RECEIVER_PATIENCE_S = 4.0  # Sur-Gard MLR2 and System III repeat after this
_RECEIVER_REPEATS_S = 12.0  # and have repeated three times after this
_HEARTBEAT_S = 30.0


class ReceiverPoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A zone or user of one account, under an id of our own.

    address: whether the three digits name a zone or a user; the event code decides which they are.
    partition: only events of this partition; by default of any.
    """

    id: PointId
    account: Account
    zone: Address
    address: Literal["zone", "user"] = "zone"
    partition: Partition | None = None
    label: str = ""
    urgent: bool = False


class Receiver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver.

    strip_parity: for a 7-bit port that is read with 8: the parity is checked, then taken off.
    repeat_window_s: an identical message that comes next within this time is a repeat.
    acknowledge_within_s: a message that is not on disk by then is not acknowledged any more.
    silence_s: silence after which the receiver has a communication fault; 0 switches this off.
    urgent: what the receiver says of itself takes the urgent lane; so does what it says in
        formats that are kept as they came, which may be alarms.
    """

    id: Name
    format: Literal["mlr2", "system3", "685"]
    port: SerialPort
    strip_parity: bool = False
    repeat_window_s: RepeatWindowS = 15.0
    acknowledge_within_s: AcknowledgeS = 4.0
    silence_s: SilenceS = 90.0
    label: str = ""
    urgent: bool = False
    point: Annotated[tuple[ReceiverPoint, ...], msgspec.Meta(max_length=POINTS_MAX)] = ()


def check(receiver: Receiver) -> Iterator[Finding]:
    """Yield every cross-field fault of one section."""
    yield from _check_times(receiver)
    if receiver.strip_parity and receiver.port.data_bits == 7:
        yield (
            ("strip_parity",),
            "the port takes the parity off itself: set data_bits = 8 and parity = 'none',"
            " or leave strip_parity out",
            False,
        )
    ids: dict[str, int] = {}
    places: dict[tuple[str, str, str, str | None], int] = {}
    for index, point in enumerate(receiver.point):
        if ids.setdefault(point.id, index) != index:
            yield ("point", index, "id"), f"the id {point.id!r} is used more than once", False
        place = (point.account, point.address, point.zone, point.partition)
        owner = places.setdefault(place, index)
        if owner != index:
            yield (
                ("point", index, "zone"),
                f"{point.address} {point.zone} of account {point.account} already belongs to"
                f" {receiver.point[owner].id!r}",
                False,
            )


def _check_times(receiver: Receiver) -> Iterator[Finding]:
    if receiver.acknowledge_within_s > _RECEIVER_PATIENCE_S:
        yield (
            ("acknowledge_within_s",),
            f"most receivers repeat after {_RECEIVER_PATIENCE_S:g} s and would take a later"
            " acknowledgement for that of the next message",
            True,
        )
    if receiver.repeat_window_s < _RECEIVER_REPEATS_S:
        yield (
            ("repeat_window_s",),
            f"a receiver's third repeat comes after {_RECEIVER_REPEATS_S:g} s: it would be stored"
            " again",
            True,
        )
    if 0 < receiver.silence_s <= _HEARTBEAT_S:
        yield (
            ("silence_s",),
            f"receivers send a heartbeat every {_HEARTBEAT_S:g} s: every pause would be a fault",
            True,
        )
