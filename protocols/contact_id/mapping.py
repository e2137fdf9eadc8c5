"""From a frame of a receiver to an observation in the house's words."""

from collections.abc import Iterable

from events.kinds import Kind, Qualifier, Subkind
from events.model import Native, Observation, Scalar
from events.points import segment
from protocols.contact_id.codes import lookup, qualifier
from protocols.contact_id.config import ReceiverPoint
from protocols.contact_id.formats import Format, Frame, FrameKind
from protocols.contact_id.message import Message

SCHEME = "contact-id"
_DIGITS = {"E": "1", "R": "3", "P": "6"}
_ADDRESS_KINDS = {"C": "zone", "U": "user"}
_PLACE = ("receiver", "line")


class Points:
    """The configured points of one receiver, found by what its messages say."""

    def __init__(self, receiver: str, points: Iterable[ReceiverPoint] = ()) -> None:
        self._receiver = receiver
        self._ids: dict[tuple[str, str, str, str | None], str] = {
            (point.account, point.address, point.zone, point.partition): point.id
            for point in points
        }

    def find(self, account: str, address: str, digits: str, partition: str) -> str:
        """Return the configured id, or `<receiver>/<account>/<digits>`."""
        place = (account, address, digits)
        return (
            self._ids.get((*place, partition))
            or self._ids.get((*place, None))
            or f"{self._receiver}/{segment(account)}/{segment(digits)}"
        )


def observe(frame: Frame, form: Format, receiver: str, points: Points) -> Observation:
    """Return what a frame says, of any kind but a heartbeat or noise."""
    if frame.kind is FrameKind.EVENT:
        return _event(frame, form, receiver, points)
    return _kept_as_it_came(frame, form, receiver)


def observe_digits(message: Message, receiver: str, points: Points) -> Observation:
    """Return what the sixteen digits of a telephone line say."""
    return _observation(
        message,
        receiver=receiver,
        points=points,
        address={"account": message.account},
        user=None,
        native={"checksum": message.checksum},
        raw=message.to_bytes(),
        integrity=("checksum",),
    )


def _event(frame: Frame, form: Format, receiver: str, points: Points) -> Observation:
    fields = frame.fields
    kind = fields.get("address_kind")
    integrity = ("terminator", "syntax")
    return _observation(
        Message(
            account=fields["account"].replace("A", "0"),
            qualifier=_DIGITS[fields["qualifier"]],
            event=fields["event"],
            group=fields["group"],
            zone_or_user=fields["zone_or_user"],
            message_type=fields["message_type"],
        ),
        receiver=receiver,
        points=points,
        address={name: fields[name] for name in (*_PLACE, "account")},
        user=None if kind is None else kind == "U",
        native={"format": form.name} | ({"address_kind": kind} if kind else {}),
        raw=frame.raw,
        integrity=(*integrity, "parity-stripped") if frame.parity_stripped else integrity,
    )


def _observation(
    message: Message,
    *,
    receiver: str,
    points: Points,
    address: dict[str, str],
    user: bool | None,
    native: dict[str, str],
    raw: bytes,
    integrity: tuple[str, ...],
) -> Observation:
    code = lookup(message.event)
    whom = code.address if user is None else ("user" if user else "zone")
    if message.group != "00":  # 00 means that the panel has no partitions
        address = {**address, "partition": message.group}
    fields: dict[str, Scalar] = {
        **native,
        "message_type": message.message_type,
        "group": message.group,
    }
    return Observation(
        point=points.find(address["account"], whom, message.zone_or_user, message.group),
        kind=code.kind,
        subkind=code.subkind,
        condition=message.event,  # 302 and 311 are both a battery's, and end by themselves
        qualifier=qualifier(code, message.qualifier),
        source=receiver,
        address={**address, whom: message.zone_or_user},
        native=Native(
            scheme=SCHEME,
            code=message.qualifier + message.event,
            text=code.name,
            fields=fields,
        ),
        raw=raw,
        integrity=integrity,
    )


def _kept_as_it_came(frame: Frame, form: Format, receiver: str) -> Observation:
    """Return a message that is not Contact ID, at the receiver's own point.

    What begins with 0 is what the receiver says of itself. The others may be alarms in a form that
    is not interpreted here: they are visible, with every byte, and not refused.
    """
    own = frame.fields.get("type") == "0"
    return Observation(
        point=receiver,
        kind=Kind.STATUS if own else Kind.INFORMATION,
        subkind=Subkind.EQUIPMENT if own else Subkind.UNKNOWN,
        qualifier=Qualifier.NEW,
        source=receiver,
        address={name: frame.fields[name] for name in _PLACE if name in frame.fields},
        native=Native(scheme=form.name, code=frame.fields.get("type", "")),
        text="".join(letter if letter.isprintable() else "\ufffd" for letter in frame.text),
        raw=frame.raw,
        flags=("unreadable",) if frame.kind is FrameKind.UNREADABLE else ("uninterpreted",),
    )
