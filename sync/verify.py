"""Is this batch what it must be? Numbers without holes, chain values that continue ours.

Pure judgement. The three answers that are not a verdict are exceptions, each with its own
consequence for the conversation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from events.chain import CHAIN_LENGTH, follow, link
from events.errors import LogRewound, SyncError
from events.replication import Entry, Gap
from sync.messages import MalformedMessage

UNKNOWN_CHAIN = bytes(CHAIN_LENGTH)  # after an undeclared gap: what follows cannot be checked
UNDECLARED = "undeclared"

Copies = Mapping[tuple[int, bytes], bytes]


class MissingCopy(SyncError):  # noqa: N818 - the state has a name of its own
    """An event came without its body, and the copy that went ahead is not in the ledger."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"the urgent copy of event {seq} is not held")
        self.seq = seq


class Unanchored(SyncError):  # noqa: N818 - the state has a name of its own
    """A gap comes next, and nothing shows that it continues the history that is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the reading stands. `anchored`: what comes after it was seen to continue its chain.

    verified: it was, over another connection of this run of the gateway.
    """

    seq: int
    chain: bytes
    anchored: bool
    verified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a main batch holds: events with bodies, checked copies, gaps, and what is odd in it.

    undeclared: number ranges that neither an event nor a gap accounts for.
    """

    entries: tuple[Entry, ...]
    confirmed: int
    gaps: tuple[Gap, ...]
    undeclared: tuple[Gap, ...]
    suspect: tuple[int, ...]
    through: int
    chain: bytes


def judge_main(
    place: Place,
    entries: Sequence[Entry],
    gaps: Sequence[Gap],
    *,
    bare_through: int,
    copies: Copies,
) -> Verdict:
    """Check a batch of the main lane that begins after `place`.

    Raises `LogRewound` when its first event does not continue a place of ours that was not yet
    anchored, `Unanchored` where a gap hides whether it does, `MissingCopy`, and `MalformedMessage`
    for numbers out of order.
    """
    if entries and not gaps and place.chain != UNKNOWN_CHAIN:
        count, chain = follow(place.chain, place.seq, entries)
        if count == len(entries):
            return _straight(tuple(entries), chain)
    bodies: list[Entry] = []
    undeclared: list[Gap] = []
    suspect: list[int] = []
    seq, chain = place.seq, place.chain
    for item in _in_order(entries, gaps):
        first = item.seq if isinstance(item, Entry) else item.first
        if first <= seq:
            raise MalformedMessage(f"number {first} after number {seq}")
        if first > seq + 1:
            undeclared.append(Gap(seq + 1, first - 1, UNKNOWN_CHAIN, UNDECLARED))
            chain = UNKNOWN_CHAIN
        if isinstance(item, Gap):
            _check_gap(item, place, seq)
            seq, chain = item.last, item.chain
            continue
        body = _body(item, bare_through, copies)
        if chain != UNKNOWN_CHAIN and link(chain, first, body) != item.chain:
            if seq == place.seq and seq > 0 and not place.anchored:
                raise LogRewound(
                    f"event {first} does not continue the history that is held up to {seq}",
                    hint="was the card cloned, or restored from an image?",
                )
            suspect.append(first)
        if item.body is not None:
            bodies.append(item)
        seq, chain = first, item.chain
    return Verdict(
        entries=tuple(bodies),
        confirmed=len(entries) - len(bodies),
        gaps=tuple(gaps),
        undeclared=tuple(undeclared),
        suspect=tuple(suspect),
        through=seq,
        chain=chain,
    )


def _straight(entries: tuple[Entry, ...], chain: bytes) -> Verdict:
    """Return the verdict on whole events that continue the log one by one."""
    return Verdict(
        entries=entries,
        confirmed=0,
        gaps=(),
        undeclared=(),
        suspect=(),
        through=entries[-1].seq,
        chain=chain,
    )


def _check_gap(gap: Gap, place: Place, seq: int) -> None:
    """Raise unless a gap continues our chain: behind it another history would look like ours."""
    first = seq == place.seq and seq > 0 and not place.anchored
    if not first or place.chain in {UNKNOWN_CHAIN, gap.before}:
        return
    if not gap.before:
        if place.verified:
            return
        raise Unanchored(
            f"numbers {gap.first} to {gap.last} are gone, and what was before as well"
        )
    raise LogRewound(
        f"the gap from {gap.first} does not continue the history that is held",
        hint="was the card cloned, or restored from an image?",
    )


def check_urgent(after: int, entries: Sequence[Entry], through: int) -> None:
    """Check a batch of the urgent lane. Raises `MalformedMessage`.

    Its numbers have holes by nature; the main lane checks the chain when it comes by.
    """
    seq = after
    for entry in entries:
        if entry.seq <= seq or entry.body is None:
            raise MalformedMessage(f"urgent event {entry.seq} after number {seq}, or without body")
        seq = entry.seq
    if through < seq:
        raise MalformedMessage(f"answered through {through}, with an event numbered {seq}")


def _in_order(entries: Sequence[Entry], gaps: Sequence[Gap]) -> Sequence[Entry | Gap]:
    if not gaps:
        return entries
    return sorted(
        [*entries, *gaps], key=lambda item: item.seq if isinstance(item, Entry) else item.first
    )


def _body(entry: Entry, bare_through: int, copies: Copies) -> bytes:
    if entry.body is not None:
        return entry.body
    if entry.seq > bare_through:
        raise MalformedMessage(f"event {entry.seq} without the body that was asked for")
    body = copies.get((entry.seq, entry.chain))
    if body is None:
        raise MissingCopy(entry.seq)
    return body
