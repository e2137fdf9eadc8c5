"""From the state of the paths to a station to stored faults of this gateway."""

import structlog

from events.kinds import Subkind
from gateway.conditions import Conditions
from gateway.config_checks import GATEWAY_POINT
from sync.peers import PathChange, PathFault, Rewound

_SUBKINDS = {
    PathFault.UNREACHABLE: Subkind.PATH_LOST,
    PathFault.STATION_SILENT: Subkind.PATH_LOST,
    PathFault.WRONG_STATION_KEY: Subkind.KEY_REFUSED,
    PathFault.KEY_REFUSED: Subkind.KEY_REFUSED,
    PathFault.IDENTITY_REFUSED: Subkind.KEY_REFUSED,
    PathFault.KEY_SHARED: Subkind.KEY_SHARED,
    PathFault.VERSION_MISMATCH: Subkind.VERSION_MISMATCH,
}
UNREACHABLE = "unreachable"
REWOUND = "rewound"


class UplinkFaults:
    """Hears of every change of a path. `paths` are all there are, by station."""

    def __init__(self, conditions: Conditions, paths: dict[str, frozenset[str]]) -> None:
        self._conditions = conditions
        self._untold = {station: set(names) for station, names in paths.items()}
        self._log = structlog.get_logger()

    def heard(self, change: PathChange) -> None:
        """Turn a change into what it says of the path, and of the station behind it.

        A station is unreachable only once something is known of each of its paths.
        """
        fault = PathFault(change.fault) if change.fault else PathFault.UNREACHABLE
        current = None if change.up else _SUBKINDS[fault]
        path_point = f"{GATEWAY_POINT}/{change.station}/{change.path}"
        for subkind in dict.fromkeys(_SUBKINDS.values()):
            reason = fault.value if subkind == current else ""
            self._conditions.set(
                path_point, subkind, reason, text=change.text, source=GATEWAY_POINT
            )
        self._tell(change, fault)
        untold = self._untold[change.station]
        untold.discard(change.path)
        if change.station_up or not untold:
            self._conditions.set(
                f"{GATEWAY_POINT}/{change.station}",
                Subkind.STATION_UNREACHABLE,
                "" if change.station_up else UNREACHABLE,
                text="" if change.station_up else change.text,
                source=GATEWAY_POINT,
            )

    def rewound(self, rewound: Rewound) -> None:
        """Turn it into a fault of the station, which ends once it holds again what it held."""
        text = ""
        if rewound.held is not None:
            text = (
                f"holds events up to {rewound.held}, and had acknowledged {rewound.acknowledged}:"
                " was it restored from a backup? What is still here is sent again,"
                f" from {max(rewound.first, rewound.held + 1)} on"
            )
            self._log.warning("station rewound", station=rewound.station, text=text)
        self._conditions.set(
            f"{GATEWAY_POINT}/{rewound.station}",
            Subkind.STATION_REWOUND,
            REWOUND if text else "",
            text=text,
            source=GATEWAY_POINT,
            details={"held": rewound.held or 0, "acknowledged": rewound.acknowledged}
            if text
            else None,
        )

    def _tell(self, change: PathChange, fault: PathFault) -> None:
        log = self._log.bind(station=change.station, path=change.path)
        if change.up:
            log.info("path up")
        else:
            log.warning("path down", reason=fault.value, text=change.text)
