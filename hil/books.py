"""From the journals that devices kept to the books that the account reads. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from hil.acceptance import (
    Answer,
    Message,
    Seen,
    Watch,
    contact_sight,
    level_signals,
    module_sight,
    panel_signals,
    runs,
)
from hil.account import Book, Condition, Signal
from hil.parts.journal import Entry

MARGIN_S = 1.0
"""What a slow machine may add before a level that held, or an answer, is surely on disk."""

SLACK_S = 0.1
"""What a slow machine may make a short level look longer by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """What the bench knows about one gateway while the journals were kept.

    lives: start and end of each process of the gateway. live: the times in which its network was
    up as well. end_s: when the journals were closed. wall_s: wall clock minus monotonic clock.
    """

    lives: tuple[tuple[float, float], ...]
    live: tuple[tuple[float, float], ...]
    end_s: float
    wall_s: float


def contact_books(
    gateway: str,
    entries: Sequence[Entry],
    conditions: Mapping[str, Condition],
    era: Era,
    *,
    qualify_s: float,
) -> list[Book]:
    """Return one book for each contact of a board."""
    watched = watches(entries, era)

    def history(point: str) -> list[Seen]:
        return [
            contact_sight(run, watched, qualify_s=qualify_s, margin_s=MARGIN_S, slack_s=SLACK_S)
            for run in runs(_levels(entries, point), era.end_s)
        ]

    return [
        _level_book(gateway, "contact", condition, history(point), era)
        for point, condition in conditions.items()
    ]


def module_books(
    gateway: str, entries: Sequence[Entry], conditions: Mapping[str, Condition], era: Era
) -> list[Book]:
    """Return one book for each polled input of a module."""
    watched = [
        Watch(joined_s=start, watching_s=start, ended_s=min(end, era.end_s))
        for start, end in era.lives
    ]

    def history(point: str) -> list[Seen]:
        answers: dict[bool, list[Answer]] = {True: [], False: []}
        for entry in entries:
            if entry.event == "answered" and entry.point == point:
                read_s = entry.at_s if entry.read_s is None else entry.read_s
                answers[bool(entry.on)].append(Answer(read_s, entry.at_s))
        return [
            module_sight(run, watched, answers[run.on], margin_s=MARGIN_S)
            for run in runs(_levels(entries, point), era.end_s)
        ]

    return [
        _level_book(gateway, "modbus", condition, history(point), era)
        for point, condition in conditions.items()
    ]


def panel_book(
    gateway: str,
    device: str,
    entries: Sequence[Entry],
    conditions: Mapping[str, Condition],
    era: Era,
) -> Book:
    """Return the book of a receiver: its messages in the order in which they were sent."""
    signals, finals = panel_signals(list(_messages(entries, conditions)), live=era.live)
    return Book(
        gateway=gateway,
        device=device,
        input="panel",
        points=frozenset(conditions),
        signals=_on_the_wall(signals, era),
        finals=finals,
    )


def watches(entries: Iterable[Entry], era: Era) -> list[Watch]:
    """Return the times in which a board's gateway is known to have watched."""
    found: list[Watch] = []
    joined_s = watching_s = None
    for entry in entries:
        if entry.event == "joined":
            joined_s, watching_s = entry.at_s, None
        elif entry.event == "watching":
            watching_s = entry.at_s
        elif entry.event == "ended" and joined_s is not None:
            found.append(_watch(joined_s, watching_s, entry.at_s))
            joined_s = None
    if joined_s is not None:
        found.append(_watch(joined_s, watching_s, era.end_s))
    return found


def _watch(joined_s: float, watching_s: float | None, ended_s: float) -> Watch:
    """Return a watch; one that never got to watching is all doubt."""
    known_s = ended_s if watching_s is None else watching_s
    return Watch(joined_s=joined_s, watching_s=known_s, ended_s=ended_s)


def _level_book(
    gateway: str, source: str, condition: Condition, history: Sequence[Seen], era: Era
) -> Book:
    signals, finals = level_signals(condition, history, live=era.live)
    return Book(
        gateway=gateway,
        device=condition[0],
        input=source,
        points=frozenset({condition[0]}),
        signals=_on_the_wall(signals, era),
        finals=finals,
    )


def _levels(entries: Iterable[Entry], point: str) -> list[tuple[float, bool]]:
    return [(e.at_s, bool(e.on)) for e in entries if e.event == "level" and e.point == point]


def _messages(entries: Iterable[Entry], conditions: Mapping[str, Condition]) -> Iterable[Message]:
    """Yield each message once: `sent`, perhaps `repeated`, and `acknowledged` or never.

    A receiver sends one message at a time, so what follows a message belongs to it.
    """
    waiting: Message | None = None
    for entry in entries:
        if entry.event == "sent" and entry.point in conditions:
            if waiting is not None:
                yield waiting
            waiting = Message(
                condition=conditions[entry.point],
                qualifier=entry.text,
                sent_s=entry.at_s,
                acknowledged_s=None,
            )
        elif entry.event == "acknowledged" and waiting is not None:
            yield replace(waiting, acknowledged_s=entry.at_s)
            waiting = None
    if waiting is not None:
        yield waiting


def _on_the_wall(signals: Iterable[Signal], era: Era) -> tuple[Signal, ...]:
    return tuple(
        msgspec.structs.replace(signal, since_s=signal.since_s + era.wall_s) for signal in signals
    )
