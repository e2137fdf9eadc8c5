"""What a command or its outcome carries beside its words: zstd, bounded on both sides."""

import zstandard

from events.commands import PAYLOAD_LENGTH_MAX, UNPACKED_LENGTH_MAX
from events.errors import UsageError

_LEVEL = 9


def pack(data: bytes) -> bytes:
    """Return `data` packed. Raises `UsageError` when it is too long to be sent."""
    packed = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
    if len(data) > UNPACKED_LENGTH_MAX or len(packed) > PAYLOAD_LENGTH_MAX:
        raise UsageError(
            f"{len(data)} bytes ({len(packed)} packed) are too many for one command",
            hint=f"up to {UNPACKED_LENGTH_MAX} bytes, {PAYLOAD_LENGTH_MAX} packed, can be sent",
        )
    return packed


def pack_tail(data: bytes) -> bytes:
    """Return as much of the end of `data` packed as can be sent."""
    data = data[-UNPACKED_LENGTH_MAX:]
    while True:
        packed = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
        if len(packed) <= PAYLOAD_LENGTH_MAX:
            return packed
        data = data[len(data) // 4 :]


def unpack(packed: bytes) -> bytes:
    """Return what was packed. Raises `UsageError` for anything else."""
    try:
        # The header's size is what the library allocates, whatever `max_output_size` says.
        if not 0 <= zstandard.frame_content_size(packed) <= UNPACKED_LENGTH_MAX:
            raise UsageError("a payload that unpacks to more than may be sent")
        return zstandard.ZstdDecompressor().decompress(packed, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise UsageError(f"a payload that cannot be unpacked: {error}") from error
