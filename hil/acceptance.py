"""What counts as accepted: device journals turned into books for the account.

Pure. A device's journal says what happened at the device and what it saw of the gateway; nothing
here comes from the product's counters. Three kinds of device, three meanings of accepted:

Panel (a receiver that waits for an acknowledgement)
    A message is accepted when the receiver read 06 for it. A message that was sent and never
    acknowledged may stand at the station or not.

Contact (a level that the gateway watches)
    A level is *seen* when it held for the qualification time plus `margin_s` within one watch: from
    the moment when the gateway, asked over the bench's socket, had answered that it has read all
    levels, to its end. It is *unseen* when it began and ended within a watch in less than the
    qualification time less `slack_s`, or lay wholly outside every watch. Anything else is
    *doubtful*.

Module (polled registers)
    A level is *seen* when the module answered it in two polls of one watch, the second at least
    `margin_s` before the watch ended; unseen when it never answered it; otherwise doubtful. An
    answer tells of the level at the moment when the module read it, which may be over by the time
    when the answer leaves.

A seen level must be an event when it differs from every level that may have been stored last: that
is also how a change in the time when nobody watched is found at the next start, and why a pulse
wholly inside that time is not accepted. A doubtful level may be an event or not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from events.kinds import Qualifier
from hil.account import Condition, Signal

Sight = Literal["seen", "doubtful", "unseen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A time in which the gateway watched: `joined_s` ≤ `watching_s` ≤ `ended_s`, monotonic.

    joined_s: it could first have read a level; watching_s: it is known to have read them all.
    """

    joined_s: float
    watching_s: float
    ended_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A level that held from `from_s` to `to_s`."""

    on: bool
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A run, what the gateway must know of it, and since when."""

    run: Run
    sight: Sight
    since_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a module: when it read the level, and when the answer had left."""

    read_s: float
    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a panel: the end of the transmission that counted, and its acknowledgement."""

    condition: Condition
    qualifier: str
    sent_s: float
    acknowledged_s: float | None


def runs(changes: Sequence[tuple[float, bool]], end_s: float) -> list[Run]:
    """Return the runs of a level that was set at the given moments and held until `end_s`."""
    found: list[Run] = []
    for moment, on in changes:
        if found and found[-1].on == on:
            continue
        if found:
            found[-1] = Run(on=found[-1].on, from_s=found[-1].from_s, to_s=moment)
        found.append(Run(on=on, from_s=moment, to_s=end_s))
    return found


def contact_sight(
    run: Run, watches: Iterable[Watch], *, qualify_s: float, margin_s: float, slack_s: float
) -> Seen:
    """Judge one run of a contact."""
    sight: Sight = "unseen"
    for watch in watches:
        held_s = min(run.to_s, watch.ended_s) - max(run.from_s, watch.watching_s)
        if held_s >= qualify_s + margin_s:
            since_s = max(run.from_s, watch.watching_s) + qualify_s
            return Seen(run=run, sight="seen", since_s=since_s)
        within = watch.watching_s <= run.from_s and run.to_s <= watch.ended_s
        touched = run.from_s < watch.ended_s and watch.joined_s < run.to_s
        if touched and not (within and held_s < qualify_s - slack_s):
            sight = "doubtful"
    return Seen(run=run, sight=sight, since_s=run.from_s + qualify_s)


def module_sight(
    run: Run, watches: Iterable[Watch], answers: Sequence[Answer], *, margin_s: float
) -> Seen:
    """Judge one run of a polled input by the answers that told of its level."""
    own = [each.left_s for each in answers if run.from_s <= each.read_s < run.to_s]
    for watch in watches:
        mine = [moment for moment in own if watch.joined_s <= moment < watch.ended_s]
        if len(mine) >= 2 and mine[1] + margin_s <= watch.ended_s:
            return Seen(run=run, sight="seen", since_s=mine[0])
    if own:
        return Seen(run=run, sight="doubtful", since_s=own[0])
    return Seen(run=run, sight="unseen", since_s=run.from_s)


def level_signals(
    condition: Condition, history: Sequence[Seen], *, live: Sequence[tuple[float, float]]
) -> tuple[tuple[Signal, ...], dict[Condition, bool]]:
    """Return what a level must have put on record, and its last state if that is certain.

    `live` are the times in which gateway and network were up. A first level that is off may be
    recorded or not: there is nothing to compare it with.
    """
    stored: set[bool | None] = {None}  # the levels that may have been stored last
    signals: list[Signal] = []
    for seen in history:
        on = seen.run.on
        if seen.sight == "unseen" or stored == {on}:
            continue
        certain = seen.sight == "seen"
        first_off = None in stored and not on
        signals.append(
            _signal(
                condition,
                Qualifier.NEW if on else Qualifier.RESTORE,
                required=certain and on not in stored and not first_off,
                since_s=seen.since_s,
                live=any(start <= seen.since_s < end for start, end in live),
                first=first_off,
            )
        )
        stored = {on} if certain else stored | {on}
    certain_end = bool(history) and history[-1].sight == "seen"
    return tuple(signals), {condition: history[-1].run.on} if certain_end else {}


def panel_signals(
    messages: Sequence[Message], *, live: Sequence[tuple[float, float]]
) -> tuple[tuple[Signal, ...], dict[Condition, bool]]:
    """Return what a panel's messages must have put on record, and the last states they left."""
    signals: list[Signal] = []
    finals: dict[Condition, bool] = {}
    for message in messages:
        accepted = message.acknowledged_s is not None
        signals.append(
            _signal(
                message.condition,
                message.qualifier,
                required=accepted,
                since_s=message.sent_s,
                live=any(start <= message.sent_s < end for start, end in live),
            )
        )
        if accepted:
            finals[message.condition] = message.qualifier != Qualifier.RESTORE
        else:
            finals.pop(message.condition, None)
    return tuple(signals), finals


def _signal(
    condition: Condition,
    qualifier: str,
    *,
    required: bool,
    since_s: float,
    live: bool,
    first: bool = False,
) -> Signal:
    point, kind, subkind = condition
    return Signal(
        point=point,
        kind=kind,
        subkind=subkind,
        qualifier=qualifier,
        required=required,
        since_s=since_s,
        live=live,
        first=first,
    )
