"""The intervals of `station.availability` in the station's file, written as they happen."""

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from buffer.clock import SystemClock
from events.calendar import month_bounds, month_of
from events.errors import UsageError
from station.availability import Availability, Interval, Presence, availability
from station.schema import FILE_NAME, STATION, open_reader, translated

KEPT_US: Final = 40 * 31 * 86_400_000_000  # more than three years


def table(directory: Path, month: str) -> list[dict[str, Any]]:
    """Return a row for each gateway and one month (`2026-11`; empty: the present one).

    Raises `StoreError`; `UsageError` for a text that names no month.
    """
    wall = SystemClock().now().wall
    now_us = None if wall is None else round(wall * 1_000_000)
    if not month:
        if now_us is None:
            raise UsageError("the clock of this machine is not set", hint="name a --month")
        month = month_of(now_us)
    try:
        began_us, ended_us = month_bounds(month)
    except ValueError as error:
        raise UsageError(f"{month!r} names no month", hint="such as --month 2026-11") from error
    if now_us is not None:
        ended_us = max(began_us, min(ended_us, now_us))
    file = directory / FILE_NAME
    connection, _ = open_reader(directory)
    with translated(file), closing(connection):
        found = read(connection, (began_us, ended_us))
    return [_row(name, month, each) for name, each in found.items()]


def read(connection: sqlite3.Connection, period: Interval) -> dict[str, Availability | None]:
    """Return every gateway's availability in a period, from the file."""
    names = dict(
        connection.execute("SELECT id, name FROM gateway WHERE id <> ? ORDER BY name", (STATION,))
    )
    if not _has_tables(connection):
        return dict.fromkeys(names.values())
    runs = connection.execute("SELECT began_us, ended_us FROM station_run ORDER BY id").fetchall()
    presences: dict[int, list[Presence]] = {number: [] for number in names}
    for gateway, began_us, ended_us, lost in connection.execute(
        "SELECT gateway, began_us, ended_us, lost FROM presence ORDER BY id"
    ):
        presences[gateway].append(Presence(began_us=began_us, ended_us=ended_us, lost=bool(lost)))
    return {name: availability(runs, presences[number], period) for number, name in names.items()}


class Attendance:
    """Writes the intervals down. Every method runs in the writer's thread, inside a transaction.

    What it remembers between transactions is only taken over by `committed`.
    """

    def __init__(self) -> None:
        self._run: int | None = None
        self._open: dict[str, int] = {}

    def pause(self) -> None:
        """End every interval where it stands: the station did not listen, or its clock was set."""
        self._run = None
        self._open = {}

    def note(
        self,
        connection: sqlite3.Connection,
        now_us: int,
        heard_us: Mapping[str, int],
        lost: Iterable[str],
    ) -> "tuple[int, dict[str, int]]":
        """Extend the run to `now_us` and each gateway's interval to when it was last heard.

        `lost`: whose loss was announced since. Returns what to give to `committed`.
        """
        run, opened = self._run, dict(self._open)
        if run is None:
            run = _insert(
                connection,
                "INSERT INTO station_run (began_us, ended_us) VALUES (?, ?)",
                (now_us, now_us),
            )
            _prune(connection, now_us)
        connection.execute(
            "UPDATE station_run SET ended_us = max(ended_us, ?) WHERE id = ?", (now_us, run)
        )
        for gateway in lost:
            number = opened.pop(gateway, None)
            if number is not None:
                connection.execute("UPDATE presence SET lost = 1 WHERE id = ?", (number,))
            else:
                _was_lost(connection, gateway, run)
        for gateway, at_us in heard_us.items():
            number = opened.get(gateway)
            if number is None:
                opened[gateway] = _insert(
                    connection,
                    "INSERT INTO presence (gateway, began_us, ended_us)"
                    " SELECT id, ?2, ?2 FROM gateway WHERE name = ?1",
                    (gateway, at_us),
                )
            else:
                connection.execute(
                    "UPDATE presence SET ended_us = max(ended_us, ?) WHERE id = ?", (at_us, number)
                )
        return run, opened

    def committed(self, noted: "tuple[int, dict[str, int]]") -> None:
        """Take over what `note` returned: it is durable."""
        self._run, self._open = noted


def _was_lost(connection: sqlite3.Connection, gateway: str, run: int) -> None:
    """Note the loss of a gateway that was never heard in this run: it is lost since its begin."""
    connection.execute(
        "INSERT INTO presence (gateway, began_us, ended_us, lost)"
        " SELECT gateway.id, station_run.began_us, station_run.began_us, 1"
        " FROM gateway, station_run WHERE name = ? AND station_run.id = ?"
        " AND EXISTS (SELECT 1 FROM presence WHERE presence.gateway = gateway.id)",
        (gateway, run),
    )


def _insert(connection: sqlite3.Connection, statement: str, values: tuple[object, ...]) -> int:
    number = connection.execute(statement, values).lastrowid
    return 0 if number is None else number


def _prune(connection: sqlite3.Connection, now_us: int) -> None:
    for statement in (
        "DELETE FROM presence WHERE ended_us < ?",
        "DELETE FROM station_run WHERE ended_us < ?",
    ):
        connection.execute(statement, (now_us - KEPT_US,))


def _has_tables(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'presence'").fetchone()
    return found is not None


def _row(name: str, month: str, found: Availability | None) -> dict[str, Any]:
    part = found or Availability(up_us=0, lost_us=0, unknown_us=0, losses=0, longest_us=0)
    return {
        "name": name,
        "month": month,
        "availability": part.ratio,
        "up_s": part.up_us / 1e6,
        "lost_s": part.lost_us / 1e6,
        "unknown_s": part.unknown_us / 1e6,
        "losses": part.losses,
        "longest_s": part.longest_us / 1e6,
    }
