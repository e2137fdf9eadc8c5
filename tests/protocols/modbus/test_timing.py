"""Times on the line against the figures of the serial line guide."""

import json
from pathlib import Path
from typing import Any

import pytest

from protocols.modbus.timing import (
    FIXED_ABOVE_BAUD,
    character_s,
    poll_s,
    t1_5_s,
    t3_5_s,
    transmission_s,
)

VECTORS = json.loads(
    (Path(__file__).parents[2] / "vectors/modbus/timing.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_times_are_those_of_the_serial_line_guide(vector: dict[str, Any]) -> None:
    baud, expect = vector["baud"], vector["expect"]
    assert character_s(baud) * 1000 == pytest.approx(expect["char_ms_11bit"], abs=6e-5)
    assert t1_5_s(baud) * 1000 == pytest.approx(expect["t1_5_ms"], abs=6e-5)
    assert t3_5_s(baud) * 1000 == pytest.approx(expect["t3_5_ms"], abs=6e-5)
    assert transmission_s(256, baud) * 1000 == pytest.approx(expect["reply_256B_ms"], abs=0.05)
    # 8 discrete inputs: 8 characters out, 6 back
    assert poll_s(8, 6, baud, unit_s=0.02) * 1000 == pytest.approx(
        expect["poll_cycle_ms_8in_8out_slave20ms"], abs=0.1
    )


def test_silences_are_fixed_only_above_19200_baud() -> None:
    assert t3_5_s(FIXED_ABOVE_BAUD) == pytest.approx(3.5 * 11 / 19200)
    assert t1_5_s(FIXED_ABOVE_BAUD) == pytest.approx(1.5 * 11 / 19200)
    assert t3_5_s(19201) == 0.00175
    assert t1_5_s(38400) == 0.00075
