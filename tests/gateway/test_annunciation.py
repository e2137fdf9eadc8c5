"""An event that no station takes is said on the spot after 100 s, not before and not later."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.calendar import parse_rfc3339
from events.kinds import Qualifier
from events.model import Instant
from gateway.annunciation import LOOK_S, Annunciation, Annunciator
from gateway.conditions import Conditions
from gateway.sections import NOT_DELIVERED_AFTER_S, AnnunciationSection
from hil.parts.network import free_port
from tests.gateway import virtual_time
from tests.gateway.journal import Journal
from tests.gateway.site import Site as GatewaySite
from tests.gateway.station import station


def test_the_limit_is_that_of_the_standard() -> None:
    assert AnnunciationSection().after_s == NOT_DELIVERED_AFTER_S == 100.0


class Site:
    """A gateway whose oldest undelivered event is what the test says, and its siren."""

    def __init__(self, *, began: float | None, journal: Journal | None = None) -> None:
        self.began = began
        self.journal = journal or Journal()
        self.conditions = Conditions(memory=self.journal, clock=virtual_time.clock)
        self.switched: list[tuple[float, str, bool, str]] = []
        self.annunciator = Annunciator(
            AnnunciationSection(output="siren"),
            oldest_s=self.oldest_s,
            conditions=self.conditions,
            outputs=self,
            clock=virtual_time.clock,
        )

    def oldest_s(self, now: Instant) -> float | None:
        return None if self.began is None else now.monotonic - self.began

    def set(self, output: str, on: bool, *, why: str) -> None:
        self.switched.append((virtual_time.clock().monotonic, output, on, why))

    def told(self) -> list[tuple[str, str, float]]:
        return [
            (seen.subkind, seen.qualifier, (seen.edge_us or 0) / 1e6)
            for seen in self.journal.stored
        ]


@pytest.mark.parametrize("began", [1000.0, 1000.123, 999.5, 964.25])
def test_it_is_exactly_as_old_as_it_may_be(began: float) -> None:
    async def scenario() -> Site:
        site = Site(began=None)
        async with asyncio.TaskGroup() as tasks:
            tasks_ = [
                tasks.create_task(site.annunciator.run()),
                tasks.create_task(site.conditions.run(site.journal.record)),
            ]
            await asyncio.sleep(0.3)
            site.began = began
            await asyncio.sleep(began + 99.99 - virtual_time.clock().monotonic)
            assert site.switched == [(1000.0, "siren", False, "not-delivered")]
            assert site.annunciator.status()["not_delivered"] is False
            await asyncio.sleep(0.02)
            assert site.annunciator.status()["not_delivered"] is True
            await asyncio.sleep(500.0)
            site.began = None
            await asyncio.sleep(LOOK_S)
            assert site.annunciator.status()["not_delivered"] is False
            for task in tasks_:
                task.cancel()
        return site

    site = virtual_time.run(scenario())
    (_, first), (at, _), (over, _) = [(at, on) for at, _, on, _ in site.switched]
    assert first is False
    assert at == pytest.approx(began + 100.0, abs=1e-6)
    assert over <= began + 100.01 + 500.0 + LOOK_S
    (new, restore) = site.told()
    assert new[:2] == ("not-delivered", Qualifier.NEW)
    assert new[2] == pytest.approx(began + 100.0, abs=1e-5)
    assert restore[:2] == ("not-delivered", Qualifier.RESTORE)


def test_it_goes_on_over_a_restart_and_is_not_told_twice() -> None:
    async def scenario() -> list[tuple[str, str]]:
        site = Site(began=-500.0)
        for _ in range(2):
            async with asyncio.TaskGroup() as tasks:
                running = [
                    tasks.create_task(site.annunciator.run()),
                    tasks.create_task(site.conditions.run(site.journal.record)),
                ]
                await asyncio.sleep(5.0)
                for task in running:
                    task.cancel()
            again = Site(began=-500.0, journal=site.journal)
            switched = [each[2] for each in site.switched]
            assert switched == [True]  # the output is ruled anew by each start
            site = again
        return [(subkind, qualifier) for subkind, qualifier, _ in site.told()]

    assert virtual_time.run(scenario()) == [("not-delivered", "new")]


def test_a_backlog_that_drains_ends_it_only_when_nothing_old_is_left() -> None:
    engine = Annunciation(100.0)
    ages: Sequence[float | None] = [99.9, 100.0, 99.0, 51.0, 50.0, 49.9, 60.0, 99.9, 100.0, None]
    assert [engine.look(age_s, 0.0) for age_s in ages] == [
        False, True, True, True, True, False, False, False, True, False,
    ]  # fmt: skip


@given(st.lists(st.one_of(st.none(), st.floats(0.0, 300.0)), max_size=30))
def test_what_is_too_old_is_always_said_and_what_is_delivered_never(
    ages: list[float | None],
) -> None:
    engine = Annunciation(100.0)
    for age_s in ages:
        on = engine.look(age_s, 0.0)
        assert on or age_s is None or age_s < 100.0
        assert not (on and age_s is None)
        wait_s = engine.wait_s(age_s)
        assert 0.0 <= wait_s <= LOOK_S
        assert on or age_s is None or age_s + wait_s <= 100.0


OUTPUT = """
[annunciation]
after_s = {after_s}
output = "hall/lamp"
[[output]]
id = "hall/lamp"
pin = 17
"""


@pytest.mark.parametrize("after_s", [5.0, pytest.param(100.0, marks=pytest.mark.soak)])
def test_the_real_programs_say_it_and_end_it(tmp_path: Path, after_s: float) -> None:
    """The deadline is the time-out; a bench may set 5 s, since nobody waits for 100."""

    async def scenario() -> None:
        port = free_port()
        async with GatewaySite(tmp_path, more=OUTPUT.format(after_s=after_s)) as site:
            text = site.file.read_text().replace("127.0.0.1:9", f"127.0.0.1:{port}")
            site.file.write_text(text)
            await site.start()
            started = await site.event("started")
            await asyncio.sleep(after_s - 5.0)
            new = await site.event("not-delivered")
            assert after_s - 0.1 <= seconds(new) - seconds(started) <= after_s + 1.5
            assert (await site.status())["annunciation"]["not_delivered"] is True
            lamp = await site.event("", point="hall/lamp")
            assert lamp["qualifier"] == "new"
            with station(tmp_path, port):
                await site.event("not-delivered", "restore")
                await site.event("", "restore", point="hall/lamp")
            assert (await site.status())["annunciation"]["not_delivered"] is False
            assert await site.stop() == 0

    asyncio.run(scenario())


def seconds(event: dict[str, Any]) -> float:
    return parse_rfc3339(event["at"]) / 1e6
