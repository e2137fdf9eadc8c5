"""The chain over a log: each event's value depends on all before it.

The algorithm is fixed for the life of the format: SHA-256 over the previous value, the number as
8 bytes big-endian, and the body, cut to 16 bytes. The value before the first event is taken from
the log id, so that two logs never share a chain.
"""

import hashlib

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
