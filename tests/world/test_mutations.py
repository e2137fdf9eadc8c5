"""Code that is broken on purpose is caught by the world, for the reason it should be."""

import json
from typing import Any

import pytest

from tests.world.mutations import MUTATIONS
from tests.world.test_world import WORLDS, world

pytestmark = [pytest.mark.xdist_group("mutations"), pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def told() -> dict[str, dict[str, Any]]:
    # Twice the worlds of the plan: what takes more than one fault may come seldom.
    lines = world("--mutations", str(2 * WORLDS)).splitlines()
    return {each["name"]: each for each in map(json.loads, lines)}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_is_caught(mutation: Any, told: dict[str, dict[str, Any]]) -> None:
    found = told[mutation.name]
    assert found["said"], f"{mutation.name} lived through {found['worlds']} worlds"
    assert mutation.seen_as in found["said"]
    assert found["worlds"] <= mutation.worlds
    assert found["sound"], "the unbroken code does not live through that world either"
