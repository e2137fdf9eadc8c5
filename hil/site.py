"""The virtual community on paper: what hangs where, in which words, and the files that say so."""

import json
from dataclasses import dataclass
from pathlib import Path

from events.kinds import Kind, Subkind
from hil.account import Condition
from hil.parts.pins import Contact

STATION = "station"
BUILDING_1 = "building-1"
BUILDING_2 = "building-2"
BUILDINGS = {BUILDING_1: ("Building 1", "1号楼"), BUILDING_2: ("Building 2", "2号楼")}

QUALIFY_S = 0.25
POLL_S = 0.2
LOST_AFTER_S = 5.0  # the shortest that the station allows: a demo cannot wait for 90 s
RECEIVER = "panels"
BUS = "floor-bus"
PLANT = "plant-room"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A dry contact of a building."""

    gateway: str
    contact: Contact
    kind: str
    subkind: str
    label: str
    label_zh: str

    @property
    def condition(self) -> Condition:
        return (self.contact.point, self.kind, self.subkind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """A discrete input of a polled module."""

    gateway: str
    bus: str
    unit: int
    point: str
    address: int
    kind: str
    subkind: str
    label: str
    label_zh: str

    @property
    def condition(self) -> Condition:
        return (self.point, self.kind, self.subkind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """An alarm panel in a flat: it reports to the building's receiver under its account."""

    account: str
    zone: str
    code: str
    point: str
    kind: str
    subkind: str
    label: str
    label_zh: str

    @property
    def condition(self) -> Condition:
        return (self.point, self.kind, self.subkind)


def _wire(
    gateway: str, pin: int, point: str, subkind: str, label: str, label_zh: str, **other: str
) -> Wire:
    return Wire(
        gateway=gateway,
        contact=Contact(
            point=point, pin=f"GPIO{pin}", contact="nc" if other.get("contact") == "nc" else "no"
        ),
        kind=other.get("kind", Kind.ALARM),
        subkind=subkind,
        label=label,
        label_zh=label_zh,
    )


WIRES = (
    _wire(BUILDING_1, 5, "lobby/panic", Subkind.PANIC, "Panic button, lobby", "大堂紧急按钮"),
    _wire(
        BUILDING_1, 6, "flat-302/panic", Subkind.PANIC, "Panic button, flat 302", "302室紧急按钮"
    ),
    _wire(BUILDING_1, 13, "roof/door", Subkind.PERIMETER, "Roof door", "天台门", contact="nc"),
    _wire(
        BUILDING_1,
        19,
        "cabinet/lid",
        "",
        "Lid of the cabinet",
        "机箱防拆",
        contact="nc",
        kind=Kind.TAMPER,
    ),
    _wire(BUILDING_2, 5, "lobby/panic", Subkind.PANIC, "Panic button, lobby", "大堂紧急按钮"),
    _wire(BUILDING_2, 6, "garage/gas", Subkind.GAS, "Gas detector, garage", "车库燃气探测器"),
)


def _register(
    bus: str, unit: int, address: int, point: str, subkind: str, label: str, label_zh: str
) -> Register:
    return Register(
        gateway=BUILDING_2,
        bus=bus,
        unit=unit,
        point=point,
        address=address,
        kind=Kind.ALARM,
        subkind=subkind,
        label=label,
        label_zh=label_zh,
    )


REGISTERS = (
    _register(BUS, 1, 0, "floor-1/smoke", Subkind.SMOKE, "Smoke detector, floor 1", "1层烟感"),
    _register(
        BUS,
        1,
        1,
        "floor-1/call-point",
        Subkind.MANUAL_CALL_POINT,
        "Call point, floor 1",
        "1层手报",
    ),
    _register(BUS, 2, 0, "floor-2/smoke", Subkind.SMOKE, "Smoke detector, floor 2", "2层烟感"),
    _register(
        PLANT, 1, 0, "cellar/water", Subkind.WATER_LEAK, "Water on the cellar floor", "地下室漏水"
    ),
    _register(PLANT, 1, 1, "riser/flow", Subkind.WATER_FLOW, "Sprinkler flow", "喷淋水流"),
)

TEMPERATURE_REGISTER = 0
"""Holding register of the plant room's module: tenths of a degree, for the list to look at."""


def _panel(flat: int, zone: int, code: str, subkind: str, label: str, label_zh: str) -> Panel:
    return Panel(
        account=f"0{flat}",
        zone=f"{zone:03d}",
        code=code,
        point=f"flat-{flat}/{label.split(',', maxsplit=1)[0].lower().replace(' ', '-')}",
        kind=Kind.ALARM,
        subkind=subkind,
        label=label,
        label_zh=label_zh,
    )


PANELS = (
    _panel(401, 1, "110", Subkind.FIRE, "Fire, flat 401", "401室火警"),
    _panel(401, 2, "130", Subkind.BURGLARY, "Burglary, flat 401", "401室盗警"),
    _panel(402, 1, "100", Subkind.MEDICAL, "Medical, flat 402", "402室医疗求助"),
    _panel(403, 1, "130", Subkind.BURGLARY, "Burglary, flat 403", "403室盗警"),
    _panel(404, 1, "120", Subkind.PANIC, "Panic, flat 404", "404室紧急求助"),
    _panel(405, 1, "110", Subkind.FIRE, "Fire, flat 405", "405室火警"),
    _panel(406, 1, "130", Subkind.BURGLARY, "Burglary, flat 406", "406室盗警"),
    _panel(407, 1, "100", Subkind.MEDICAL, "Medical, flat 407", "407室医疗求助"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where everything of one run lies. Sockets have short paths of their own (107 bytes)."""

    data: Path
    sockets: Path

    def config(self, name: str) -> Path:
        return self.data / f"{name}.toml"

    def key(self, name: str) -> Path:
        return self.data / "keys" / f"{name}.key"

    def public_key(self, name: str) -> Path:
        return self.data / "keys" / f"{name}.pub"

    def log(self, name: str) -> Path:
        return self.data / "logs" / f"{name}.log"

    def journal(self, name: str) -> Path:
        return self.data / "journals" / f"{name}.jsonl"

    def port(self, name: str) -> Path:
        return self.data / "ports" / name

    def pins(self, gateway: str) -> Path:
        return self.sockets / f"{gateway}.pins"

    def socket(self, name: str) -> Path:
        return self.sockets / f"{name}.sock"

    def make(self) -> None:
        for folder in ("keys", "logs", "journals", "ports", "gateways"):
            (self.data / folder).mkdir(parents=True, exist_ok=True)


def station_text(places: Places, port: int) -> str:
    """Return the station's configuration file."""
    return f"""\
[station]
name = "{STATION}"
data_dir = {_quoted(places.data / STATION)}
key_file = {_quoted(places.key(STATION))}
listen = "127.0.0.1:{port}"
gateways_dir = {_quoted(places.data / "gateways")}
socket = {_quoted(places.socket(STATION))}
lost_after_s = {LOST_AFTER_S}
"""


def gateway_text(places: Places, gateway: str, *, port: int, plant_port: int) -> str:
    """Return a gateway's configuration file: its station is reached through `port`."""
    parts = [
        uplink_text(places, gateway, f"127.0.0.1:{port}", bench=True),
        _pins_text(places, gateway),
    ]
    if gateway == BUILDING_1:
        parts.append(receiver_text(places.port(RECEIVER)))
    else:
        rtu = (
            f'driver = "modbus-rtu"\nport = {{ path = {_quoted(places.port(BUS))}, baud = 19200 }}'
        )
        tcp = f'driver = "modbus-tcp"\naddress = "127.0.0.1:{plant_port}"'
        parts += [_bus_text(BUS, rtu), _bus_text(PLANT, tcp)]
    return "\n".join(parts)


def uplink_text(places: Places, gateway: str, address: str, *, bench: bool) -> str:
    """Return the sections of a gateway and its station. bench: its pins are here, on no header."""
    return f"""\
[gateway]
name = "{gateway}"
data_dir = {_quoted(places.data / gateway)}
key_file = {_quoted(places.key(gateway))}
socket = {_quoted(places.socket(gateway))}
bench = {"true" if bench else "false"}

[[station]]
name = "{STATION}"
public_key_file = {_quoted(places.public_key(STATION))}
required = true

[[station.path]]
name = "cable"
address = "{address}"
"""


def _pins_text(places: Places, gateway: str) -> str:
    text = f'[gpio]\nfactory = "bench"\nbench_socket = {_quoted(places.pins(gateway))}\n'
    for wire in WIRES:
        if wire.gateway == gateway:
            text += f"""
[[gpio.point]]
id = "{wire.contact.point}"
line = "{wire.contact.pin}"
contact = "{wire.contact.contact}"
qualify_ms = {QUALIFY_S * 1000:.0f}
kind = "{wire.kind}"
subkind = "{wire.subkind}"
label = "{wire.label}"
"""
    return text


def receiver_text(port: Path) -> str:
    """Return the section of the receiver at `port`, with every panel."""
    text = f"""\
[[receiver]]
id = "{RECEIVER}"
format = "mlr2"
port = {{ path = {_quoted(port)}, baud = 9600 }}
"""
    for panel in PANELS:
        text += f"""
[[receiver.point]]
id = "{panel.point}"
account = "{panel.account}"
zone = "{panel.zone}"
label = "{panel.label}"
"""
    return text


def _bus_text(bus: str, line: str) -> str:
    text = f'[[bus]]\nid = "{bus}"\n{line}\n'
    for unit in sorted({register.unit for register in REGISTERS if register.bus == bus}):
        text += f'\n[[bus.unit]]\nid = "module-{unit}"\nunit = {unit}\n'
        for register in REGISTERS:
            if (register.bus, register.unit) == (bus, unit):
                text += f"""
[[bus.unit.point]]
id = "{register.point}"
table = "discrete"
address = {register.address}
kind = "{register.kind}"
subkind = "{register.subkind}"
label = "{register.label}"
period_s = {POLL_S}
"""
    if bus == PLANT:
        text += f"""
[[bus.unit.point]]
id = "boiler/temperature"
table = "holding"
address = {TEMPERATURE_REGISTER}
kind = "{Kind.MEASUREMENT}"
subkind = "{Subkind.TEMPERATURE}"
label = "Boiler flow"
scale = 0.1
unit = "°C"
period_s = 1.0
"""
    return text


def _quoted(path: Path) -> str:
    """Return a path as a TOML string; JSON's escapes are a subset of TOML's."""
    return json.dumps(str(path))
