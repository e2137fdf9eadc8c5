"""Events as people and scripts read them, straight from the file, whether the station runs or not.

The connection here never writes and never checkpoints, and no read lasts longer than one page of
rows: a reader must not hold the log of the file back. Times are made anew from the stamps with each
reading (`station.clock_ties`): what is known of a gateway's clock may have come after the event.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec

from events.calendar import rfc3339
from events.errors import UnavailableError, UnreadableEvent
from events.model import Record
from events.wire import decode
from station.clock_ties import BootClock, boot_clock
from station.schema import FILE_NAME, open_reader, translated

PAGE_ROWS = 500

_COLUMNS: Final = (
    "n, gateway, log_id, seq, point, kind, subkind, qualifier, at_us, at_basis, received_us,"
    " urgent, late, volatile, suspect, readable, body"
)
_FORWARD: Final = (
    f"SELECT {_COLUMNS} FROM events"  # noqa: S608 - a constant
    " WHERE n > ?1 AND (?2 IS NULL OR gateway = ?2) ORDER BY n LIMIT ?3"
)
_NEWEST: Final = (
    f"SELECT {_COLUMNS} FROM events"  # noqa: S608 - a constant
    " WHERE (?1 IS NULL OR gateway = ?1) ORDER BY n DESC LIMIT ?2"
)


class Listing:
    """The events in a station's folder, in the order of `n`. Close it after use.

    still: nothing that comes later will be seen; open another one for that.
    Raises `UnavailableError` where no station has stored anything yet, `StoreError` otherwise.
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / FILE_NAME
        require_ledger(directory)
        self._connection, self.still = open_reader(directory)
        self._clocks: dict[tuple[str, str], BootClock] = {}

    def close(self) -> None:
        self._connection.close()

    def after(self, n: int, gateway: str | None, limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield events numbered above `n`, oldest first, at most `limit` of them."""
        left = limit
        while left is None or left > 0:
            count = PAGE_ROWS if left is None else min(PAGE_ROWS, left)
            page = self._rows(_FORWARD, (n, gateway, count))
            yield from self._shown(page)
            if len(page) < count:
                return
            n = page[-1][0]
            left = None if left is None else left - len(page)

    def newest(self, gateway: str | None, limit: int) -> Iterator[dict[str, Any]]:
        """Yield the newest `limit` events, oldest first."""
        return iter(self._shown(self._rows(_NEWEST, (gateway, limit))[::-1]))

    def version(self) -> int:
        """Return a number that is another one after every commit by the station."""
        with translated(self._file):
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(version)

    def last(self) -> int:
        """Return the newest number, 0 where there is none."""
        with translated(self._file):
            found = self._connection.execute("SELECT coalesce(max(n), 0) FROM event").fetchone()
        return int(found[0])

    def _shown(self, page: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
        self._clocks.clear()  # a gateway's clock may have been set since the page before
        with translated(self._file):
            return [shown(row, self._clock) for row in page]

    def _clock(self, gateway: str, boot_id: str) -> BootClock:
        clock = self._clocks.get((gateway, boot_id))
        if clock is None:
            clock = self._clocks[gateway, boot_id] = boot_clock(self._connection, gateway, boot_id)
        return clock

    def _rows(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with translated(self._file), closing(self._connection.execute(query, values)) as rows:
            return rows.fetchall()


def shown(row: tuple[Any, ...], clock_of: Callable[[str, str], BootClock]) -> dict[str, Any]:
    """Return an event as the JSON object that scripts read. Kinds stay as they were sent.

    clock_of: what is known of the clocks of a gateway's boot.
    """
    n, gateway, log_id, seq, point, kind, subkind, qualifier, at_us, at_basis, *rest = row
    received_us, urgent, late, volatile, suspect, readable, body = rest
    event: dict[str, Any] = {
        "n": n,
        "gateway": gateway,
        "log_id": log_id,
        "seq": seq,
        "point": point,
        "kind": kind,
        "subkind": subkind,
        "qualifier": qualifier,
        "value": None,
        "unit": "",
        "native": None,
        "at": _time(at_us),
        "clock": None,
        "received_at": _time(received_us),
        "urgent": bool(urgent),
        "late": bool(late),
        "volatile": bool(volatile),
        "at_basis": at_basis,
        "suspect": bool(suspect),
        "readable": bool(readable),
    }
    try:
        record = decode(body)
    except UnreadableEvent:
        event["raw"] = body.hex()
        return event
    event |= _from_record(record)
    if gateway and log_id is not None:
        clock = clock_of(gateway, record.stamp.boot_id)
        at_us, basis = clock.time_of(record.stamp, record.observation.edge_us, received_us)
        event |= {"at": _time(at_us), "at_basis": basis.value}
    return event


def _from_record(record: Record) -> dict[str, Any]:
    seen = record.observation
    return {
        "value": seen.value,
        "unit": seen.unit,
        "native": None if seen.native is None else _whole(seen.native),
        "clock": record.stamp.clock.value,
        "condition": seen.condition,
        "source": seen.source,
        "address": seen.address,
        "raw_value": seen.raw_value,
        "quality": seen.quality,
        "state": seen.state,
        "changed": seen.changed,
        "device_time": None if seen.device_time is None else _whole(seen.device_time),
        "text": seen.text,
        "raw": seen.raw.hex(),
        "integrity": seen.integrity,
        "flags": seen.flags,
        "cause": seen.cause,
        "details": seen.details,
        "stamped_at": _time(record.stamp.wall_us),
        "boot_id": record.stamp.boot_id,
        "origin": None if record.origin is None else list(msgspec.structs.astuple(record.origin)),
    }


def _whole(struct: msgspec.Struct) -> dict[str, Any]:
    """Return a struct with all its fields, those at their default too."""
    return msgspec.structs.asdict(struct)


def _time(wall_us: int | None) -> str | None:
    return None if wall_us is None else rfc3339(wall_us)


def require_ledger(directory: Path) -> None:
    """Raise `UnavailableError` where no station has stored anything yet."""
    if not _exists(directory / FILE_NAME):
        raise UnavailableError(
            f"there is no ledger in {directory}",
            hint="start the station with `nplus-station run --config FILE`",
        )


def _exists(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnavailableError(
            f"cannot look at {file}: {error.strerror or error}",
            hint="ask as the user or a member of the group that runs the station",
        ) from error
