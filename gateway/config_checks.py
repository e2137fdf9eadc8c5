"""The faults that no single value shows: what sections claim twice, and what the machine lacks."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from events.errors import ConfigError
from events.toml_lines import Path as Place
from gateway import output_config
from gateway.port_checks import port_findings
from gateway.sections import AnnunciationSection, GatewaySection, StationSection
from protocols.contact_id import config as contact_id
from protocols.gpio import config as gpio
from protocols.modbus import config as modbus
from protocols.ports import SerialPort, split_address
from sync.keys import read_public, read_secret
from sync.local_socket import PATH_BYTES_MAX
from sync.zmq_loop import endpoint

GATEWAY_POINT = "gateway"
GPIO_LINE = "gpio"
# Packages that we do not bring: gpiozero's factories are for those who have them.
_FACTORY_MODULES = {"libgpiod": "gpiod", "lgpio": "lgpio", "rpigpio": "RPi", "pigpio": "pigpio"}
STORE_POINT = "store"
RESERVED = (GATEWAY_POINT, GPIO_LINE, STORE_POINT)
MODBUS_TCP_PORT = 502


class Severity(Enum):
    FAULT = "fault"
    ENVIRONMENT = "environment"  # a fault to the technician, but the daemon starts and copes
    WARNING = "warning"


Finding = tuple[Place, str, Severity]
Where = Callable[[Place], str]


def findings(sections: dict[str, Any], folder: Path, where: Where) -> Iterator[Finding]:
    """Yield what is wrong across the decoded `sections` of a file that lies in `folder`.

    `where` tells how the file calls the place of a part of `sections`; messages name places so.
    """
    if "gateway" in sections:
        yield from _gateway(sections["gateway"], folder)
    yield from _stations(sections.get("station", ()), folder, where)
    yield from _drivers(sections)
    outputs = output_config.check(
        sections.get("output", ()), sections.get("bus", ()), sections.get("gpio")
    )
    yield from _placed(("output",), outputs)
    yield from _annunciation(sections)
    yield from _ids(sections, where)
    yield from _ports(sections, folder, where)


def _annunciation(sections: dict[str, Any]) -> Iterator[Finding]:
    section: AnnunciationSection = sections.get("annunciation", AnnunciationSection())
    if section.output is not None and section.output not in {
        output.id for output in sections.get("output", ())
    }:
        message = f"there is no [[output]] {section.output!r}"
        yield ("annunciation", "output"), message, Severity.FAULT


def _gateway(section: GatewaySection, folder: Path) -> Iterator[Finding]:
    try:
        read_secret(folder / section.key_file)
    except ConfigError as error:
        yield ("gateway", "key_file"), _sentence(error), Severity.FAULT
    fault = _writable(folder / section.data_dir)
    if fault:
        yield ("gateway", "data_dir"), fault, Severity.ENVIRONMENT
    if len(os.fsencode(folder / section.socket)) > PATH_BYTES_MAX:
        yield (
            ("gateway", "socket"),
            f"longer than the {PATH_BYTES_MAX} bytes that a socket's path may have",
            Severity.FAULT,
        )


def _writable(directory: Path) -> str:
    """Return why no store can be kept in `directory`; empty when one can."""
    existing = directory
    try:
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not stat.S_ISDIR(existing.stat().st_mode):
            return f"{existing} is not a folder"
    except OSError as error:
        return f"{existing} cannot be looked at: {error.strerror}"
    if not os.access(existing, os.W_OK | os.X_OK):
        what = "be written to" if existing == directory else f"be made: {existing} refuses writes"
        return f"cannot {what}; give it to the user that runs the gateway"
    return ""


def _stations(
    stations: tuple[StationSection, ...], folder: Path, where: Where
) -> Iterator[Finding]:
    if not stations:
        yield ("station",), "no [[station]]: nobody would hear of an alarm", Severity.FAULT
    names, keys = _Claims("station name", where), _Claims("public key", where)
    for index, station in enumerate(stations):
        place: Place = ("station", index)
        yield from names.claim(station.name, (*place, "name"))
        try:
            key = read_public(folder / station.public_key_file)
        except ConfigError as error:
            yield (*place, "public_key_file"), _sentence(error), Severity.FAULT
        else:
            yield from keys.claim(key, (*place, "public_key_file"), shown="this key")
        if station.next_public_key_file is not None:
            yield from _next_key(station.next_public_key_file, folder, place, keys)
        yield from _paths(station, place, where)


def _next_key(file: str, folder: Path, station_place: Place, keys: "_Claims") -> Iterator[Finding]:
    place: Place = (*station_place, "next_public_key_file")
    try:
        key = read_public(folder / file)
    except ConfigError as error:
        yield place, _sentence(error), Severity.FAULT
    else:
        yield from keys.claim(key, place, shown="this key")


def _paths(station: StationSection, station_place: Place, where: Where) -> Iterator[Finding]:
    if not station.path:
        yield station_place, "no [[station.path]]: the station cannot be reached", Severity.FAULT
    names, endpoints = _Claims("path name", where), _Claims("address", where)
    for index, path in enumerate(station.path):
        place: Place = (*station_place, "path", index)
        yield from names.claim(path.name, (*place, "name"))
        try:
            reached = endpoint(path.address)
        except ConfigError as error:
            yield (*place, "address"), _sentence(error), Severity.FAULT
        else:
            yield from endpoints.claim(reached, (*place, "address"))


def _drivers(sections: dict[str, Any]) -> Iterator[Finding]:
    """Ask each protocol about its own sections."""
    bench = "gateway" in sections and sections["gateway"].bench
    for index, bus in enumerate(sections.get("bus", ())):
        yield from _placed(("bus", index), modbus.check(bus))
    for index, receiver in enumerate(sections.get("receiver", ())):
        yield from _placed(("receiver", index), contact_id.check(receiver))
    pins = sections.get("gpio")
    if pins is not None:
        yield from _placed(("gpio",), gpio.check(pins, bench=bench))
        module = _FACTORY_MODULES.get(pins.factory)
        if module is not None and find_spec(module) is None:
            yield (
                ("gpio", "factory"),
                f"factory {pins.factory!r} needs the Python package {module!r}, which this"
                " environment does not have; the default, libgpiod, needs nothing more",
                Severity.WARNING,
            )
    if not any(sections.get(name) for name in ("bus", "receiver", "gpio")):
        yield (), "no [[bus]], no [[receiver]], no [gpio]: nothing is watched", Severity.WARNING


def _placed(place: Place, inner: Iterable[tuple[Place, str, bool]]) -> Iterator[Finding]:
    for path, message, warning in inner:
        yield (*place, *path), message, Severity.WARNING if warning else Severity.FAULT


def _ids(sections: dict[str, Any], where: Where) -> Iterator[Finding]:
    """Find names used twice, of points, units and lines: events are told apart by nothing else."""
    claims = _Claims("id", where)
    for reserved in RESERVED:
        claims.reserve(reserved)
    for place, name in _named(sections):
        if name.startswith(f"{GATEWAY_POINT}/"):
            yield place, f"ids below {GATEWAY_POINT}/ are the gateway's own", Severity.FAULT
        yield from claims.claim(name, place)


def _named(sections: dict[str, Any]) -> Iterator[tuple[Place, str]]:
    for index, bus in enumerate(sections.get("bus", ())):
        place: Place = ("bus", index)
        yield (*place, "id"), bus.id
        for number, unit in enumerate(bus.unit):
            yield (*place, "unit", number, "id"), f"{bus.id}/{unit.id}"
            for row, point in enumerate(unit.point):
                yield (*place, "unit", number, "point", row, "id"), point.id
    for index, receiver in enumerate(sections.get("receiver", ())):
        yield ("receiver", index, "id"), receiver.id
        for row, point in enumerate(receiver.point):
            yield ("receiver", index, "point", row, "id"), point.id
    pins = sections.get("gpio")
    for row, point in enumerate(pins.point if pins is not None else ()):
        yield ("gpio", "point", row, "id"), point.id
    for row, output in enumerate(sections.get("output", ())):
        yield ("output", row, "id"), output.id


def _ports(sections: dict[str, Any], folder: Path, where: Where) -> Iterator[Finding]:
    """Find ports with two owners: two masters on one bus would hear each other's answers."""
    claims = _Claims("port", where)
    for place, port in _serial_ports(sections):
        path = folder / port.path
        if "\0" not in port.path:
            yield from claims.claim(os.path.realpath(path), (*place, "path"), shown=port.path)
        for key, message, warning in port_findings(port, path):
            severity = Severity.WARNING if warning else Severity.FAULT
            yield (*place, key), message, severity
    for index, bus in enumerate(sections.get("bus", ())):
        if bus.address is None:
            continue
        try:
            host, number = split_address(
                bus.address.removeprefix("tcp://"), default_port=MODBUS_TCP_PORT
            )
        except ValueError:
            continue  # told by the protocol's own check
        yield from claims.claim(
            f"{host.lower()}:{number}", ("bus", index, "address"), shown=bus.address
        )


def _serial_ports(sections: dict[str, Any]) -> Iterator[tuple[Place, SerialPort]]:
    for name in ("bus", "receiver"):
        for index, line in enumerate(sections.get(name, ())):
            if line.port is not None:
                yield (name, index, "port"), line.port


class _Claims:
    """Who claimed what first."""

    def __init__(self, what: str, where: Where) -> None:
        self._what = what
        self._where = where
        self._owners: dict[str, Place | None] = {}

    def reserve(self, value: str) -> None:
        self._owners[value] = None

    def claim(self, value: str, place: Place, *, shown: str = "") -> Iterator[Finding]:
        if value not in self._owners:
            self._owners[value] = place
            return
        owner = self._owners[value]
        shown = shown or repr(value)
        message = (
            f"{self._what} {shown} is taken by the gateway itself"
            if owner is None
            else f"{self._what} {shown} is used twice: {self._where(owner)} has it already"
        )
        yield place, message, Severity.FAULT


def _sentence(error: ConfigError) -> str:
    return f"{error}; {error.hint}" if error.hint else str(error)
