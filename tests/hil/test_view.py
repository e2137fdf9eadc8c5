"""The screen says what the devices' own switches say, and is readable at any width."""

import asyncio
import io
from pathlib import Path

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from hil.account import Account, Delay, Finding, Row
from hil.community import Community
from hil.parts.waiting import until
from hil.site import BUILDING_1, BUILDING_2, Places
from hil.story import Stage
from hil.view import LiveView, PlainTeller, StageTeller, show_account

ROW = Row(
    n=1,
    gateway=BUILDING_1,
    log_id="log",
    seq=1,
    point="lobby/panic",
    kind="alarm",
    subkind="panic",
    qualifier="new",
    received_at="2026-11-24T08:00:00.000Z",
)
ACCOUNT = Account(
    accepted=3,
    recorded=3,
    lost=0,
    twice=0,
    unexplained=0,
    disordered=0,
    numbers_missing=0,
    states=2,
    states_right=2,
    unsure=1,
    tallies=(),
    delays={"all": Delay(count=3, p50_ms=7.0, p99_ms=12.0)},
    findings=(),
    ok=True,
)


def screen(folder: Path, width: int) -> str:
    async def run() -> str:
        stage = Stage()
        teller = StageTeller(stage)
        teller.scene("The network is cut", "网络中断")
        teller.say("Alarms go on.")
        async with Community(Places(data=folder, sockets=folder)) as town:
            town.move(BUILDING_1, "lobby/panic", on=True)
            town.set_register("cellar/water", on=True)
            town.report("flat-401/fire", "new")
            town.cut(BUILDING_2)
            lost = msgspec.structs.replace(
                ROW,
                n=2,
                log_id=None,
                seq=None,
                kind="fault",
                subkind="gateway-lost",
                gateway=BUILDING_2,
            )
            town.ledger.rows += [ROW, lost]
            out = io.StringIO()
            Console(file=out, width=width, color_system=None).print(
                LiveView(Console(width=width), town, stage).draw()
            )
            return out.getvalue()

    return asyncio.run(run())


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_screen_shows_devices_gateways_network_and_list(tmp_path: Path, width: int) -> None:
    shown = screen(tmp_path, width)
    for words in (
        "The network is cut",
        "网络中断",
        "Alarms go on.",
        "Building 1 1号楼",
        "Panic button",
        "ON 报警",
        "NO POWER 断电",
        "CUT 断",
        "The station's list",
        "panic ON",
        "NO ANSWER 失联: Building 2",
    ):
        assert words in shown
    assert all(cell_len(line) <= width for line in shown.splitlines())


def test_a_log_gets_plain_lines() -> None:
    out = io.StringIO()
    teller = PlainTeller(Stage(), out)
    teller.scene("All clear", "全部复位")
    teller.say("Every device is at rest.")
    first, second = out.getvalue().splitlines()
    assert first.endswith("s  == All clear · 全部复位")
    assert second.endswith("Every device is at rest.")


def account_text(account: Account, **other: str) -> str:
    out = io.StringIO()
    show_account(Console(file=out, width=100), account, **other)
    return out.getvalue()


def test_a_good_account_reads_pass() -> None:
    text = account_text(ACCOUNT)
    assert "PASS 通过" in text
    assert "FAIL" not in text
    assert "7 / 12 ms" in text
    assert "2 of 2" in text


def test_a_bad_account_reads_fail_and_names_the_event() -> None:
    finding = Finding(fault="lost", gateway=BUILDING_1, device="panels", text="fire is not there")
    bad = msgspec.structs.replace(ACCOUNT, ok=False, lost=1, findings=(finding,))
    text = account_text(bad, broken="ack-before-commit")
    assert "FAIL 不通过" in text
    assert "PASS" not in text
    assert "fire is not there" in text
    assert "deliberate defect: ack-before-commit" in text


def test_the_live_view_ends_with_what_it_shows(tmp_path: Path) -> None:
    async def run() -> str:
        out = io.StringIO()
        async with Community(Places(data=tmp_path, sockets=tmp_path)) as town:
            view = LiveView(Console(file=out, force_terminal=True, width=100), town, Stage())
            async with asyncio.TaskGroup() as group:
                showing = group.create_task(view.show())
                await until(lambda: "Building 2" in out.getvalue(), within_s=5, what="a frame")
                showing.cancel()
        return out.getvalue()

    assert "\x1b[?25h" in asyncio.run(run())  # the cursor is given back
