"""How the clocks of a gateway's boots are tied to wall time, and what follows for old events.

A gateway stamps with its monotonic clock and with a wall clock that may be unset, wrong, or set
while it runs. Each word about it (a hello, an event `information`/`clock`) is a tie: both clocks at
one moment, and the station's at its coming. The stamps stay as they are; the time that is shown is
made from them and from the best tie of their boot, however late that came.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from events.model import ClockQuality, Stamp
from station.interpretation import Basis, clamped

STEP_US: Final = 500_000  # two offsets that differ by less are one clock, not set in between
TRAVEL_US: Final = 10_000_000  # a hello that travelled for longer says little
NEWS_US: Final = 50_000  # a tie that differs by less from the last one is not kept
TIES_MAX: Final = 50  # of one boot; beyond them the newest one is written over
BOOTS_MAX: Final = 1000  # of one gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """Both clocks of a gateway at one moment, and the station's when it was told."""

    monotonic_us: int
    wall_us: int | None
    clock: ClockQuality
    station_us: int | None

    @property
    def offset_us(self) -> int | None:
        """Its own wall time less its monotonic time, None while its clock was not set."""
        if self.wall_us is None or self.clock == ClockQuality.UNSET:
            return None
        return self.wall_us - self.monotonic_us

    @property
    def station_offset_us(self) -> int | None:
        """The station's wall time less the gateway's monotonic time: late by the travel."""
        return None if self.station_us is None else self.station_us - self.monotonic_us


class BootClock:
    """What is known of the clocks of one boot. `ties` in the order of their coming."""

    def __init__(self, ties: Sequence[Tie]) -> None:
        self.station_us = _least_travel(ties)
        self.best_us, self.steered = _best(ties, self.station_us)

    def time_of(
        self, stamp: Stamp, edge_us: int | None, received_us: int | None
    ) -> tuple[int | None, Basis]:
        """Return when an event of this boot happened, in POSIX microseconds, and by which clocks.

        None: nobody knew the time.
        """
        happened_us = stamp.monotonic_us
        if edge_us is not None and 0 <= edge_us <= happened_us:
            happened_us = edge_us
        offset_us, basis = self._offset(stamp)
        if offset_us is None:
            return received_us, Basis.RECEIVED
        return clamped(happened_us + offset_us), basis

    def _offset(self, stamp: Stamp) -> tuple[int | None, Basis]:
        own_us = None if stamp.wall_us is None else stamp.wall_us - stamp.monotonic_us
        best_us, station_us = self.best_us, self.station_us
        if own_us is not None and stamp.clock != ClockQuality.UNSET:
            if best_us is None or not self._is_better(own_us, best_us, stamp.clock):
                return own_us, Basis.GATEWAY
            return best_us, Basis.CORRECTED
        # A clock that was set by hand, far from what the station's says, is no better than that.
        if best_us is not None and (
            self.steered or station_us is None or abs(best_us - station_us) <= TRAVEL_US
        ):
            return best_us, Basis.CORRECTED
        return (station_us if own_us is None else own_us), Basis.STATION

    def _is_better(self, own_us: int, best_us: int, clock: ClockQuality) -> bool:
        """Tell whether the best tie says more than the stamp's own clock, which was set."""
        if abs(best_us - own_us) < STEP_US:
            return False
        steered = clock == ClockQuality.SYNCHRONISED
        if steered != self.steered:
            return self.steered
        if self.station_us is None:
            return True
        return abs(best_us - self.station_us) < abs(own_us - self.station_us)


def _least_travel(ties: Sequence[Tie]) -> int | None:
    """Return the station's offset by the hello that travelled least, of those near the newest."""
    said = [each for tie in ties if (each := tie.station_offset_us) is not None]
    return min((each for each in said if abs(each - said[-1]) <= TRAVEL_US), default=None)


def _best(ties: Sequence[Tie], station_us: int | None) -> tuple[int | None, bool]:
    """Return the gateway's own offset that is worth most, and whether a steered clock gave it.

    A steered clock before a free one; then what is nearest to the station's, since a clock can be
    set wrong as well; without a station's the newest, since a clock is set to mend it.
    """
    for steered in (True, False):
        own = [
            each
            for tie in ties
            if (tie.clock == ClockQuality.SYNCHRONISED) is steered
            and (each := tie.offset_us) is not None
        ]
        if not own:
            continue
        newest = own[-1]
        if station_us is None:
            return newest, steered
        nearest = min(own, key=lambda each: abs(each - station_us))
        return (newest if abs(newest - nearest) < STEP_US else nearest), steered
    return None, False


def note(
    connection: sqlite3.Connection, gateway: int, stamp: Stamp, station_us: int | None
) -> None:
    """Keep a tie, if it says anything that the last ones of its boot did not."""
    tie = Tie(
        monotonic_us=stamp.monotonic_us,
        wall_us=stamp.wall_us,
        clock=stamp.clock,
        station_us=station_us,
    )
    known = _read(connection, gateway, stamp.boot_id)
    if not _is_news([each for _, each in known], tie):
        return
    values = (
        clamped(tie.monotonic_us),
        None if tie.wall_us is None else clamped(tie.wall_us),
        tie.clock.value,
        station_us,
    )
    if len(known) >= TIES_MAX:
        connection.execute(
            "UPDATE clock_tie SET monotonic_us = ?, wall_us = ?, clock = ?, station_us = ?"
            " WHERE id = ?",
            (*values, known[-1][0]),
        )
        return
    connection.execute(
        "INSERT INTO clock_tie (gateway, boot_id, monotonic_us, wall_us, clock, station_us)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (gateway, stamp.boot_id, *values),
    )
    connection.execute(
        "DELETE FROM clock_tie WHERE gateway = ?1 AND id < (SELECT id FROM clock_tie"
        " WHERE gateway = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        (gateway, BOOTS_MAX - 1),
    )


def boot_clock(connection: sqlite3.Connection, gateway: str, boot_id: str) -> BootClock:
    """Return what the file knows of a boot; of an older file that is its hello alone."""
    ties = []
    heard = connection.execute(
        "SELECT monotonic_us, wall_us, clock, station_us FROM boot"
        " WHERE gateway = (SELECT id FROM gateway WHERE name = ?) AND boot_id = ?",
        (gateway, boot_id),
    ).fetchone()
    if heard is not None:
        ties.append(_tie(heard))
    if _has_table(connection):
        found = connection.execute("SELECT id FROM gateway WHERE name = ?", (gateway,)).fetchone()
        if found is not None:
            ties += [tie for _, tie in _read(connection, found[0], boot_id)]
    return BootClock(ties)


def _is_news(known: Sequence[Tie], tie: Tie) -> bool:
    """Tell whether a tie says more than those that are kept."""
    if not known:
        return True
    last_own = next((each for each in reversed(known) if each.offset_us is not None), None)
    own_us = tie.offset_us
    if own_us is not None and (
        last_own is None
        or last_own.clock != tie.clock
        or abs((last_own.offset_us or 0) - own_us) >= NEWS_US
    ):
        return True
    station_us = tie.station_offset_us
    if station_us is None:
        return False
    before_us = _least_travel(known)
    return (
        before_us is None
        or station_us <= before_us - NEWS_US
        or station_us > before_us + TRAVEL_US  # the station's own clock was set
    )


def _read(connection: sqlite3.Connection, gateway: int, boot_id: str) -> list[tuple[int, Tie]]:
    return [
        (number, _tie(row))
        for number, *row in connection.execute(
            "SELECT id, monotonic_us, wall_us, clock, station_us FROM clock_tie"
            " WHERE gateway = ? AND boot_id = ? ORDER BY id",
            (gateway, boot_id),
        )
    ]


def _tie(row: Sequence[Any]) -> Tie:
    monotonic_us, wall_us, clock, station_us = row
    return Tie(
        monotonic_us=monotonic_us,
        wall_us=wall_us,
        clock=ClockQuality(clock),
        station_us=station_us,
    )


def _has_table(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'clock_tie'").fetchone()
    return found is not None
