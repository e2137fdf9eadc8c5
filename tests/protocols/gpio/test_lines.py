import pytest

from protocols.gpio.lines import Chip, LineFault, locate

HEADER = Chip(
    path="/dev/gpiochip4",
    name="gpiochip4",
    label="pinctrl-rp1",
    driver="rp1-gpio",
    lines=("ID_SDA", "ID_SCL", "GPIO2", "GPIO3", "GPIO4", "GPIO5"),
)
EXPANDER = Chip(
    path="/dev/gpiochip0",
    name="gpiochip0",
    label="expander",
    driver="pca953x",
    lines=("ZONE-1", "ZONE-2", "GPIO5", "", "", "", "", ""),
)
SIMULATED = Chip(
    path="/dev/gpiochip1", name="gpiochip1", label="np-zones", driver="gpio-sim", lines=("", "")
)
ALL = [EXPANDER, SIMULATED, HEADER]


@pytest.mark.parametrize(
    ("line", "chip", "where"),
    [
        ("ZONE-2", None, (EXPANDER, 1)),
        ("ZONE-2", "expander", (EXPANDER, 1)),
        (2, None, (HEADER, 2)),
        ("GPIO4", None, (HEADER, 4)),
        ("1", None, (HEADER, 1)),
        (5, "gpiochip0", (EXPANDER, 2)),  # the kernel's name of a line comes first
        ("6", "/dev/gpiochip0", (EXPANDER, 6)),
        ("np-zones:1", None, (SIMULATED, 1)),
        ("gpiochip4:GPIO5", None, (HEADER, 5)),
    ],
)
def test_a_line_is_found_by_its_name_or_number(
    line: str | int, chip: str | None, where: tuple[Chip, int]
) -> None:
    assert locate(ALL, line, chip) == where


def test_a_single_chip_needs_no_name() -> None:
    assert locate([SIMULATED], 1) == (SIMULATED, 1)


@pytest.mark.parametrize(
    ("chips", "line", "chip", "words"),
    [
        ([], 5, None, "no GPIO chip on this machine"),
        (ALL, 5, "gpiochip9", "no GPIO chip gpiochip9"),
        (ALL, "ZONE-9", None, "no line is named ZONE-9"),
        (ALL, "GPIO5", None, "more than once"),
        ([EXPANDER, SIMULATED], 1, None, "may be on any of gpiochip0, gpiochip1"),
        ([SIMULATED], 2, None, "lines 0 to 1, not 2"),
        (ALL, "ZONE-1", "pinctrl-rp1", "no line is named ZONE-1"),
    ],
)
def test_a_line_that_is_not_clear_is_a_named_fault(
    chips: list[Chip], line: str | int, chip: str | None, words: str
) -> None:
    with pytest.raises(LineFault, match=words) as caught:
        locate(chips, line, chip)
    assert caught.value.reason == "missing"


def test_a_missing_chip_names_those_that_are_there() -> None:
    with pytest.raises(LineFault) as caught:
        locate(ALL, 1, "usb-io")
    assert "gpiochip4 (pinctrl-rp1)" in caught.value.hint


def test_pulls_are_believed_of_pin_controllers_and_the_simulator_only() -> None:
    assert [chip.sets_pulls for chip in (HEADER, SIMULATED, EXPANDER)] == [True, True, False]
