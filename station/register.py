"""The names in the station's file: gateways, logs, boots, conditions, and the next number.

Everything here runs in the writer's thread, inside a transaction. What is remembered between
transactions is a cache of the file and is forgotten whenever something was undone.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from events.errors import StoreError
from events.model import ClockQuality, Stamp
from events.replication import Lane
from station.interpretation import Boot, Place, clamped
from station.pending import Pending
from station.schema import STATION
from sync.ledger import Commit, Cursor

CONDITIONS_CACHED_MAX = 100_000  # beyond them the cache starts anew
BOOTS_MAX = 1000  # of one gateway; the oldest go first


@dataclass(slots=True)
class Log:
    """A log of a gateway, under the station's number for it.

    linked: some of its places are those of copies, or of origins.
    """

    id: int
    gateway: int
    cursor: Cursor
    head: int
    restarts: int
    linked: bool = False

    def continue_with(self, commit: Commit) -> None:
        """Let a commit begin the history anew. Raises `StoreError` where it continues nothing held."""
        if commit.restart:
            if commit.history + 1 < self.restarts:
                raise StoreError("the log was begun anew meanwhile; it is asked for again")
            self.restarts = commit.history + 1
        elif commit.lane is Lane.MAIN and commit.history != self.restarts:
            raise StoreError("it continues a history that ended; it is asked for again")
        elif commit.after > self.cursor.main:
            raise StoreError("the commit of what comes before failed; it is asked for again")


@dataclass(slots=True)
class Condition:
    """A condition of a gateway, and where the event stands that made its state."""

    id: int
    state: Place | None = None


class Register:
    """Numbers for names. Every method but `forget` needs an open transaction.

    conditions: those that are remembered, by gateway, point, kind, subkind and code.
    pending: rows of this transaction that are still to be written.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop what is remembered of the file."""
        self._next_n = 0  # 0: not known
        self._gateways: dict[str, int] = {"": STATION}
        self._logs: dict[tuple[int, str], Log] = {}
        self._boots: dict[tuple[int, str], Boot | None] = {}
        self._newest_ranks: dict[int, int] = {}
        self.conditions: dict[tuple[int, str, str, str, str], Condition] = {}
        self.pending = Pending()

    def flush(self, connection: sqlite3.Connection) -> None:
        """Write what is pending: before the end of the transaction, and before it is read."""
        self.pending.flush(connection)

    def next_n(self, connection: sqlite3.Connection) -> int:
        """Return the next number of the ledger. `used` says how many were taken from there."""
        if not self._next_n:
            (last,) = connection.execute("SELECT coalesce(max(n), 0) FROM event").fetchone()
            self._next_n = last + 1
        return self._next_n

    def keep_bound(self, connection: sqlite3.Connection) -> None:
        """Forget conditions if there are too many. To be called between two commits."""
        if len(self.conditions) >= CONDITIONS_CACHED_MAX:
            self._forget_conditions(connection)

    def _forget_conditions(self, connection: sqlite3.Connection) -> None:
        self.flush(connection)  # they are read anew: from states that stand in the file
        self.conditions.clear()

    def used(self, count: int) -> None:
        """Note that so many events were stored from `next_n` on."""
        self._next_n += count

    def gateway(self, connection: sqlite3.Connection, name: str) -> int:
        """Return the number of a gateway, giving it one if it has none."""
        known = self._gateways.get(name)
        if known is None:
            connection.execute("INSERT OR IGNORE INTO gateway (name) VALUES (?)", (name,))
            (known,) = connection.execute(
                "SELECT id FROM gateway WHERE name = ?", (name,)
            ).fetchone()
            self._gateways[name] = known
        return known

    def find_log(self, connection: sqlite3.Connection, gateway: int, log_id: str) -> Log | None:
        """Return a log, or None if nothing of it was ever received."""
        known = self._logs.get((gateway, log_id))
        if known is not None:
            return known
        found = connection.execute(
            "SELECT id, main, chain, urgent, head, restarts,"
            " EXISTS (SELECT 1 FROM place WHERE place.log = log.id) FROM log"
            " WHERE gateway = ? AND log_id = ?",
            (gateway, log_id),
        ).fetchone()
        if found is None:
            return None
        number, main, chain, urgent, head, restarts, linked = found
        cursor = Cursor(main=main, chain=chain, urgent=urgent)
        log = Log(number, gateway, cursor, head, restarts, bool(linked))
        self._logs[gateway, log_id] = log
        return log

    def log(self, connection: sqlite3.Connection, gateway: int, log_id: str) -> Log:
        """Return a log, making it known if it is not."""
        known = self.find_log(connection, gateway, log_id)
        if known is None:
            connection.execute(
                "INSERT INTO log (gateway, log_id) VALUES (?, ?)", (gateway, log_id)
            )
            known = self.find_log(connection, gateway, log_id)
            assert known is not None  # noqa: S101 - it was inserted in this transaction
        return known

    def boot(self, connection: sqlite3.Connection, gateway: int, boot_id: str) -> Boot | None:
        """Return what is known of a boot, or None if no Hello of it was heard."""
        key = (gateway, boot_id)
        if key in self._boots:
            return self._boots[key]
        found = connection.execute(
            "SELECT id, monotonic_us, wall_us, clock, station_us FROM boot"
            " WHERE gateway = ? AND boot_id = ?",
            key,
        ).fetchone()
        boot = None
        if found is not None:
            rank, monotonic_us, wall_us, clock, station_us = found
            stamp = Stamp(
                monotonic_us=monotonic_us,
                boot_id=boot_id,
                wall_us=wall_us,
                clock=ClockQuality(clock),
            )
            boot = Boot(rank=rank, stamp=stamp, station_us=station_us)
        if len(self._boots) >= CONDITIONS_CACHED_MAX:
            self._boots.clear()
        self._boots[key] = boot
        return boot

    def newest_rank(self, connection: sqlite3.Connection, gateway: int) -> int:
        """Return the rank of the boot that a gateway was heard of last, 0 before the first."""
        known = self._newest_ranks.get(gateway)
        if known is None:
            (known,) = connection.execute(
                "SELECT coalesce(max(id), 0) FROM boot WHERE gateway = ?", (gateway,)
            ).fetchone()
            self._newest_ranks[gateway] = known
        return known

    def hello(
        self, connection: sqlite3.Connection, gateway: int, stamp: Stamp, station_us: int | None
    ) -> None:
        """Tie a boot's monotonic clock to wall time: the better clock wins, then the newer word."""
        known = self.boot(connection, gateway, stamp.boot_id)
        if known is not None and _QUALITY[known.stamp.clock] > _QUALITY[stamp.clock]:
            return
        connection.execute(
            "INSERT INTO boot (gateway, boot_id, monotonic_us, wall_us, clock, station_us)"
            " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, boot_id) DO UPDATE SET"
            " monotonic_us = excluded.monotonic_us, wall_us = excluded.wall_us,"
            " clock = excluded.clock, station_us = excluded.station_us",
            (
                gateway,
                stamp.boot_id,
                clamped(stamp.monotonic_us),
                None if stamp.wall_us is None else clamped(stamp.wall_us),
                stamp.clock,
                station_us,
            ),
        )
        connection.execute(
            "DELETE FROM boot WHERE gateway = ?1 AND id < (SELECT id FROM boot"
            " WHERE gateway = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            (gateway, BOOTS_MAX - 1),
        )
        self._boots.pop((gateway, stamp.boot_id), None)
        self._newest_ranks.pop(gateway, None)
        if known is None:
            self._forget_conditions(connection)  # their places know the ranks of boots

    def condition(
        self,
        connection: sqlite3.Connection,
        gateway: int,
        point: str,
        kind: str,
        subkind: str,
        code: str,
    ) -> Condition:
        """Return a condition and its state, making it known if it is not."""
        key = (gateway, point, kind, subkind, code)
        known = self.conditions.get(key)
        if known is not None:
            return known
        found = connection.execute(
            "SELECT condition.id, log, seq, carrier_log, carrier_seq, history,"
            " point_state.boot_id,"
            " coalesce(boot.id, 0), point_state.monotonic_us"
            " FROM condition LEFT JOIN point_state ON point_state.condition = condition.id"
            " LEFT JOIN boot ON boot.gateway = condition.gateway"
            " AND boot.boot_id = point_state.boot_id"
            " WHERE condition.gateway = ? AND point = ? AND kind = ? AND subkind = ?"
            " AND code = ?",
            key,
        ).fetchone()
        if found is None:
            made = connection.execute(
                "INSERT INTO condition (gateway, point, kind, subkind, code)"
                " VALUES (?, ?, ?, ?, ?)",
                key,
            )
            condition = Condition(id=made.lastrowid or 0)
        else:
            condition = Condition(id=found[0], state=_place(found[1:]))
        self.conditions[key] = condition
        return condition

    def touch(self, connection: sqlite3.Connection, seen: Mapping[str, int]) -> None:
        """Remember when gateways were last heard, in POSIX microseconds."""
        connection.executemany(
            "UPDATE gateway SET last_seen_us = ? WHERE id = ?",
            [(when_us, self.gateway(connection, name)) for name, when_us in seen.items()],
        )

    def mark(
        self, connection: sqlite3.Connection, gateway: str, path: str | None, *, announced: bool
    ) -> None:
        """Remember that the silence of a gateway, or of a path of it, is announced or is over."""
        about = self.gateway(connection, gateway)
        if path is None:
            connection.execute("UPDATE gateway SET announced = ? WHERE id = ?", (announced, about))
            return
        connection.execute(
            "INSERT INTO path VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET announced = excluded.announced",
            (about, path, announced),
        )


_QUALITY = {ClockQuality.UNSET: 0, ClockQuality.FREE: 1, ClockQuality.SYNCHRONISED: 2}


def _place(row: tuple[int | None, int, int, int, int, str, int, int]) -> Place | None:
    log, seq, carrier_log, carrier_seq, history, boot_id, boot_rank, monotonic_us = row
    if log is None:
        return None
    return Place(log, seq, carrier_log, carrier_seq, history, boot_id, boot_rank, monotonic_us)
