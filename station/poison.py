"""An event that cannot be stored as it is must not hold up those behind it.

Whatever a gateway may have sent, its bytes are kept: an event whose row is refused for ever is
stored as one that nobody can read. Found by trying each event of a commit by itself, which is only
done once the commit was refused. Everything here runs in the writer's thread.
"""

import sqlite3
from dataclasses import replace

from station.recording import Recording
from station.register import Register
from station.writer import NEVER_STORED
from sync.ledger import Commit


def find(
    register: Register,
    connection: sqlite3.Connection,
    gateway: str,
    commit: Commit,
    received_us: int | None,
) -> frozenset[int]:
    """Return the numbers of the events that cannot be stored as they are; stores nothing."""
    return frozenset(
        entry.seq
        for entry in commit.entries
        if not _takes(
            register,
            connection,
            gateway,
            replace(commit, entries=(entry,), gaps=()),
            received_us,
        )
    )


def _takes(
    register: Register,
    connection: sqlite3.Connection,
    gateway: str,
    commit: Commit,
    received_us: int | None,
) -> bool:
    connection.execute("SAVEPOINT trial")
    try:
        Recording(register, connection, gateway, commit, received_us).run()
        register.pending.flush(connection)
    except NEVER_STORED:
        return False
    finally:
        register.forget()
        connection.execute("ROLLBACK TO trial")
        connection.execute("RELEASE trial")
    return True
