"""The chain over a log: each event's value depends on all before it.

The algorithm is fixed for the life of the format: SHA-256 over the previous value, the number as
8 bytes big-endian, and the body, cut to 16 bytes. The value before the first event is taken from
the log id, so that two logs never share a chain.
"""

import hashlib
from collections.abc import Sequence

from events.replication import Entry

CHAIN_LENGTH = 16


def genesis(log_id: str) -> bytes:
    """Return the chain value at number 0 of a log."""
    return hashlib.sha256(b"nplus-log\x00" + log_id.encode()).digest()[:CHAIN_LENGTH]


def link(previous: bytes, seq: int, body: bytes) -> bytes:
    """Return the chain value at `seq`, given the value at `seq - 1`."""
    digest = hashlib.sha256(previous)
    digest.update(seq.to_bytes(8, "big"))
    digest.update(body)
    return digest.digest()[:CHAIN_LENGTH]


def follow(previous: bytes, seq: int, entries: Sequence[Entry]) -> tuple[int, bytes]:
    """Return how many entries continue the log after number `seq`, and the chain value there.

    It ends at the first one that has another number than the next, no body, or a body that does
    not fit its chain value. Every event of every catch-up comes through this loop.
    """
    sha256 = hashlib.sha256
    count = 0
    for entry in entries:
        seq += 1
        body = entry.body
        if entry.seq != seq or body is None:
            break
        value = sha256(previous + seq.to_bytes(8, "big") + body).digest()[:CHAIN_LENGTH]
        if value != entry.chain:
            break
        previous = value
        count += 1
    return count, previous
