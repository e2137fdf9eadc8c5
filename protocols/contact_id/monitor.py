"""Show what captured bytes say: the frames, what would be recorded, what would be answered."""

from collections.abc import Iterator

from events.errors import RemoteProtocolError
from events.model import Instant
from protocols.contact_id.codes import lookup
from protocols.contact_id.config import Receiver
from protocols.contact_id.formats import FORMATS, Format, Frame, FrameKind, Splitter
from protocols.contact_id.mapping import Points, observe_digits
from protocols.contact_id.message import MESSAGE_LENGTH, Message
from protocols.contact_id.receiver import ReceiverLink
from protocols.ports import SerialPort

SOURCE = "receiver"  # stands for the id that a configuration would give
SERIAL = {f"contact-id-{tag}": tag for tag in FORMATS}
TELEPHONE = "contact-id-dtmf"
PROTOCOLS = (*SERIAL, TELEPHONE)

_MEANINGS = {"1": "event/opening", "3": "restore/closing", "6": "previous status"}
_ADDRESS_KINDS = {"C": "zone", "U": "user"}
_OTHERS = {
    "0": "receiver-status",
    "1": "pulse",
    "3": "sia-level-1",
    "S": "sia-level-2",
}
_NOW = Instant(monotonic=0.0)

Line = dict[str, object]


def decode(protocol: str, data: bytes) -> Iterator[Line]:
    """Yield a dictionary per thing found in `data`: `frame`, `observation`, `send`, then `counts`.

    `observation` holds an `Observation`; everything is taken to be stored at once. A parity bit in
    bit 7 is checked and taken off. `protocol` is one of `PROTOCOLS`.
    """
    if protocol == TELEPHONE:
        yield from _decode_digits(data)
    else:
        yield from _decode_serial(SERIAL[protocol], data)


def _decode_serial(tag: str, data: bytes) -> Iterator[Line]:
    form = FORMATS[tag]
    splitter = Splitter(form, strip_parity=True)
    link = ReceiverLink(_receiver(tag))
    link.start(_NOW)
    frames = 0
    for frame in splitter.feed(data):
        if frame.kind not in (FrameKind.NOISE, FrameKind.UNREADABLE):
            frames += 1
            yield {"frame": _frame(frame, form)}
        link.take(frame, _NOW)
        seen = link.observations()
        link.stored(len(seen), _NOW)
        for observation in seen:
            yield {"observation": observation}
        if answer := link.to_send():
            yield {"send": answer.hex()}
    yield _counts(frames, splitter.rejected, splitter.discarded_bytes + splitter.unterminated)


def _receiver(tag: str) -> Receiver:
    # Every format of the table may be looked at, also one that no configuration can name yet.
    return Receiver(id=SOURCE, format=tag, port=SerialPort(path="-"))  # type: ignore[arg-type]


def _frame(frame: Frame, form: Format) -> Line:
    shown: Line = {"format": form.name}
    if frame.kind is not FrameKind.EVENT:
        kind = _OTHERS.get(frame.fields.get("type", ""), "heartbeat")
        shown |= {"kind": kind}
    shown |= {name: text for name, text in frame.fields.items() if name != "type"}
    if "event" in frame.fields:
        shown["event_name"] = lookup(frame.fields["event"]).name
    if "address_kind" in frame.fields:
        shown["address_kind"] = _ADDRESS_KINDS[frame.fields["address_kind"]]
    if frame.kind is FrameKind.OTHER:
        shown["text"] = frame.text
    answer = form.answer if frame.kind is FrameKind.HEARTBEAT else form.acknowledge
    return {**shown, "ack": answer.hex()}


def _decode_digits(data: bytes) -> Iterator[Line]:
    points = Points(SOURCE)
    frames = rejected = discarded = 0
    start = 0
    broken = False
    while start < len(data):
        try:
            message = Message.from_bytes(data[start : start + MESSAGE_LENGTH])
        except RemoteProtocolError:
            filler = data[start : start + 1].isspace()
            rejected += not broken and not filler
            broken = not filler
            discarded += 1
            start += 1
            continue
        frames, broken = frames + 1, False
        start += MESSAGE_LENGTH
        yield {"frame": _digits(message)}
        yield {"observation": observe_digits(message, SOURCE, points)}
    yield _counts(frames, rejected, discarded)


def _digits(message: Message) -> Line:
    return {
        "account": message.account,
        "message_type": message.message_type,
        "qualifier": message.qualifier,
        "qualifier_meaning": _MEANINGS[message.qualifier],
        "event": message.event,
        "event_name": lookup(message.event).name,
        "group": message.group,
        "zone_or_user": message.zone_or_user,
        "checksum": message.checksum,
    }


def _counts(frames: int, rejected: int, discarded: int) -> Line:
    return {
        "counts": {"frames": frames, "rejected": rejected, "discarded_bytes": discarded},
    }
