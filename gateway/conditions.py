"""The gateway's own two-state conditions: each change is stored once, whatever happens meanwhile.

A line that is lost, a driver that fails, a station that refuses us: whoever notices says so with
`set`, as often as it likes. What differs from the last stored state becomes an event; when the
store cannot take it, it is owed and tried again, and changes in between are counted, not queued.
"""

import asyncio
from dataclasses import dataclass, field

from events.errors import StoreError
from events.kinds import Kind, Qualifier
from events.model import Observation, Scalar
from protocols.drivers.base import Clock, Report
from protocols.levels import Memory

CONDITIONS_MAX = 4096
RETRY_S = 1.0
REASON_LENGTH_MAX = 500


@dataclass(slots=True, kw_only=True)
class _Condition:
    point: str
    subkind: str
    stored: str  # the reason last stored; empty when the last stored event was a restore
    wanted: str
    text: str = ""
    source: str = ""
    edge_us: int = 0
    details: dict[str, Scalar] = field(default_factory=dict)
    skipped: int = 0

    def observation(self) -> Observation:
        details = dict(self.details)
        if self.wanted not in ("", self.text):
            details["reason"] = self.wanted
        if self.skipped:
            details["changes_not_stored"] = self.skipped
        return Observation(
            point=self.point,
            kind=Kind.FAULT,
            subkind=self.subkind,
            qualifier=Qualifier.NEW if self.wanted else Qualifier.RESTORE,
            source=self.source,
            text=self.text,
            edge_us=self.edge_us,
            details=details,
        )


class Conditions:
    """Keeps every condition and stores its changes, oldest change first."""

    def __init__(self, *, memory: Memory, clock: Clock) -> None:
        self._memory = memory
        self._clock = clock
        self._conditions: dict[tuple[str, str], _Condition] = {}
        self._owed: dict[tuple[str, str], None] = {}
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self.ignored = 0

    def set(
        self,
        point: str,
        subkind: str,
        reason: str,
        *,
        text: str = "",
        source: str = "",
        details: dict[str, Scalar] | None = None,
    ) -> bool:
        """Note that `point` is at fault for `reason`, or well again when `reason` is empty.

        Returns whether that is news. A different reason is a new fault without a restore between.
        """
        reason = reason[:REASON_LENGTH_MAX]
        condition = self._of(point, subkind)
        if condition is None or condition.wanted == reason:
            return False
        key = (point, subkind)
        if key in self._owed:
            condition.skipped += 1
        condition.wanted = reason
        condition.text = (text or reason)[:REASON_LENGTH_MAX]
        condition.source = source
        condition.edge_us = int(self._clock().monotonic * 1_000_000)
        condition.details = details or {}
        self._owed[key] = None
        self._idle.clear()
        self._news.set()
        return True

    def active(self, point: str, subkind: str) -> bool:
        """Tell whether the condition is a fault now, by what was said or by what was stored."""
        condition = self._of(point, subkind)
        return condition is not None and bool(condition.wanted)

    def faults(self) -> list[dict[str, str]]:
        """Return every fault that is said to be there now."""
        return [
            {
                "point": each.point,
                "subkind": each.subkind,
                "reason": each.wanted,
                "text": each.text,
            }
            for each in self._conditions.values()
            if each.wanted
        ]

    def reread(self) -> None:
        """Compare with the store again: it could not be read before, and now it can."""
        for key, condition in self._conditions.items():
            condition.stored = self._stored_reason(*key)
            if condition.stored != condition.wanted and key not in self._owed:
                self._owed[key] = None
                self._idle.clear()
                self._news.set()

    async def run(self, record: Report) -> None:
        """Store changes until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._owed:
                if not await self._settle(record):
                    await asyncio.sleep(RETRY_S)
            self._idle.set()

    async def settled(self) -> None:
        """Return when nothing is owed."""
        await self._idle.wait()

    async def _settle(self, record: Report) -> bool:
        key = next(iter(self._owed))
        del self._owed[key]  # a change from here on is another change
        condition = self._conditions[key]
        wanted = condition.wanted
        if wanted == condition.stored:
            return True  # it came and went while the store took nothing
        skipped = condition.skipped
        try:
            await record([condition.observation()])
        except StoreError:
            if key in self._owed:
                condition.skipped += 1
            self._owed[key] = None
            return False
        condition.stored = wanted
        condition.skipped -= skipped
        return True

    def _of(self, point: str, subkind: str) -> _Condition | None:
        condition = self._conditions.get((point, subkind))
        if condition is None:
            if len(self._conditions) >= CONDITIONS_MAX:
                self.ignored += 1
                return None
            stored = self._stored_reason(point, subkind)
            condition = _Condition(point=point, subkind=subkind, stored=stored, wanted=stored)
            self._conditions[point, subkind] = condition
        return condition

    def _stored_reason(self, point: str, subkind: str) -> str:
        last = self._memory.latest(point, Kind.FAULT, subkind)
        if last is None or last.qualifier == Qualifier.RESTORE:
            return ""
        return str(last.details.get("reason", "")) or last.text or "unknown"
