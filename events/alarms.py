"""The station's two records about a condition: the alarm, and people's response to it.

The words are those of ISA-18.2 and IEC 62682. An event is never changed; an alarm is the state
that events drove one condition into; an incident is what people did about it.
"""

from enum import StrEnum

import msgspec


class AlarmState(StrEnum):
    NORMAL = "normal"
    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    RETURNED_UNACKNOWLEDGED = "returned-unacknowledged"
    LATCHED_UNACKNOWLEDGED = "latched-unacknowledged"
    LATCHED_ACKNOWLEDGED = "latched-acknowledged"
    SHELVED = "shelved"
    SUPPRESSED_BY_DESIGN = "suppressed-by-design"
    OUT_OF_SERVICE = "out-of-service"


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """One condition at one point, from onset to close. Numbers are the station's `n`."""

    gateway: str
    point: str
    kind: str
    subkind: str
    state: AlarmState
    raised_by: int
    cleared_by: int | None = None
    priority: str = ""


class IncidentState(StrEnum):
    RAISED = "raised"
    ACKNOWLEDGED = "acknowledged"
    DISPATCHED = "dispatched"
    ACCEPTED = "accepted"
    ON_SCENE = "on-scene"
    RESOLVED = "resolved"
    CLOSED = "closed"


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """The response to one or more alarms."""

    id: int
    state: IncidentState
    alarms: tuple[int, ...]
    code: str = ""
