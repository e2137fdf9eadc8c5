"""The files that the demonstration writes are files that the programs accept without a word."""

import tomllib
from pathlib import Path

import pytest

from gateway.config import check
from hil.site import (
    BUILDING_1,
    BUILDING_2,
    BUILDINGS,
    PANELS,
    REGISTERS,
    STATION,
    WIRES,
    Places,
    gateway_text,
    station_text,
)
from station.config import inspect
from sync.keys import keygen


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(data=tmp_path, sockets=tmp_path)
    made.make()
    for name in (STATION, *BUILDINGS):
        keygen(made.key(STATION).parent, name)
    return made


@pytest.mark.parametrize("name", [BUILDING_1, BUILDING_2])
def test_a_gateway_takes_its_file_as_it_is(places: Places, name: str) -> None:
    for port in ("panels", "floor-bus"):
        places.port(port).symlink_to("/dev/ptmx")
    places.config(name).write_text(gateway_text(places, name, port=7780, plant_port=7781))
    assert [str(fault) for fault in check(places.config(name))] == []


def test_the_station_takes_its_file_as_it_is(places: Places) -> None:
    places.config(STATION).write_text(station_text(places, 7780))
    config, faults = inspect(places.config(STATION))
    assert [str(fault) for fault in faults] == []
    assert config is not None


def test_every_device_has_a_place_of_its_own(places: Places) -> None:
    for name in BUILDINGS:
        text = gateway_text(places, name, port=1, plant_port=2)
        document = tomllib.loads(text)
        points = [point["id"] for point in document["gpio"]["point"]]
        for bus in document.get("bus", ()):
            points += [point["id"] for unit in bus["unit"] for point in unit["point"]]
        for receiver in document.get("receiver", ()):
            points += [point["id"] for point in receiver["point"]]
        assert len(points) == len(set(points))
    assert len({panel.point for panel in PANELS}) == len(PANELS)
    assert len({(wire.gateway, wire.contact.pin) for wire in WIRES}) == len(WIRES)
    assert len({(r.bus, r.unit, r.address) for r in REGISTERS}) == len(REGISTERS)
