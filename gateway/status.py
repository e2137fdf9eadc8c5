"""The status of a running gateway as one dictionary, for people, scripts and metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from events import __version__
from events.calendar import rfc3339
from events.model import Instant
from events.replication import Lane
from gateway.conditions import Conditions
from gateway.supervisor import Supervisor


class Reporting(Protocol):
    """What the store says of itself."""

    def status(self) -> dict[str, Any]: ...


class Serving(Protocol):
    """What the uplink says of its stations."""

    def status(self) -> list[dict[str, Any]]: ...


class Status:
    """Everything that can be asked about.

    station_keys: public key of each station, by its name. mutant: empty in a sound gateway.
    """

    def __init__(
        self,
        *,
        name: str,
        started: Instant,
        boot_id: str,
        store: Reporting,
        uplink: Serving,
        station_keys: Mapping[str, str],
        conditions: Conditions,
        lines: Sequence[tuple[str, Supervisor]],
        outputs: Callable[[], list[dict[str, Any]]],
        commanding: Callable[[], dict[str, Any]],
        annunciation: Callable[[], dict[str, Any]],
        mutant: str,
    ) -> None:
        self._name = name
        self._started = started
        self._boot_id = boot_id
        self._store = store
        self._uplink = uplink
        self._station_keys = station_keys
        self._conditions = conditions
        self._lines = tuple(lines)
        self._outputs = outputs
        self._commanding = commanding
        self._annunciation = annunciation
        self._mutant = mutant

    def at(self, now: Instant) -> dict[str, Any]:
        """Return the status of this moment."""
        store = self._store.status()
        pins = self._of("gpio")
        return {
            "name": self._name,
            "version": __version__,
            "log_id": store["log_id"],
            "head": store["head"],
            "oldest_unsent_s": round(store["oldest_unsent_s"] or 0.0, 3),  # 0: all is delivered
            "uptime_s": round(now.monotonic - self._started.monotonic, 3),
            "boot_id": self._boot_id,
            "clock": {
                "quality": str(now.clock),
                "at": None if now.wall is None else rfc3339(int(now.wall * 1_000_000)),
            },
            "stations": self._stations(store["marks"]),
            "buses": self._of("bus"),
            "receivers": self._of("receiver"),
            "gpio": pins[0] if pins else None,
            "outputs": self._outputs(),
            **self._commanding(),
            "annunciation": self._annunciation(),
            "store": store,
            "faults": self._conditions.faults(),
            "mutant": self._mutant,
        }

    def _stations(self, marks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return what each station holds: as it said, or as was noted before it speaks again."""
        noted = {(mark["station"], mark["lane"]): mark["stored"] for mark in marks}
        stations = self._uplink.status()
        for station in stations:
            key = self._station_keys[station["name"]]
            for name, lane in (("stored", Lane.MAIN), ("urgent_stored", Lane.URGENT)):
                station[name] = max(station[name], noted.get((key, lane), 0))
        return stations

    def _of(self, section: str) -> list[dict[str, Any]]:
        return [line.status() for name, line in self._lines if name == section]
