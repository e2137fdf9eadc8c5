"""How much of a month each gateway was there, from intervals that survive restarts.

Pure; `station.attendance` keeps the intervals. The station keeps two kinds of intervals in wall
time: its own runs, and for each gateway from the first word to the last one before a silence that
was announced as a loss. What lies between two of a gateway's is lost if its loss was announced, and
unknown otherwise; outside the station's own runs everything is unknown. Unknown time counts for
nobody.
"""

from collections.abc import Iterable
from dataclasses import dataclass

Interval = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """One interval in which a gateway was there, in POSIX microseconds."""

    began_us: int
    ended_us: int
    lost: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """A gateway's part of a period. `losses` began in it; `longest_us` is the longest of them."""

    up_us: int
    lost_us: int
    unknown_us: int
    losses: int
    longest_us: int

    @property
    def ratio(self) -> float | None:
        """Return the part of the known time in which it was there; None if nothing is known."""
        known_us = self.up_us + self.lost_us
        return self.up_us / known_us if known_us else None


def availability(
    runs: Iterable[Interval], presences: Iterable[Presence], period: Interval
) -> Availability | None:
    """Return a gateway's availability in a period; None where it was not there yet.

    runs, presences: in the order of their recording. Where a clock was set back, what was recorded
    first counts.
    """
    ordered = _without_overlaps(presences)
    watched = _merged(_clipped(run, period) for run in runs)
    first = next((each.began_us for each in ordered), None)
    if first is None or first >= period[1]:
        return None
    up_us = lost_us = losses = longest_us = 0
    for index, each in enumerate(ordered):
        up_us += _overlap((each.began_us, each.ended_us), watched)
        if not each.lost:
            continue
        later = ordered[index + 1].began_us if index + 1 < len(ordered) else period[1]
        away_us = _overlap((each.ended_us, later), watched)
        lost_us += away_us
        longest_us = max(longest_us, away_us)
        losses += period[0] <= each.ended_us < period[1]
    whole_us = period[1] - max(period[0], first)
    return Availability(
        up_us=up_us,
        lost_us=lost_us,
        unknown_us=max(0, whole_us - up_us - lost_us),
        losses=losses,
        longest_us=longest_us,
    )


def _without_overlaps(presences: Iterable[Presence]) -> list[Presence]:
    ordered: list[Presence] = []
    reached = None
    for each in presences:
        began_us = each.began_us if reached is None else max(each.began_us, reached)
        if each.ended_us < began_us:
            continue
        ordered.append(Presence(began_us=began_us, ended_us=each.ended_us, lost=each.lost))
        reached = each.ended_us
    return ordered


def _clipped(interval: Interval, period: Interval) -> Interval:
    return max(interval[0], period[0]), min(interval[1], period[1])


def _merged(intervals: Iterable[Interval]) -> list[Interval]:
    merged: list[Interval] = []
    for began, ended in sorted(intervals):
        if ended <= began:
            continue
        if merged and began <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], ended))
        else:
            merged.append((began, ended))
    return merged


def _overlap(interval: Interval, others: Iterable[Interval]) -> int:
    return sum(
        max(0, min(interval[1], ended) - max(interval[0], began)) for began, ended in others
    )
