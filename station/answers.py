"""What the running station answers on its socket: `gateways`, `status`, `command`, `commands`."""

from collections.abc import AsyncIterator
from typing import Any

from events.calendar import rfc3339
from events.errors import UsageError
from station.command_desk import CommandDesk
from station.config import StationConfig
from station.enrolment import Enrolment
from station.intake import Intake
from station.report import GatewayReport
from station.store import Store
from station.supervision import GatewayState
from sync.peers import Clock
from sync.zmq_sink import Hub


class Answers:
    """Answers by name of the request."""

    def __init__(
        self,
        config: StationConfig,
        *,
        store: Store,
        enrolment: Enrolment,
        intake: Intake,
        hub: Hub,
        clock: Clock,
        commands: CommandDesk,
    ) -> None:
        self._config = config
        self._store = store
        self._enrolment = enrolment
        self._intake = intake
        self._hub = hub
        self._clock = clock
        self._commands = commands
        self._started = clock.now()

    def answer(self, message: dict[str, Any]) -> AsyncIterator[object]:
        """Return the lines of the answer. Raises `UsageError` for an unknown request."""
        match message.get("request"):
            case "gateways":
                return self._gateways()
            case "status":
                return self._status()
            case "command":
                return self._commands.order(message)
            case "commands":
                return self._listed(message)
            case other:
                raise UsageError(
                    f"unknown request {str(other)[:100]!r}",
                    hint="known: gateways, status, command, commands",
                )

    async def _gateways(self) -> AsyncIterator[object]:
        reports = await self._store.logs(self._intake.offered)
        names = sorted(self._enrolment.names.keys() | reports.keys())
        yield [self._row(name, reports.get(name, GatewayReport())) for name in names]

    async def _listed(self, message: dict[str, Any]) -> AsyncIterator[object]:
        gateway, limit = message.get("gateway"), message.get("limit", 20)
        if not isinstance(gateway, str | None) or type(limit) is not int or limit < 0:
            raise UsageError("gateway is a name, limit a count")
        yield await self._commands.listed(gateway, limit)

    async def _status(self) -> AsyncIterator[object]:
        now = self._clock.now()
        supervision = self._intake.supervision
        states = [supervision.state(name, now.monotonic) for name in self._enrolment.names]
        yield {
            "name": self._config.name,
            "listen": self._hub.address,
            "up_s": round(now.monotonic - self._started.monotonic, 1),
            "lost_after_s": self._config.lost_after_s,
            "lost_at_once": len(self._intake.mass_loss.lost),
            "gateways": {state.value: states.count(state) for state in GatewayState},
            "connections": len(self._hub.status()),
            "refused": self._hub.refused,
            "store": await self._store_state(),
            "warnings": list(self._enrolment.warnings),
        }

    async def _store_state(self) -> dict[str, Any]:
        trouble = self._store.trouble
        if trouble is not None:
            return {"state": trouble.state, "error": str(trouble), "hint": trouble.hint}
        counts = await self._store.counts()
        return {
            "state": "ok",
            "n": counts.n,
            "bytes": counts.bytes,
            "ledger_id": counts.ledger_id,
        }

    def _row(self, name: str, report: GatewayReport) -> dict[str, Any]:
        supervision = self._intake.supervision
        seen_us = self._intake.seen_us.get(name, report.last_seen_us)
        now_s = self._clock.now().monotonic
        silent_s = supervision.silent_s(name, now_s)
        return {
            "name": name,
            "state": supervision.state(name, now_s).value,
            "last_seen": None if seen_us is None else rfc3339(seen_us),
            "silent_s": None if silent_s is None else round(silent_s, 1),
            "lost_after_s": self._enrolment.lost_after_s.get(name, self._config.lost_after_s),
            "lost_at_once": name in self._intake.mass_loss.lost,
            "log_id": report.log_id,
            "seq": report.seq,
            "head": report.head,
            "missing": report.missing,
            "gaps": [
                {"log_id": gap.log_id, "first": gap.first, "last": gap.last, "why": gap.why}
                for gap in report.gaps
            ],
            "logs": report.logs,
            "paths": [
                {"name": path, "state": state.value}
                for path, state in supervision.paths(name, now_s).items()
            ],
            "program": self._intake.programs.get(name),
            "public_key": self._enrolment.names.get(name),
        }
