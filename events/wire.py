"""The versioned form in which a record lives on disk, on the network and at the station.

A body is a msgpack array `[version, record]`. The version counts incompatible forms only; fields
are added without changing it, and a reader ignores the ones it does not know. Nobody re-encodes a
body: the gateway's bytes are the event, for ever.
"""

import msgspec

from events.errors import UnreadableEvent
from events.model import Record

WIRE_VERSION = 1
BODY_LENGTH_MAX = 60_000


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    version: int
    record: msgspec.Raw


class _Body(msgspec.Struct, frozen=True, array_like=True, gc=False):
    version: int
    record: Record


_encoder = msgspec.msgpack.Encoder()
_body = msgspec.msgpack.Decoder(_Body)
_envelope = msgspec.msgpack.Decoder(_Envelope)
_record = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    """Return the body of a record."""
    return _encoder.encode((WIRE_VERSION, record))


def decode(body: bytes) -> Record:
    """Return the record in a body. Raises `UnreadableEvent` for anything this reader cannot read."""
    try:
        whole = _body.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_slowly(body)
    return whole.record if whole.version == WIRE_VERSION else _decode_slowly(body)


def _decode_slowly(body: bytes) -> Record:
    """Say what is wrong with a body that is not, in one piece, what this reader reads."""
    try:
        envelope = _envelope.decode(body)
        if envelope.version != WIRE_VERSION:
            raise UnreadableEvent(
                f"event body of form {envelope.version}, this program reads form {WIRE_VERSION}",
                hint="keep the bytes; a newer program can read them",
            )
        return _record.decode(envelope.record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableEvent(f"event body cannot be decoded: {error}") from error
