"""The shape of the gateway's configuration file. `sample.toml` beside this file explains every key."""

from pathlib import Path
from typing import Annotated

import msgspec

from events.points import NAME_PATTERN
from events.replication import HOLD_S, PERIOD_S_MAX
from gateway.output_config import Output, PointId
from protocols.contact_id.config import Receiver
from protocols.gpio.config import Gpio
from protocols.modbus.config import Bus
from protocols.ports import SerialPort

NAME_LENGTH_MAX = 64
STATIONS_MAX = 8
PATHS_MAX = 8
LINES_MAX = 64
OUTPUTS_MAX = 64
PERIOD_S = 5.0
METERED_PERIOD_S = 90.0
PERIOD_S_MIN = HOLD_S
BOUND_BYTES_MIN = 1024 * 1024
NOT_DELIVERED_AFTER_S = 100.0  # EN 54-21, type 1
NOT_DELIVERED_AFTER_S_MIN = 5.0

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, max_length=NAME_LENGTH_MAX)]
PathText = Annotated[str, msgspec.Meta(pattern=r"^[^\x00]+$", max_length=4096)]


class GatewaySection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gateway itself. Paths may be relative to the folder of the configuration file.

    name: how the station knows it; the name under which it was enrolled.
    data_dir: where the store lives; on a medium that survives a power cut.
    key_file: the secret key that `keygen` made, mode 0600.
    socket: where `status`, `tail` and `snapshot` ask the running gateway.
    bench: this is a test bench, where simulated pins are allowed.
    """

    name: Name
    data_dir: PathText
    key_file: PathText
    socket: PathText
    bench: bool = False


class StoreSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The store. Without `bound_bytes` it takes its own default.

    keep_days: delivered events older than this are deleted even where there is room.
    """

    bound_bytes: Annotated[int, msgspec.Meta(ge=BOUND_BYTES_MIN)] | None = None
    keep_days: Annotated[float, msgspec.Meta(ge=1, le=36_500)] | None = None


class AnnunciationSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[annunciation]` section.

    after_s: how old an event may grow before it counts as not delivered.
    output: id of the `[[output]]` that is on meanwhile.
    """

    after_s: Annotated[
        float, msgspec.Meta(ge=NOT_DELIVERED_AFTER_S_MIN, le=NOT_DELIVERED_AFTER_S)
    ] = NOT_DELIVERED_AFTER_S
    output: PointId | None = None


class StationPath(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to a station: `address` is `host:port`, with or without `tcp://` before it.

    The first of a station that works carries the events; the others are proved while they idle.

    metered: bytes are paid for here.
    period_s: how often this path is proved while it idles; 5 s, or 90 s where it is metered.
    """

    name: Name
    address: PathText
    metered: bool = False
    period_s: Annotated[float, msgspec.Meta(ge=PERIOD_S_MIN, le=PERIOD_S_MAX)] | None = None

    def idle_period_s(self) -> float:
        """Return how often the path is to be proved while another one carries."""
        if self.period_s is not None:
            return self.period_s
        return METERED_PERIOD_S if self.metered else PERIOD_S


class StationSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A station that pulls events from here.

    required: nothing is trimmed from the store before this station holds it.
    commands: whether it may command this gateway.
    next_public_key_file: the key to which the station is about to change; either is taken.
    """

    name: Name
    public_key_file: PathText
    next_public_key_file: PathText | None = None
    required: bool = True
    commands: bool = True
    path: Annotated[tuple[StationPath, ...], msgspec.Meta(max_length=PATHS_MAX)] = ()


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file."""

    gateway: GatewaySection
    store: StoreSection = StoreSection()
    station: Annotated[tuple[StationSection, ...], msgspec.Meta(max_length=STATIONS_MAX)] = ()
    bus: Annotated[tuple[Bus, ...], msgspec.Meta(max_length=LINES_MAX)] = ()
    receiver: Annotated[tuple[Receiver, ...], msgspec.Meta(max_length=LINES_MAX)] = ()
    gpio: Gpio | None = None
    annunciation: AnnunciationSection = AnnunciationSection()
    output: Annotated[tuple[Output, ...], msgspec.Meta(max_length=OUTPUTS_MAX)] = ()

    def resolved(self, folder: Path) -> "Configuration":
        """Return the same with every relative path taken from `folder`."""

        def absolute(text: str) -> str:
            return str(folder / text)

        def moved(port: SerialPort) -> SerialPort:
            return msgspec.structs.replace(port, path=absolute(port.path))

        replace = msgspec.structs.replace
        gateway, gpio = self.gateway, self.gpio
        if gpio is not None and gpio.bench_socket is not None:
            gpio = replace(gpio, bench_socket=absolute(gpio.bench_socket))
        return replace(
            self,
            gateway=replace(
                gateway,
                data_dir=absolute(gateway.data_dir),
                key_file=absolute(gateway.key_file),
                socket=absolute(gateway.socket),
            ),
            station=tuple(
                replace(
                    station,
                    public_key_file=absolute(station.public_key_file),
                    next_public_key_file=station.next_public_key_file
                    and absolute(station.next_public_key_file),
                )
                for station in self.station
            ),
            bus=tuple(
                bus if bus.port is None else replace(bus, port=moved(bus.port)) for bus in self.bus
            ),
            receiver=tuple(replace(line, port=moved(line.port)) for line in self.receiver),
            gpio=gpio,
        )
