"""What is worth recording of a point: changes of level, measurements, and readings that fail.

Levels at start follow `protocols.levels`: the first reading of each point brings the event for the
unwatched time, and a change only where the level differs from the one last stored.
"""

from dataclasses import dataclass

from events.kinds import Kind, Qualifier, Subkind
from events.model import RAW_LENGTH_MAX, Instant, Native, Observation, Scalar
from protocols.levels import Memory, stored_level, unwatched
from protocols.modbus.map import Reading
from protocols.modbus.sections import Point

_CELL_NAMES = {
    "discrete": "discrete-input",
    "coil": "coil",
    "input": "input-register",
    "holding": "holding-register",
}
_BEYOND = "beyond-threshold"
_SCHEME = "modbus"
_ROUNDING = 1e-9  # 25.6 - 25.1 is a little less than 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The answer that a reading came from."""

    unit: int
    fc: int
    raw: bytes
    integrity: tuple[str, ...]


class Condition:
    """A two-state condition that begins where the store left it."""

    def __init__(self, memory: Memory, point: str, kind: str, subkind: str) -> None:
        self._key = (point, kind, subkind)
        self._memory = memory
        self._known = False
        self._level = False

    @property
    def level(self) -> bool:
        """Return the present level; what was never stored does not hold."""
        if not self._known:
            self._known = True
            self._level = bool(stored_level(self._memory, *self._key))
        return self._level

    def change(self, level: bool) -> Qualifier | None:
        """Take a level; return the qualifier of the event that it is, if it is one."""
        if level == self.level:
            return None
        self._level = level
        return Qualifier.NEW if level else Qualifier.RESTORE


class Watch:
    """One point: turns readings into observations."""

    def __init__(self, point: Point, *, unit: int, source: str, memory: Memory) -> None:
        self.point = point
        self._source = source
        self._memory = memory
        self._address = {"unit": str(unit), _CELL_NAMES[point.table]: str(point.address)}
        self._seen = False
        self._first = True  # no value yet in this run
        self._condition = Condition(memory, point.id, point.kind, point.subkind)
        self._unreadable = Condition(memory, point.id, Kind.FAULT, Subkind.COMMUNICATION)
        self._senseless = Condition(memory, point.id, Kind.FAULT, Subkind.SENSOR)
        self._stored_value: float | None = None
        self._stored_at = -float("inf")
        self._beyond = False

    def read(self, reading: Reading, evidence: Evidence, now_s: float) -> list[Observation]:
        """Take a reading; return what is to be recorded of it, in order."""
        found = []
        if not self._seen:
            self._seen = True
            found.append(self._unwatched(reading, now_s))
        found += self._fault(self._unreadable, Subkind.COMMUNICATION, False, reading, evidence)
        found += self._fault(
            self._senseless, Subkind.SENSOR, reading.value is None, reading, evidence
        )
        if reading.value is not None:
            if self.point.kind == Kind.MEASUREMENT:
                found += self._measure(reading, float(reading.value), evidence, now_s)
            else:
                found += self._compare(reading, reading.value, evidence)
            self._first = False
        return found

    def unreadable(self, exception: int, evidence: Evidence) -> list[Observation]:
        """Note that the unit answers, but refuses to give this point."""
        qualifier = self._unreadable.change(True)
        if qualifier is None:
            return []
        return [
            self._observation(
                Kind.FAULT,
                Subkind.COMMUNICATION,
                qualifier,
                evidence,
                quality="invalid",
                native=Native(
                    scheme=_SCHEME,
                    code=f"exception-{exception}",
                    fields={"fc": evidence.fc, "exception": exception},
                ),
            )
        ]

    def _unwatched(self, reading: Reading, now_s: float) -> Observation:
        quality = "invalid" if reading.value is None else "good"
        return unwatched(
            self._memory,
            point=self.point.id,
            source=self._source,
            level=reading.value,
            now=Instant(monotonic=now_s),
            quality=quality,
        )

    def _fault(
        self,
        condition: Condition,
        subkind: str,
        level: bool,
        reading: Reading,
        evidence: Evidence,
    ) -> list[Observation]:
        qualifier = condition.change(level)
        if qualifier is None:
            return []
        return [
            self._observation(
                Kind.FAULT,
                subkind,
                qualifier,
                evidence,
                value=reading.value,
                raw_value=reading.raw,
                quality="invalid" if level else "good",
            )
        ]

    def _compare(self, reading: Reading, value: float, evidence: Evidence) -> list[Observation]:
        qualifier = self._condition.change(self._holds(value, self._condition.level))
        if qualifier is None:
            return []
        return [
            self._observation(
                self.point.kind,
                self.point.subkind,
                qualifier,
                evidence,
                value=reading.value,
                raw_value=reading.raw,
                flags=("initial",) if self._first else (),
            )
        ]

    def _holds(self, value: float, before: bool) -> bool:
        """Tell whether the condition holds; between threshold and hysteresis it stays as it was."""
        point = self.point
        if point.threshold is None:
            return bool(value) is point.active
        beyond = value - point.threshold if point.side == "above" else point.threshold - value
        return beyond >= 0 or (before and beyond >= -point.hysteresis)

    def _measure(
        self, reading: Reading, value: float, evidence: Evidence, now_s: float
    ) -> list[Observation]:
        if self._first:
            self._recall()
        crossed = self._holds(value, self._beyond) != self._beyond and (
            self.point.threshold is not None
        )
        if not crossed and not self._is_due(value, now_s):
            return []
        self._beyond ^= crossed
        self._stored_value, self._stored_at = value, now_s
        return [
            self._observation(
                Kind.MEASUREMENT,
                self.point.subkind,
                Qualifier.RESTORE if crossed and not self._beyond else Qualifier.NEW,
                evidence,
                value=reading.value,
                raw_value=reading.raw,
                state=(_BEYOND,) if self._beyond else (),
                changed=(_BEYOND,) if crossed else (),
                flags=("initial",) if self._first else (),
            )
        ]

    def _is_due(self, value: float, now_s: float) -> bool:
        if self._stored_value is None:
            return True
        change = abs(value - self._stored_value)
        if not change or change + _ROUNDING < self.point.deadband:
            return False
        # What was stored before this run may be any time ago: then the change alone counts.
        return now_s - self._stored_at >= self.point.report_s

    def _recall(self) -> None:
        last = self._memory.latest(self.point.id, Kind.MEASUREMENT, self.point.subkind)
        if last is not None and isinstance(last.value, int | float):
            self._stored_value = float(last.value)
            self._beyond = _BEYOND in last.state

    def _observation(
        self,
        kind: str,
        subkind: str,
        qualifier: str,
        evidence: Evidence,
        *,
        value: Scalar | None = None,
        raw_value: Scalar | None = None,
        quality: str = "good",
        state: tuple[str, ...] = (),
        changed: tuple[str, ...] = (),
        flags: tuple[str, ...] = (),
        native: Native | None = None,
    ) -> Observation:
        return Observation(
            point=self.point.id,
            kind=kind,
            subkind=subkind,
            qualifier=qualifier,
            source=self._source,
            address=self._address,
            value=value,
            unit="" if isinstance(value, bool) else self.point.unit,
            raw_value=raw_value,
            quality=quality,
            state=state,
            changed=changed,
            native=native or self._native(evidence),
            raw=evidence.raw[:RAW_LENGTH_MAX],
            integrity=evidence.integrity,
            flags=flags,
        )

    def _native(self, evidence: Evidence) -> Native:
        fields: dict[str, Scalar] = {
            "unit": evidence.unit,
            "fc": evidence.fc,
            "address": self.point.address,
        }
        if self.point.bit is not None:
            fields["bit"] = self.point.bit
        elif self.point.value_type != "bool":
            fields["type"] = self.point.value_type
        return Native(scheme=_SCHEME, code=str(evidence.fc), fields=fields)
