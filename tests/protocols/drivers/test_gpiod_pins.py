"""The libgpiod factory where there is no GPIO chip; `tests/image` has one."""

import asyncio
import errno
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from gpiozero import MCP3008
from gpiozero.exc import SPIBadArgs

from events.errors import ConfigError, LinkLost
from protocols.drivers import gpiod_pins
from protocols.drivers.gpio import GpioDriver
from protocols.drivers.gpiod_pins import GpiodFactory, chips, line_fault
from protocols.gpio.config import Gpio
from protocols.gpio.lines import LineFault
from tests.protocols.drivers.test_gpio import PANIC, Store, context


@pytest.fixture
def no_chips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(gpiod_pins, "_DEVICES", tmp_path)
    return tmp_path


def test_files_that_are_no_chips_are_passed_over(no_chips: Path) -> None:
    (no_chips / "gpiochip0").write_text("not a device")
    assert chips() == []


def test_a_machine_without_a_chip_is_a_named_fault(no_chips: Path) -> None:
    with pytest.raises(LineFault, match="no GPIO chip on this machine") as caught:
        GpiodFactory().pin(5)
    assert caught.value.reason == "missing"


def test_the_driver_is_started_again_when_no_chip_is_there(no_chips: Path) -> None:
    store = Store()
    driver = GpioDriver(msgspec.convert({"point": [PANIC]}, Gpio), context())
    for _ in range(2):
        with pytest.raises(LinkLost, match="no GPIO chip"):
            asyncio.run(driver.run(store.report))
    (fault,) = store.stored  # told once, not at every start
    assert (fault.point, fault.kind, fault.subkind) == ("panic", "fault", "line")
    assert driver.health().units["panic"]["fault"] == "line"


@pytest.mark.parametrize(
    ("number", "holder", "reason", "words"),
    [
        (errno.EBUSY, "siren-daemon", "busy", "held by 'siren-daemon'"),
        (errno.EBUSY, "", "busy", "busy"),
        (errno.EACCES, "", "forbidden", "denied"),
        (errno.ENODEV, "", "missing", "No such device"),
        (errno.EIO, "", "failed", "error"),
    ],
)
def test_the_systems_refusals_are_translated(
    number: int, holder: str, reason: str, words: str
) -> None:
    fault = line_fault(OSError(number, os.strerror(number)), "line ZONE-1", holder=holder)
    assert fault.reason == reason
    assert words in str(fault)
    assert str(fault).startswith("line ZONE-1: ")


def test_a_missing_permission_says_which_group_helps() -> None:
    assert "group `gpio`" in line_fault(PermissionError(errno.EACCES, "no"), "chip").hint


def test_spi_without_its_library_is_a_fault_of_the_installation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "spidev", None)
    with pytest.raises(ConfigError, match="spidev"):
        GpiodFactory().spi(port=0, device=0)


class Converter:
    """An MCP3008 at the other end of spidev: channel n reads n * 100."""

    mode = 0
    lsbfirst = False
    cshigh = False
    bits_per_word = 8
    max_speed_hz = 0

    def open(self, port: int, device: int) -> None:
        if (port, device) != (0, 1):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    def xfer2(self, data: list[int]) -> list[int]:
        value = (data[1] >> 4 & 7) * 100
        return [0, value >> 8, value & 0xFF]

    def close(self) -> None:
        self.mode = -1


@pytest.fixture
def spidev(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("spidev")
    module.SpiDev = Converter
    monkeypatch.setitem(sys.modules, "spidev", module)


@pytest.mark.usefixtures("spidev")
def test_gpiozeros_converter_reads_over_spidev() -> None:
    with MCP3008(channel=5, device=1, pin_factory=GpiodFactory()) as converter:
        assert converter.raw_value == 500


@pytest.mark.usefixtures("spidev")
def test_the_pins_of_the_header_mean_its_spi() -> None:
    pins = {"clock_pin": "GPIO11", "mosi_pin": "GPIO10", "miso_pin": "GPIO9"}
    bus = GpiodFactory().spi(**pins, select_pin="GPIO7")
    assert bus.transfer([1, 0x90, 0]) == [0, 0, 100]
    bus.close()
    assert bus.closed


@pytest.mark.usefixtures("spidev")
def test_spi_that_is_not_there_or_not_hardware_is_refused() -> None:
    with pytest.raises(LinkLost, match=r"/dev/spidev0\.0"):
        GpiodFactory().spi()
    with pytest.raises(SPIBadArgs):
        GpiodFactory().spi(clock_pin="GPIO1", mosi_pin=None, miso_pin=None, select_pin="GPIO2")
    with pytest.raises(SPIBadArgs):
        GpiodFactory().spi(port=0, speed=3)
