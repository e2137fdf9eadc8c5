"""Messages as bytes: msgpack with a `type` tag, bounded, checked once where they come in.

Whatever does not fit raises `MalformedMessage`; after `decode` every number is in range and every
chain value has its length. The entries of a batch are a msgpack array of their own, compressed
with zstd where that pays.
"""

from collections.abc import Sequence

import msgspec
import zstandard

from events.chain import CHAIN_LENGTH
from events.commands import ChallengeOffer, ChallengeRequest, Command, Inquiry, Outcome
from events.errors import PeerRejected, SyncError
from events.model import Instant, Stamp
from events.replication import (
    MESSAGE_LENGTH_MAX,
    PERIOD_S_MAX,
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    Batch,
    Entry,
    Fetch,
    Hello,
    Message,
    Refused,
    Welcome,
)

CONTROL_LENGTH_MAX = 64 * 1024  # every message but a batch
LOGS_MAX = 8  # in one hello
PATHS_MAX = 16
GAPS_MAX = 10_000  # in one batch
TEXT_LENGTH_MAX = 1000  # names, log ids, sentences
NUMBER_MAX = 2**63 - 1  # what an SQLite integer holds
COMPRESS_LENGTH_MIN = 512  # shorter entries are sent as they are
ZSTD = "zstd"

_LEVEL = 1  # 3 packs no smaller, from 4 KiB to 128 KiB of events, in half again the time
_WINDOW_LENGTH_MAX = 8 * 1024 * 1024


class MalformedMessage(SyncError):  # noqa: N818 - the state has a name of its own
    """Bytes that are not a message of this protocol."""


class VersionMismatch(PeerRejected):
    """The other side speaks no version of the protocol that this program speaks."""


class _Opening(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a hello that every version of the protocol keeps."""

    type: str
    protocol_min: int
    protocol_max: int


_encoder = msgspec.msgpack.Encoder()
_message: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)
_opening = msgspec.msgpack.Decoder(_Opening)
_entries = msgspec.msgpack.Decoder(tuple[Entry, ...])
_compressor = zstandard.ZstdCompressor(level=_LEVEL)
_decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_LENGTH_MAX)


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """Return the message in `data`.

    Raises `VersionMismatch` for a hello of a protocol that we do not speak, whatever else it says,
    and `MalformedMessage` for anything else that is not a message.
    """
    if len(data) > MESSAGE_LENGTH_MAX:
        raise MalformedMessage(f"message of {len(data)} bytes, at most {MESSAGE_LENGTH_MAX} fit")
    try:
        message = _message.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _check_version(data)
        raise MalformedMessage(f"not a message: {error}") from error
    if not isinstance(message, Batch) and len(data) > CONTROL_LENGTH_MAX:
        raise MalformedMessage(f"{type(message).__name__} of {len(data)} bytes")
    if isinstance(message, Hello):
        common_version(message.protocol_min, message.protocol_max)
    _check(message)
    return message


def common_version(lowest: int, highest: int) -> int:
    """Return the newest version that both sides speak. Raises `VersionMismatch`."""
    version = min(highest, PROTOCOL_MAX)
    if version < max(lowest, PROTOCOL_MIN):
        raise VersionMismatch(
            f"the gateway speaks protocol {lowest} to {highest},"
            f" the station {PROTOCOL_MIN} to {PROTOCOL_MAX}",
            hint="update the older of the two programs",
        )
    return version


def encode_entries(entries: Sequence[Entry]) -> tuple[bytes, str]:
    """Return the entries of a batch and their encoding: empty, or `zstd` where that is smaller."""
    if not entries:
        return b"", ""
    plain = _encoder.encode(entries)
    if len(plain) >= COMPRESS_LENGTH_MIN:
        packed = _compressor.compress(plain)
        if len(packed) < len(plain):
            return packed, ZSTD
    return plain, ""


def decode_entries(batch: Batch) -> tuple[Entry, ...]:
    """Return the entries of a batch, at most `MESSAGE_LENGTH_MAX` bytes of them.

    Raises `MalformedMessage`. The bodies are whatever they are: nobody here reads them.
    """
    plain = batch.entries
    if batch.encoding == ZSTD:
        plain = _decompress(plain)
    elif batch.encoding:
        raise MalformedMessage(f"entries in an unknown encoding {batch.encoding[:20]!r}")
    if not plain:
        return ()
    try:
        entries = _entries.decode(plain)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"entries cannot be decoded: {error}") from error
    for entry in entries:
        if not 0 < entry.seq <= NUMBER_MAX or len(entry.chain) != CHAIN_LENGTH:
            raise MalformedMessage("an entry without a valid place in the log")
    return entries


def weight(entries: Sequence[Entry]) -> int:
    """Return what entries count against the `limit_bytes` of a fetch."""
    return sum(CHAIN_LENGTH + 8 + len(entry.body or b"") for entry in entries)


def stamp(now: Instant, boot_id: str) -> Stamp:
    """Return an instant as it is written into messages."""
    return Stamp(
        monotonic_us=round(now.monotonic * 1_000_000),
        boot_id=boot_id,
        wall_us=None if now.wall is None else round(now.wall * 1_000_000),
        clock=now.clock,
    )


def _check_version(data: bytes) -> None:
    try:
        opening = _opening.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    if opening.type == "hello":
        common_version(opening.protocol_min, opening.protocol_max)


def _decompress(data: bytes) -> bytes:
    try:
        # The header's size is what the library allocates, whatever `max_output_size` says.
        if not 0 <= zstandard.frame_content_size(data) <= MESSAGE_LENGTH_MAX:
            raise MalformedMessage("entries that unpack to more than a message may hold")
        return _decompressor.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedMessage(f"entries cannot be unpacked: {error}") from error


def _check(message: Message) -> None:
    match message:
        case Hello():
            _check_hello(message)
        case Fetch():
            _check_numbers(
                message.id,
                message.after,
                message.stored,
                message.limit_bytes,
                message.follows,
                message.bare_through,
            )
            _check_seconds(message.hold_s)
            _check_texts(message.log_id)
        case Batch():
            _check_batch(message)
        case Welcome():
            _check_texts(message.program, message.name)
        case Refused():
            _check_texts(message.reason, message.text)
        case ChallengeRequest() | ChallengeOffer() | Command() | Inquiry() | Outcome():
            return  # their types bound them


def _check_hello(hello: Hello) -> None:
    if len(hello.logs) > LOGS_MAX:
        raise MalformedMessage(f"hello with {len(hello.logs)} logs, at most {LOGS_MAX} fit")
    if len(hello.lost) > PATHS_MAX:
        raise MalformedMessage(f"hello that names {len(hello.lost)} paths")
    _check_texts(hello.program, hello.name, hello.boot_id, hello.path, hello.instance, *hello.lost)
    _check_numbers(hello.rank)
    _check_seconds(hello.period_s)
    for log in hello.logs:
        _check_texts(log.log_id)
        _check_numbers(log.first, log.head)
        _check_chain(log.chain)
    if len({log.log_id for log in hello.logs}) != len(hello.logs):
        raise MalformedMessage("hello that names a log twice")


def _check_batch(batch: Batch) -> None:
    if len(batch.gaps) > GAPS_MAX:
        raise MalformedMessage(f"batch with {len(batch.gaps)} gaps, at most {GAPS_MAX} fit")
    _check_texts(batch.log_id)
    _check_numbers(batch.id, batch.through, batch.head)
    for gap in batch.gaps:
        _check_numbers(gap.first, gap.last)
        _check_texts(gap.why)
        _check_chain(gap.chain)
        if gap.before:
            _check_chain(gap.before)
        if not 0 < gap.first <= gap.last:
            raise MalformedMessage("a gap that ends before it begins")


def _check_numbers(*numbers: int) -> None:
    for number in numbers:
        if not 0 <= number <= NUMBER_MAX:
            raise MalformedMessage("a number out of range")


def _check_seconds(seconds: float) -> None:
    if not 0 <= seconds <= PERIOD_S_MAX:  # nor is it "not a number"
        raise MalformedMessage("a time out of range")


def _check_texts(*texts: str) -> None:
    for text in texts:
        if len(text) > TEXT_LENGTH_MAX:
            raise MalformedMessage(f"a text of {len(text)} characters")


def _check_chain(chain: bytes) -> None:
    if len(chain) != CHAIN_LENGTH:
        raise MalformedMessage(f"a chain value of {len(chain)} bytes")
