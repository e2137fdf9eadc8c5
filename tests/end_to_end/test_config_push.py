"""Configurations pushed by the real station to the real gateway: confirmed, refused, rolled back."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.pair import Pair, pair

CONFIG, FAILED, REFUSED = 78, 74, 77
TRIAL = ("--trial", "5")


async def asked(both: Pair, text: str, *words: str, verb: str = "push") -> tuple[int, Any]:
    file = both.gateway.folder / "proposed.toml"
    file.write_text(text)
    code, out, err = await both.run(
        "config", verb, "hall", str(file), "--by", "wang", "--json", *words
    )
    lines = out.splitlines()
    return code, json.loads(lines[-1]) if lines else {"error": err}


async def seen(both: Pair, count: int) -> None:
    """Wait until the station holds so many signals of the button, each once and in order."""

    def told() -> list[str]:
        return [each["qualifier"] for each in both.events("panic") if each["kind"] == "alarm"]

    await both.until(lambda: len(told()) >= count)
    assert told() == ["new", "restore"] * (count // 2)


def begun(both: Pair, times: int) -> bool:
    """Tell whether the gateway has begun so often, and watches its contacts again."""
    return both.gateway.said().count('"started"') == times and both.gateway.pins.watched


async def press(both: Pair) -> None:
    for on in (True, False):
        both.gateway.pins.set("lobby/panic", on=on)
        await asyncio.sleep(0.3)


@pytest.mark.timeout(120)
def test_a_good_configuration_is_confirmed_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as both:
            await press(both)
            await seen(both, 2)

            bad = both.text.replace("line = 5", "line = 6").replace(
                'contact = "nc"', "contact = 3"
            )
            code, answer = await asked(both, bad)
            assert code == CONFIG, answer
            assert answer["verdict"] == "refused"
            assert {fault["line"] for fault in answer["report"]["faults"]} >= {27}
            assert both.gateway.file.read_text() == both.text

            weaker = both.text.replace(
                'qualify_ms = 20\nkind = "alarm"\nsubkind = "panic"',
                'qualify_ms = 400\nkind = "alarm"\nsubkind = "panic"',
            )
            code, answer = await asked(both, weaker)
            assert code == REFUSED, answer
            assert "second person" in answer["text"]
            code, answer = await asked(both, weaker, "--confirmed-by", " Wang")
            assert code == REFUSED, answer

            stranger = both.text.replace(
                'public_key_file = "east.pub"', 'public_key_file = "hall.pub"'
            )
            code, answer = await asked(both, stranger, "--confirmed-by", "li")
            assert code == REFUSED, answer
            assert "key of station east" in answer["text"]
            assert both.gateway.file.read_text() == both.text

            code, answer = await asked(both, weaker, verb="diff")
            assert code == 0, answer
            assert any(
                "must hold for 400 ms instead of 20 ms" in change["text"]
                for change in answer["report"]["changes"]
            )

            code, answer = await asked(both, weaker, *TRIAL, "--confirmed-by", "li")
            assert (code, answer["verdict"]) == (0, "applied"), answer
            assert both.gateway.file.read_text() == weaker
            await both.until(lambda: begun(both, 2))
            both.gateway.pins.set("lobby/panic", on=True)
            await asyncio.sleep(0.8)
            both.gateway.pins.set("lobby/panic", on=False)
            await seen(both, 4)

            told = both.events("config-staged", "config-confirmed")
            assert [each["subkind"] for each in told] == ["config-staged", "config-confirmed"]
            assert told[0]["details"]["by"] == "wang"
            assert told[0]["details"]["confirmed_by"] == "li"

    asyncio.run(scenario())


@pytest.mark.timeout(120)
def test_a_configuration_that_cuts_the_link_is_rolled_back_and_loses_nothing(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with pair(tmp_path) as both:
            cut = both.text.replace(f"127.0.0.1:{both.station_site.port}", "127.0.0.1:9")
            assert cut != both.text
            code, answer = await asked(both, cut, "--trial", "5", "--wait", "1")
            assert answer["verdict"] in {"pending", "accepted"}, (code, answer)

            await both.until(lambda: begun(both, 2))
            assert both.gateway.file.read_text() == cut
            await asyncio.sleep(0.5)
            await press(both)  # nobody hears it but the store
            await both.until(lambda: both.gateway.file.read_text() == both.text)
            await seen(both, 2)

            await both.until(lambda: len(both.events("config-rolled-back")) == 1)
            (event,) = both.events("config-rolled-back")
            assert "did not fetch under it within 5 s" in event["details"]["why"]

    asyncio.run(scenario())
