"""What an event can be about: kinds, subkinds and qualifiers.

All three are open strings on the wire. The names below are the ones this product writes; a reader
that meets another one shows it as `information` and keeps what it got. Kinds follow the vocabulary
of NFPA 72 and GB/T 26875; qualifiers are those of Contact ID (SIA DC-05).
"""

from enum import StrEnum


class Kind(StrEnum):
    ALARM = "alarm"
    SUPERVISORY = "supervisory"
    FAULT = "fault"
    TAMPER = "tamper"
    DISABLED = "disabled"
    TEST = "test"
    ACCESS = "access"
    ARMING = "arming"
    MEASUREMENT = "measurement"
    OUTPUT = "output"
    STATUS = "status"
    INFORMATION = "information"


class Qualifier(StrEnum):
    """Whether a condition begins, ends, or is reported again while it lasts."""

    NEW = "new"
    RESTORE = "restore"
    STILL = "still"


class Subkind(StrEnum):
    """What a kind is about. docs/events.md lists which protocol's words map to which."""

    # alarms
    PANIC = "panic"
    HOLD_UP = "hold-up"
    DURESS = "duress"
    MEDICAL = "medical"
    FIRE = "fire"
    SMOKE = "smoke"
    HEAT = "heat"
    FLAME = "flame"
    MANUAL_CALL_POINT = "manual-call-point"
    WATER_FLOW = "water-flow"
    GAS = "gas"
    CARBON_MONOXIDE = "carbon-monoxide"
    BURGLARY = "burglary"
    PERIMETER = "perimeter"
    WATER_LEAK = "water-leak"
    TEMPERATURE_LOW = "temperature-low"
    TEMPERATURE_HIGH = "temperature-high"
    ENVIRONMENTAL = "environmental"
    ARC_FAULT = "arc-fault"
    ELECTRICAL = "electrical"
    # troubles
    MAINS = "mains"
    BATTERY = "battery"
    COMMUNICATION = "communication"
    LINE = "line"
    SHORT = "short"
    OPEN = "open"
    GROUND = "ground"
    MASK = "mask"
    SENSOR = "sensor"
    SOUNDER = "sounder"
    PERIPHERAL = "peripheral"
    EQUIPMENT = "equipment"
    CHATTER = "chatter"
    LOST_EDGE = "lost-edge"
    DRIVER = "driver"
    STORE = "store"
    EVICTED = "evicted"
    CLOCK = "clock"
    CONFIGURATION = "configuration"
    # the rest
    AREA = "area"
    ZONE = "zone"
    USER = "user"
    DOOR = "door"
    CARD = "card"
    PUMP = "pump"
    VALVE = "valve"
    TRANSMISSION = "transmission"
    WALK_TEST = "walk-test"
    MANUAL = "manual"
    PERIODIC = "periodic"
    ENERGY = "energy"
    POWER = "power"
    VOLTAGE = "voltage"
    CURRENT = "current"
    VOLUME = "volume"
    FLOW = "flow"
    LEVEL = "level"
    PRESSURE = "pressure"
    TEMPERATURE = "temperature"
    HUMIDITY = "humidity"
    CONCENTRATION = "concentration"
    COUNT = "count"
    CONTACT = "contact"
    UNWATCHED = "unwatched"
    STARTED = "started"
    STOPPED = "stopped"
    COMMAND = "command"
    COMMAND_OUTCOME = "command-outcome"
    BYPASS = "bypass"
    CONFIG_STAGED = "config-staged"
    CONFIG_CONFIRMED = "config-confirmed"
    CONFIG_ROLLED_BACK = "config-rolled-back"
    UNKNOWN = "unknown"
    # what the station says of its gateways
    GATEWAY_LOST = "gateway-lost"
    MASS_LOSS = "mass-loss"
    PATH_LOST = "path-lost"
    LOG_REWOUND = "log-rewound"
    LOG_GAP = "log-gap"
    CHAIN_MISMATCH = "chain-mismatch"
    KEY_REFUSED = "key-refused"
    KEY_SHARED = "key-shared"
    IDENTITY_REFUSED = "identity-refused"
    VERSION_MISMATCH = "version-mismatch"
    MALFORMED_MESSAGE = "malformed-message"
    UNREADABLE_EVENT = "unreadable-event"
    STATION_UNREACHABLE = "station-unreachable"
    STATION_REWOUND = "station-rewound"
    EVENTS_WITHHELD = "events-withheld"
    NOT_DELIVERED = "not-delivered"


_KNOWN_KINDS = frozenset(Kind)
_URGENT_KINDS = frozenset({Kind.ALARM, Kind.TAMPER})


def shown_kind(kind: str) -> str:
    """Return the kind under which a reader shows an event: itself if known, else `information`."""
    return kind if kind in _KNOWN_KINDS else Kind.INFORMATION


def is_urgent(kind: str, *, configured: bool) -> bool:
    """Tell whether an event takes the urgent lane, whatever its qualifier.

    `configured` is the `urgent` setting of its point.
    """
    return configured or kind in _URGENT_KINDS
