"""What a sink asks of the ledger. Each is done once, and told apart by identity."""

from dataclasses import dataclass

from events.model import Instant
from sync.ledger import Commit


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Load:
    """Ask the ledger for cursors."""

    log_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lookup:
    """Ask the ledger for urgent copies."""

    log_id: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Store:
    """Have the ledger commit; `received` is when the batch came, `size` what it counts."""

    commit: Commit
    received: Instant
    size: int = 0


Work = Load | Lookup | Store
