"""How far the station is with one gateway, in memory: shared by all of its connections.

It only ever says what the ledger has committed, and what was looked at and found empty.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from events.chain import genesis
from events.replication import Entry, Hello, Lane
from sync.ledger import Commit, Cursor

LOGS_KEPT_MAX = 64
COPIES_KEPT_MAX = 256  # urgent events committed lately, for the main lane that comes after
COPIES_BYTES_MAX = 256 * 1024


@dataclass(slots=True)
class LogProgress:
    """One log.

    verified: run of the gateway's program in which its history was seen to be the one we hold,
        as far as `main`. In another run nothing is acknowledged before it was seen again: a
        card or a folder may have been restored, and a clone must not forget what only it has.
    urgent_seen: the same of `urgent`, which may be far ahead of `main`: in another run it is only
        as good as `ahead`, the newest urgent event held beyond `main`, if the gateway has that too.
    run: the newest that began to read it; connections of an older one may still be there.
    head: the newest number that the gateway spoke of, on any connection.
    ahead_since: when it began to be more than is held.
    epoch: counts the restarts, as `Cursor.history` does; a connection that knows an older one
        begins anew.
    copies: urgent events that were committed lately: the main lane need not ask the ledger.
    """

    main: int = 0
    chain: bytes = b""
    urgent: int = 0
    ahead: tuple[int, bytes] | None = None
    verified: str = ""
    urgent_seen: str = ""
    run: str = ""
    head: int = 0
    ahead_since: float = 0.0
    epoch: int = 0
    copies: dict[tuple[int, bytes], bytes] = field(default_factory=dict)
    _copies_bytes: int = 0

    def held(self, lane: Lane, run_id: str) -> int:
        """Return up to where a lane is held, as far as it was seen in this run."""
        ahead = lane is Lane.URGENT and self.urgent_seen == run_id
        return max(self.main, self.urgent) if ahead else self.main

    def in_doubt(self, run_id: str) -> tuple[int, bytes] | None:
        """Return the urgent event that a gateway has to show first, in a run that is new.

        Where none is held beyond `main` there is nothing to doubt: the lane goes on after `main`.
        """
        if run_id != self.run:
            return None
        if self.urgent_seen != run_id and (self.ahead is None or self.ahead[0] <= self.main):
            self.urgent_goes(run_id, None)
        return None if self.urgent_seen == run_id else self.ahead

    def urgent_goes(self, run_id: str, seen: tuple[int, bytes] | None) -> None:
        """Let the urgent lane of a run go on behind the event that was seen; None: after `main`.

        Beyond that event nothing is proved, though the ledger may hold more. What a connection of an
        older run finds does not count.
        """
        if run_id != self.run:
            return
        self.urgent = seen[0] if seen else 0
        self.ahead, self.urgent_seen = seen, run_id

    def committed(self, commit: Commit, run_id: str) -> None:
        """Note a commit of what a gateway sent in one run of its program."""
        if commit.restart:
            self.main = 0
            self.epoch = max(self.epoch, commit.history + 1)
            self.urgent_goes(self.run, None)
        if commit.lane is Lane.URGENT:
            self._keep(commit.entries)
            if commit.history == self.epoch and self.urgent_seen == run_id:
                self.urgent = max(self.urgent, commit.through)
                if commit.entries:
                    self.ahead = max(
                        self.ahead or (0, b""), (commit.entries[-1].seq, commit.entries[-1].chain)
                    )
        elif commit.through >= self.main:
            self.main, self.chain = commit.through, commit.chain
            self.verified = run_id

    def _keep(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            place = (entry.seq, entry.chain)
            if entry.body is not None and place not in self.copies:
                self.copies[place] = entry.body
                self._copies_bytes += len(entry.body)
        while len(self.copies) > COPIES_KEPT_MAX or self._copies_bytes > COPIES_BYTES_MAX:
            self._copies_bytes -= len(self.copies.pop(next(iter(self.copies))))


@dataclass(slots=True)
class Progress:
    """Every log of one gateway that is, or was lately, offered: the last offered stand last.

    Connections hold on to what they read, so a log that is still offered must not be forgotten: a
    store that falls into degraded mode again and again brings a new log each time.
    """

    logs: dict[str, LogProgress] = field(default_factory=dict)

    def missing(self, log_ids: Iterable[str]) -> tuple[str, ...]:
        """Return which of the logs that are offered are not known; the others were offered last."""
        missing = []
        for log_id in log_ids:
            known = self.logs.pop(log_id, None)
            if known is None:
                missing.append(log_id)
            else:
                self.logs[log_id] = known
        return tuple(missing)

    def loaded(self, log_ids: Iterable[str], cursors: Mapping[str, Cursor]) -> None:
        """Take cursors from the ledger for logs that are not known yet."""
        for log_id in self.missing(log_ids):
            cursor = cursors.get(log_id, Cursor())
            self.logs[log_id] = LogProgress(
                main=cursor.main,
                chain=cursor.chain if cursor.main else genesis(log_id),
                urgent=cursor.urgent,
                ahead=(cursor.ahead, cursor.ahead_chain) if cursor.ahead else None,
                epoch=cursor.history,
            )
        while len(self.logs) > LOGS_KEPT_MAX:
            del self.logs[next(iter(self.logs))]


def run_of(hello: Hello) -> str:
    """Return what tells one run of a gateway's program from another; older ones name their boot."""
    return hello.instance or hello.boot_id
