"""What the running gateway answers on its socket: `status`, `metrics`, `tail`, `snapshot`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from buffer.store import Store
from events.errors import StoreError, UsageError
from events.replication import Lane, LogHead
from gateway.event_lines import event_line, gap_line
from gateway.metrics import exposition

NEWEST = 1000  # events that `tail` gives when nobody says after which
READ_BYTES = 256 * 1024


class Requests:
    """Answers by name. `status` makes the status of this moment."""

    def __init__(self, store: Store, status: Callable[[], dict[str, Any]]) -> None:
        self._store = store
        self._status = status

    def answer(self, message: dict[str, Any]) -> AsyncIterator[object]:
        """Return the lines of the answer. Raises `UsageError` for an unknown request."""
        match message.get("request"):
            case "status":
                return self._answer_status()
            case "metrics":
                return self._answer_metrics()
            case "tail":
                return self._tail(message)
            case "snapshot":
                return self._snapshot(message)
            case other:
                raise UsageError(
                    f"unknown request {other!r}", hint="known: status, metrics, tail, snapshot"
                )

    async def _answer_status(self) -> AsyncIterator[object]:
        yield self._status()

    async def _answer_metrics(self) -> AsyncIterator[object]:
        yield exposition(self._status())

    async def _snapshot(self, message: dict[str, Any]) -> AsyncIterator[object]:
        file = message.get("file")
        if not isinstance(file, str) or not file.startswith("/") or "\0" in file:
            raise UsageError("a snapshot needs the absolute path of a file")
        await self._store.snapshot(Path(file))
        yield {"file": file}

    async def _tail(self, message: dict[str, Any]) -> AsyncIterator[object]:
        after, follow = message.get("after"), bool(message.get("follow"))
        if after is not None and (type(after) is not int or after < 0):
            raise UsageError("after is the number of an event, from 0")
        cursors: dict[str, int] = {}
        main = self._store.heads()[:1]
        if main:
            newest = max(0, main[0].head - NEWEST)
            cursors[main[0].log_id] = newest if after is None else after
        changed = asyncio.Event()
        unwatch = self._store.watch(changed.set)
        try:
            while True:
                changed.clear()
                for head in self._store.heads():
                    async for line in self._unread(head, cursors, follow=follow):
                        yield line
                if not follow:
                    return
                await changed.wait()
        finally:
            unwatch()

    async def _unread(
        self, head: LogHead, cursors: dict[str, int], *, follow: bool
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield what a log holds behind its cursor, and move the cursor."""
        while (after := cursors.setdefault(head.log_id, 0)) < head.head:
            try:
                reading = await self._store.read(
                    head.log_id, Lane.MAIN, after, limit_bytes=READ_BYTES
                )
            except (StoreError, KeyError):
                if follow:
                    return  # it may come back, or have been withdrawn
                raise
            for gap in reading.gaps:
                yield gap_line(head.log_id, gap)
            for entry in reading.entries:
                yield event_line(head.log_id, entry, volatile=head.volatile)
            if reading.through <= after:
                return
            cursors[head.log_id] = reading.through
