"""The pin factory and the driver on a kernel's own GPIO chip, in an emulated arm64 machine.

The machine runs once; its program tells what it saw, and the tests judge it.
"""

from typing import Any

import pytest

from image.gpio_guest.build import build
from image.gpio_guest.machine import PROGRAM, Account, Machine

pytestmark = [
    pytest.mark.image,
    pytest.mark.needs(PROGRAM, "apt-get", "dpkg-deb"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def account() -> Account:
    with Machine(build()) as machine:
        return machine.run(within_s=110)


def facts(account: Account, name: str) -> dict[str, Any]:
    seen: dict[str, Any] = account.facts[name]
    assert "failed" not in seen, seen["failed"]
    return seen


def told(account: Account, point: str) -> list[tuple[float, dict[str, Any]]]:
    return [(at, seen) for at, seen in facts(account, "driver")["told"] if seen["point"] == point]


def test_the_chip_is_the_kernels_own(account: Account) -> None:
    (chip,) = facts(account, "chips")["chips"]
    assert (chip["path"], chip["driver"]) == ("/dev/gpiochip0", "pl061_gpio")
    assert chip["label"].endswith("pl061")
    assert len(chip["lines"]) == 8


def test_a_gpiozero_input_reads_both_levels(account: Account) -> None:
    assert facts(account, "levels") == {
        "levels": [1, 0, 1, 0],
        "name": "gpiochip0:5",
        "inverted": 1,
    }


def test_edges_bear_the_kernels_time_of_the_change(account: Account) -> None:
    seen = facts(account, "edges")
    assert [edge["level"] for edge in seen["edges"]] == [True, False, True, False]
    assert [edge["lost"] for edge in seen["edges"]] == [0, 0, 0, 0]
    for edge, (before, after) in zip(seen["edges"], seen["limits"], strict=True):
        assert before <= edge["at_us"] / 1e6 <= after


def test_gpiozeros_callbacks_come_from_the_loop_and_end_with_the_device(account: Account) -> None:
    seen = facts(account, "edges")
    assert seen["calls"] == ["activated", "deactivated"] * 2
    assert 0.05 <= seen["inactive_time"] < 5
    assert facts(account, "closed") == {"calls": 4, "edges": 4}


def test_the_kernels_debounce_makes_one_edge_of_a_bounce(account: Account) -> None:
    assert facts(account, "debounce")["calls"] == ["activated"]


def test_an_output_moves_its_line_and_no_other(account: Account) -> None:
    assert facts(account, "output")["values"] == [0, 1, 0, 1, 0, 0]
    assert account.outputs == [(6, 1), (6, 0), (6, 1), (6, 0)]


@pytest.mark.parametrize(
    ("case", "reason", "words"),
    [
        ("busy", "busy", "held by 'nplus-gateway'"),
        ("pull", "pull", "no pull-up"),
        ("name", "missing", "no line is named ZONE-1"),
        ("number", "missing", "lines 0 to 7, not 9"),
        ("chip", "missing", "no GPIO chip gpiochip7"),
        ("spi", "ConfigError", "spidev"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    account: Account, case: str, reason: str, words: str
) -> None:
    refusal = facts(account, "refusals")["refusals"][case]
    assert refusal["reason"] == reason
    assert words in refusal["text"]
    assert facts(account, "refusals")["held"] == 0


def test_edges_that_the_kernel_had_to_drop_are_counted(account: Account) -> None:
    seen = facts(account, "lost_edges")
    assert seen["calm"] == [2, 0]
    assert seen["read"] == 4
    assert seen["lost"] == [35, 0, 0, 0]
    assert (seen["level"], seen["value"]) == (True, 1)


def test_the_driver_reports_a_press_and_a_release_with_their_first_edges(account: Account) -> None:
    limits = facts(account, "driver")["limits"]
    alarms = [(at, seen) for at, seen in told(account, "panic") if seen["kind"] == "alarm"]
    (pressed_at, pressed), (_, released) = alarms[:2]
    assert limits["before"] <= pressed["edge_us"] / 1e6 <= limits["after"]
    assert pressed_at >= pressed["edge_us"] / 1e6 + 0.1
    assert pressed.get("qualifier", "new") == "new"
    assert pressed["native"]["code"] == "closed"
    assert released["qualifier"] == "restore"
    assert released["edge_us"] > pressed["edge_us"]


def test_a_pulse_shorter_than_the_qualification_is_not_reported(account: Account) -> None:
    limits = facts(account, "driver")["limits"]
    assert not [
        seen
        for at, seen in told(account, "panic")
        if seen["kind"] == "alarm" and limits["pulses"] <= at < limits["storm"]
    ]


def test_a_cut_wire_trips_a_normally_closed_contact(account: Account) -> None:
    (alarm,) = [seen for _, seen in told(account, "door") if seen["kind"] == "alarm"]
    assert alarm["native"] == {
        "scheme": "gpio",
        "code": "open",
        "fields": {"contact": "nc", "level": 0},
    }


def test_lost_edges_are_a_fault_of_the_point_and_its_level_still_reports(account: Account) -> None:
    limits = facts(account, "driver")["limits"]
    storm = [seen for at, seen in told(account, "panic") if at >= limits["storm"]]
    fault, alarm = storm
    assert (fault["kind"], fault["subkind"]) == ("fault", "lost-edge")
    assert fault["details"] == {"lost_edges": 35, "gaps": 1}
    assert (alarm["kind"], alarm["value"]) == ("alarm", True)
    assert facts(account, "driver")["health"]["counters"]["lost_edges"] == 35


def test_a_line_without_its_pull_is_a_fault_and_is_watched_all_the_same(account: Account) -> None:
    seen = [seen for _, seen in told(account, "pulled")]
    assert [(each["kind"], each.get("subkind")) for each in seen] == [
        ("fault", "configuration"),
        ("information", "unwatched"),
        ("alarm", None),
    ]
    assert 'pull = "external"' in seen[0]["text"]


def test_a_line_held_by_another_is_a_fault_until_it_is_free(account: Account) -> None:
    seen = [seen for _, seen in told(account, "taken")]
    assert [(each.get("subkind"), each.get("qualifier", "new")) for each in seen] == [
        ("line", "new"),
        ("line", "restore"),
        ("unwatched", "new"),
    ]
    assert "held by 'nplus-gateway'" in seen[0]["text"]
    assert facts(account, "driver")["health"]["units"]["taken"]["up"] is True
