"""What the ledger knows of gateways, for supervision and for people. Reads only."""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from events.kinds import Qualifier, Subkind
from events.replication import LogHead
from events.wire import decode
from station import held
from station.announcements import Announced
from station.schema import RUN_BLOCK, STATION
from station.supervision import Known

GAPS_SHOWN_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class GapReport:
    """Numbers of one log that the gateway no longer has and the station does not hold."""

    log_id: str
    first: int
    last: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReport:
    """How far a gateway's logs are held.

    log_id, seq, head: of the log that it offers now, or else of the one that was received last;
        `seq` is held, `head` the newest one heard of.
    missing: numbers, over all its logs, that the gateway said it no longer has and that the
        station does not hold either.
    gaps: the newest of these ranges.
    """

    last_seen_us: int | None = None
    log_id: str | None = None
    seq: int | None = None
    head: int | None = None
    logs: int = 0
    missing: int = 0
    gaps: tuple[GapReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Size of the ledger. `n`: the newest number."""

    n: int
    bytes: int
    ledger_id: str


_GATEWAYS = """
SELECT gateway.name, gateway.last_seen_us, log.log_id, log.main, log.head,
  (SELECT count(*) FROM log WHERE log.gateway = gateway.id AND last_commit_us IS NOT NULL)
FROM gateway LEFT JOIN log ON log.id = (
  SELECT id FROM log WHERE log.gateway = gateway.id
  ORDER BY last_commit_us IS NULL, volatile, last_commit_us DESC, id DESC LIMIT 1)
WHERE gateway.id <> ?
"""
_GAPS = """
SELECT gateway.name, gap.log, log.log_id, gap.first, gap.last, gap.why,
  gap.last - gap.first + 1
  - (SELECT count(*) FROM (
      SELECT seq FROM place
      WHERE place.log = gap.log AND place.seq BETWEEN gap.first AND gap.last
      UNION SELECT event.seq FROM run CROSS JOIN event
      ON event.n BETWEEN run.n AND run.n + run.count - 1
      WHERE run.log = gap.log AND run.first BETWEEN gap.first / ?1 * ?1 AND gap.last
      AND event.seq BETWEEN gap.first AND gap.last))
FROM gap JOIN log ON log.id = gap.log JOIN gateway ON gateway.id = log.gateway
ORDER BY gap.log DESC, gap.first DESC
"""


_WITHHELD = """
SELECT gateway.name, event.body
FROM point_state JOIN condition ON condition.id = point_state.condition
JOIN gateway ON gateway.id = condition.gateway JOIN event ON event.n = point_state.n
WHERE condition.subkind = ? AND point_state.qualifier <> ? AND event.log IS NULL
"""


def known(connection: sqlite3.Connection) -> dict[str, Known]:
    """Return what is announced of each gateway and whether it ever spoke."""
    paths: dict[int, list[tuple[str, bool]]] = {}
    for gateway, name, announced in connection.execute(
        "SELECT gateway, name, announced FROM path ORDER BY name"
    ):
        paths.setdefault(gateway, []).append((name, bool(announced)))
    return {
        name: Known(
            seen=last_seen_us is not None,
            lost=bool(announced),
            folded=announced == Announced.FOLDED,
            paths=tuple(paths.get(number, ())),
        )
        for number, name, last_seen_us, announced in connection.execute(
            "SELECT id, name, last_seen_us, announced FROM gateway WHERE id <> ?", (STATION,)
        )
    }


def gateways(
    connection: sqlite3.Connection, offered: Mapping[str, LogHead]
) -> dict[str, GatewayReport]:
    """Return a report of each gateway. `offered`: the log on disk that it named in its last hello."""
    missing: dict[str, int] = {}
    gaps: dict[str, list[GapReport]] = {}
    for name, log, log_id, first, last, why, count in connection.execute(_GAPS, (RUN_BLOCK,)):
        missing[name] = missing.get(name, 0) + count
        shown = gaps.setdefault(name, [])
        if count and len(shown) < GAPS_SHOWN_MAX:
            ranges = islice(
                held.lacking(connection, log, first, last), GAPS_SHOWN_MAX - len(shown)
            )
            shown += [
                GapReport(log_id=log_id, first=one, last=end, why=why) for one, end in ranges
            ]
    reports = {
        name: GatewayReport(
            last_seen_us=last_seen_us,
            log_id=log_id,
            seq=seq,
            head=head,
            logs=logs,
            missing=missing.get(name, 0),
            gaps=tuple(gaps.get(name, ())),
        )
        for name, last_seen_us, log_id, seq, head, logs in connection.execute(
            _GATEWAYS, (STATION,)
        )
    }
    for name, log in offered.items():
        report = reports.get(name)
        if report is not None and report.log_id != log.log_id:
            reports[name] = replace(report, **_log(connection, name, log))
    return reports


def _log(connection: sqlite3.Connection, gateway: str, offered: LogHead) -> dict[str, Any]:
    """Return what is held of the log that is offered: an older card may be back in its place."""
    found = connection.execute(
        "SELECT main, head FROM log JOIN gateway ON gateway.id = log.gateway"
        " WHERE name = ? AND log_id = ?",
        (gateway, offered.log_id),
    ).fetchone()
    seq, head = (0, 0) if found is None else found
    return {"log_id": offered.log_id, "seq": seq, "head": max(head, offered.head)}


def withheld(connection: sqlite3.Connection) -> dict[tuple[str, str], int]:
    """Return up to where events of a gateway's log are announced that did not come.

    Of a gateway the newest such log alone: the states tell no more.
    """
    found: dict[tuple[str, str], int] = {}
    for gateway, body in connection.execute(
        _WITHHELD, (Subkind.EVENTS_WITHHELD, Qualifier.RESTORE)
    ):
        details = decode(body).observation.details
        found[gateway, str(details.get("log_id", ""))] = int(details.get("announced", 0))
    return found


def counts(connection: sqlite3.Connection) -> Counts:
    """Return the size of the ledger."""
    (n,) = connection.execute("SELECT coalesce(max(n), 0) FROM event").fetchone()
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    (ledger_id,) = connection.execute("SELECT value FROM meta WHERE key = 'ledger_id'").fetchone()
    return Counts(n=n, bytes=pages * page_size, ledger_id=ledger_id)
