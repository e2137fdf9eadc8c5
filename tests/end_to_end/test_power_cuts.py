"""Power cuts at random instants, on a disk that loses what was not flushed."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from hil.parts.disks import DEVICES, PROGRAMS
from hil.parts.namespaces import alone, missing

SOAK_CUTS = int(os.environ.get("SOAK_CUTS", "2000"))

pytestmark = pytest.mark.skipif(
    bool(missing(*PROGRAMS, devices=DEVICES)),
    reason=f"power cuts need {', '.join(missing(*PROGRAMS, devices=DEVICES))}",
)


def cut(subject: str, cuts: int, seed: int, sync: str = "FULL") -> dict[str, Any]:
    rig = [sys.executable, "-m", "tests.end_to_end.power_cuts"]
    command = alone([*rig, subject, str(cuts), str(seed), sync])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    print(f"{subject}, {sync}: {dict(report, wrong=len(report['wrong']))}")
    return report


@pytest.mark.parametrize(("subject", "cuts"), [("gateway", 120), ("station", 90)])
def test_what_was_told_durable_survives_every_power_cut(subject: str, cuts: int) -> None:
    report = cut(subject, cuts, seed=1)
    assert report["wrong"] == []
    assert report["cuts"] >= cuts
    assert report["repaired"] <= 1 + cuts // 50, "the filesystem itself does not survive"
    assert report["lost_sectors"] > cuts // 10, "the disk forgot nothing: these were no power cuts"
    if subject == "gateway":
        assert report["trimmed"] > cuts // 10
        assert report["full"] > 0


def test_no_power_cut_loses_a_store_that_is_being_set_aside() -> None:
    report = cut("aside", 16, seed=3)
    assert report["wrong"] == []
    assert report["lost_sectors"] > 0


@pytest.mark.parametrize("subject", ["gateway", "station"])
def test_the_rig_catches_a_commit_that_is_not_flushed(subject: str) -> None:
    report = cut(subject, 6, seed=2, sync="NORMAL")
    lost = [each for each in report["wrong"] if "lost: " in each]
    assert lost, "synchronous = NORMAL has to lose events here"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("subject", ["gateway", "station"])
def test_what_was_told_durable_survives_many_power_cuts(subject: str) -> None:
    report = cut(subject, -(-SOAK_CUTS // 2), seed=100)
    assert report["wrong"] == []
    assert report["cuts"] * 2 >= SOAK_CUTS


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_none_of_many_power_cuts_loses_a_store_that_is_being_set_aside() -> None:
    assert cut("aside", SOAK_CUTS // 10, seed=300)["wrong"] == []
