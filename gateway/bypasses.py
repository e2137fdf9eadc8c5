"""Points out of service for a while: their alarms are recorded as `disabled`, and none is lost.

What a bypassed point reports as alarm or supervisory signal is recorded under kind `disabled`, with
its own kind beside it. When the bypass ends, by itself or by command, what still lasts is reported
anew as what it is. Signals of panic, fire, gas and tamper are never touched, whatever their point.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from events.errors import UsageError
from events.kinds import Kind, Qualifier, Subkind
from events.model import BYPASSED_KIND, Condition, Instant, Observation, Scalar, condition
from gateway.config_checks import GATEWAY_POINT
from gateway.protected import point_protection, points, protection
from gateway.sections import Configuration

FOR_S_DEFAULT = 8 * 3600.0
FOR_S_MAX = 7 * 24 * 3600.0
BYPASSED, AFTER_BYPASS = "bypassed", "after-bypass"

_SILENCED = frozenset({Kind.ALARM, Kind.SUPERVISORY})


class Bypass(msgspec.Struct, frozen=True, kw_only=True):
    """One point out of service. `until_s` is monotonic in the boot `boot_id`; wall time in us."""

    point: str
    by: str
    boot_id: str
    until_s: float
    until_wall_us: int | None = None


_bypass = msgspec.msgpack.Decoder(Bypass)


class Bypasses:
    """Which points are bypassed, and what they said meanwhile. The shell keeps them durable."""

    def __init__(self, configuration: Configuration, *, boot_id: str) -> None:
        self._points = {point.id: point for point in points(configuration)}
        self._boot_id = boot_id
        self._active: dict[str, Bypass] = {}
        self._silenced: dict[str, dict[Condition, Observation]] = {}
        self._heard: set[Condition] | None = set()  # until `recall`: newer than what it brings

    def load(self, kept: Mapping[str, bytes], now: Instant) -> list[Bypass]:
        """Take what the disk holds; return what has ended meanwhile.

        After a restart of the machine only wall time tells: where there is none, the bypass ends.
        """
        ended = []
        for body in kept.values():
            try:
                bypass = _bypass.decode(body)
            except msgspec.DecodeError:
                continue
            left_s = self._left_s(bypass, now)
            if left_s > 0 and bypass.point in self._points:
                self._active[bypass.point] = msgspec.structs.replace(
                    bypass, boot_id=self._boot_id, until_s=now.monotonic + left_s
                )
            else:
                ended.append(bypass)
        return ended

    def recall(self, silenced: Iterable[Observation]) -> list[Observation]:
        """Take what the store holds as last said under a bypass, once it can be read.

        Returns what is to be reported as what it is: its bypass is over, and whether it was said
        then that it lasts is not known.
        """
        heard, self._heard = self._heard or set(), None
        lasting = []
        for recorded in silenced:
            key = condition(recorded)
            if key in heard:
                continue
            said = _as_said(recorded)
            if said.point in self._active:
                self._silenced.setdefault(said.point, {}).setdefault(key, said)
            else:
                lasting.append(_lasting(said))
        return lasting

    def judge(self, point: str, for_s: float, *, by: str, now: Instant) -> Bypass:
        """Return the bypass that a command asks for. Raises `UsageError` for one that may not be."""
        found = self._points.get(point)
        if found is None:
            raise UsageError(f"{point} is no configured point of this gateway")
        why = point_protection(found)
        if why:
            raise UsageError(
                f"{point} is a {why} point: it is not bypassed, whoever asks",
                hint="somebody on site has to see to it",
            )
        if not 0 < for_s <= FOR_S_MAX:
            raise UsageError(f"a bypass lasts up to {FOR_S_MAX / 3600:g} hours")
        return Bypass(
            point=point,
            by=by,
            boot_id=self._boot_id,
            until_s=now.monotonic + for_s,
            until_wall_us=None if now.wall is None else round((now.wall + for_s) * 1_000_000),
        )

    @staticmethod
    def packed(bypass: Bypass) -> bytes:
        """Return a bypass as the disk keeps it."""
        return msgspec.msgpack.encode(bypass)

    @staticmethod
    def ended(bypass: Bypass) -> Observation:
        """Return the event of a bypass that ended while nobody watched."""
        return _event(bypass.point, Qualifier.RESTORE, {"why": "time", "by": bypass.by})

    def begin(self, bypass: Bypass) -> Observation:
        """Put a bypass in force; return its event."""
        self._active[bypass.point] = bypass
        details: dict[str, Scalar] = {"by": bypass.by}
        if bypass.until_wall_us is not None:
            details["until_wall_us"] = bypass.until_wall_us
        return _event(bypass.point, Qualifier.NEW, details)

    def end(self, point: str, *, why: str, by: str = "") -> list[Observation]:
        """End a bypass; return its event, and what lasts. Raises `UsageError` where there is none."""
        if self._active.pop(point, None) is None:
            raise UsageError(f"{point} is not bypassed")
        details: dict[str, Scalar] = {"why": why}
        if by:
            details["by"] = by
        lasting = [_lasting(said) for said in self._silenced.pop(point, {}).values()]
        return [_event(point, Qualifier.RESTORE, details), *lasting]

    def due(self, now: Instant) -> list[str]:
        """Return the points whose bypass is over."""
        return [point for point, bypass in self._active.items() if bypass.until_s <= now.monotonic]

    def deadline(self) -> float | None:
        return min((bypass.until_s for bypass in self._active.values()), default=None)

    def passed(self, observations: Sequence[Observation]) -> list[Observation]:
        """Return what is to be recorded of what was seen."""
        if self._heard is not None:
            self._heard.update(map(condition, observations))
        if not self._active:
            return list(observations)
        return [self._passed(each) for each in observations]

    def status(self, now: Instant) -> list[dict[str, Scalar]]:
        return [
            {
                "point": bypass.point,
                "by": bypass.by,
                "left_s": round(max(0.0, bypass.until_s - now.monotonic), 1),
            }
            for bypass in self._active.values()
        ]

    def _passed(self, seen: Observation) -> Observation:
        silenced = seen.kind in _SILENCED and not protection(seen.kind, seen.subkind)
        if seen.point not in self._active or not silenced:
            return seen
        self._silenced.setdefault(seen.point, {})[condition(seen)] = seen
        return msgspec.structs.replace(
            seen,
            kind=Kind.DISABLED,
            flags=(*seen.flags, BYPASSED),
            details={**seen.details, BYPASSED_KIND: seen.kind},
        )

    def _left_s(self, bypass: Bypass, now: Instant) -> float:
        if bypass.boot_id == self._boot_id:
            return bypass.until_s - now.monotonic
        if now.wall is None or bypass.until_wall_us is None:
            return 0.0
        return min(bypass.until_wall_us / 1_000_000 - now.wall, FOR_S_MAX)


def _lasting(said: Observation) -> Observation:
    return msgspec.structs.replace(said, flags=(*said.flags, AFTER_BYPASS))


def _as_said(recorded: Observation) -> Observation:
    """Return what a bypassed point said, from how that was recorded."""
    details = dict(recorded.details)
    return msgspec.structs.replace(
        recorded,
        kind=str(details.pop(BYPASSED_KIND)),
        flags=tuple(flag for flag in recorded.flags if flag != BYPASSED),
        details=details,
    )


def _event(point: str, qualifier: str, details: dict[str, Scalar]) -> Observation:
    return Observation(
        point=point,
        kind=Kind.DISABLED,
        subkind=Subkind.BYPASS,
        qualifier=qualifier,
        source=GATEWAY_POINT,
        details=details,
    )
