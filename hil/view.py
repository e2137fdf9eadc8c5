"""What the audience sees: a live view on a terminal, plain lines anywhere else."""

import asyncio
import time
from collections.abc import Iterable
from typing import IO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from events.calendar import parse_rfc3339
from events.kinds import Qualifier
from hil.account import Account, Row, Tally
from hil.community import Community
from hil.site import BUILDING_1, BUILDINGS, PANELS, RECEIVER, REGISTERS, WIRES
from hil.story import Stage

LIST_ROWS = 16  # as high as the two buildings beside it
NARROW_COLUMNS = 96
SHOWN_PER_S = 5

_COLOURS = {"alarm": "red", "tamper": "magenta", "fault": "yellow"}


class PlainTeller:
    """Tells the story as lines, for logs and pipes."""

    def __init__(self, stage: Stage, out: IO[str]) -> None:
        self._stage = stage
        self._out = out

    def scene(self, title: str, title_zh: str) -> None:
        self._stage.title, self._stage.title_zh = title, title_zh
        self._line(f"== {title} · {title_zh}")

    def say(self, words: str) -> None:
        self._stage.words.append(words)
        self._line(f"   {words}")

    def _line(self, text: str) -> None:
        elapsed_s = time.monotonic() - self._stage.began_s
        print(f"{elapsed_s:5.1f} s  {text}", file=self._out, flush=True)


class StageTeller:
    """Puts the story on the stage; the live view shows it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def scene(self, title: str, title_zh: str) -> None:
        self._stage.title, self._stage.title_zh = title, title_zh
        self._stage.words.clear()

    def say(self, words: str) -> None:
        self._stage.words.append(words)


class LiveView:
    """The whole community on one screen, drawn anew some times a second."""

    def __init__(self, console: Console, community: Community, stage: Stage) -> None:
        self._console = console
        self._community = community
        self._stage = stage

    async def show(self) -> None:
        """Draw until cancelled."""
        with Live(
            console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop"
        ) as live:
            while True:
                live.update(self.draw(), refresh=True)
                await asyncio.sleep(1 / SHOWN_PER_S)

    def draw(self) -> RenderableType:
        account = self._community.account()
        buildings = Group(*(self._building(name, account) for name in BUILDINGS))
        ledger = self._ledger()
        if self._console.width < NARROW_COLUMNS:
            body: RenderableType = Group(buildings, ledger)
        else:
            grid = Table.grid(expand=True)
            grid.add_column(ratio=1)
            grid.add_column(ratio=1)
            grid.add_row(buildings, ledger)
            body = grid
        return Group(self._heading(), body, self._words(account))

    def _heading(self) -> RenderableType:
        elapsed_s = time.monotonic() - self._stage.began_s
        title = Text.assemble(
            (f" {self._stage.title} ", "bold reverse"),
            (f" {self._stage.title_zh}", "bold"),
        )
        grid = Table.grid(expand=True)
        grid.add_column(ratio=1)
        grid.add_column(justify="right")
        grid.add_row(title, Text(f"{elapsed_s:.0f} s", style="dim"))
        return grid

    def _building(self, name: str, account: Account) -> RenderableType:
        tallies = {t.device: t for t in account.tallies if t.gateway == name}
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        for on, label, device in self._devices(name):
            table.add_row(
                Text("●", style="bold red" if on else "green"),
                Text(label, style="bold" if on else ""),
                Text("ON 报警" if on else "rest 正常", style="red" if on else "dim"),
                _tally(tallies.get(device)),
            )
        english, chinese = BUILDINGS[name]
        return Panel(Group(self._chain(name), table), title=f"{english} {chinese}")

    def _devices(self, name: str) -> Iterable[tuple[bool, str, str]]:
        """Yield state, label and book of each device: what its own switch says, not the product."""
        town = self._community
        for wire in WIRES:
            if wire.gateway == name:
                on = town.boards[name].on(wire.contact.point)
                yield on, f"{wire.label} {wire.label_zh}", wire.contact.point
        if name == BUILDING_1:
            on_now = [panel.label for panel in PANELS if town.reported[panel.point]]
            label = (
                f"Alarm panels 报警主机: {'; '.join(on_now)}"
                if on_now
                else "Alarm panels 报警主机"
            )
            yield bool(on_now), label, RECEIVER
        for register in REGISTERS:
            if register.gateway == name:
                on = town.register_on(register.point)
                yield on, f"{register.label} {register.label_zh}", register.point

    def _chain(self, name: str) -> Text:
        running = self._community.gateways[name].running
        whole = self._community.networks[name].state == "pass"
        return Text.assemble(
            ("gateway 网关 ", "dim"),
            ("running 运行" if running else "NO POWER 断电", "green" if running else "bold red"),
            ("  net 网络 ", "dim"),
            ("up 通" if whole else "CUT 断", "green" if whole else "bold red"),
        )

    def _ledger(self) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(no_wrap=True)
        shown = [row for row in self._community.ledger.rows[-400:] if _worth_showing(row)]
        for row in shown[-LIST_ROWS:]:
            ended = row.qualifier == Qualifier.RESTORE
            colour = "green" if ended else _COLOURS.get(row.kind, "")
            what = row.subkind or row.kind
            table.add_row(
                _clock(row),
                (row.gateway or "").replace("building-", "B"),
                row.point,
                Text(f"{what} {'over' if ended else 'ON'}", style=colour),
            )
        for _ in range(LIST_ROWS - len(shown)):
            table.add_row("", "", "", "")
        return Panel(table, title="The station's list 中心站事件", subtitle=_lost(self._community))

    def _words(self, account: Account) -> RenderableType:
        on_their_way = account.accepted - account.recorded
        sums = Text.assemble(
            ("accepted 已受理 ", "dim"),
            (str(account.accepted), "bold"),
            ("   at the station 已入库 ", "dim"),
            (str(account.recorded), "bold"),
            ("   on the way 在途 ", "dim"),
            (str(on_their_way), "bold yellow" if on_their_way else "bold"),
            ("   twice 重复 ", "dim"),
            (str(account.twice), "bold red" if account.twice else "bold"),
        )
        words = list(self._stage.words)[-2:]
        return Panel(Group(*(Text(line) for line in words or [""]), sums))


def show_account(console: Console, account: Account, *, broken: str = "") -> None:
    """Print the account and the verdict."""
    table = Table(title="The account 对账", show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right", style="bold")
    table.add_row("accepted, by the devices' own journals 设备记录已受理", str(account.accepted))
    table.add_row("of these at the station 中心站已入库", str(account.recorded))
    for words, count in (
        ("lost 丢失", account.lost),
        ("twice 重复", account.twice),
        ("never said by any device 来历不明", account.unexplained),
        ("out of order 乱序", account.disordered),
        ("numbers missing 缺号", account.numbers_missing),
    ):
        table.add_row(words, Text(str(count), style="bold red" if count else "bold green"))
    right = account.states_right == account.states
    table.add_row(
        "last states right 最终状态相符",
        Text(
            f"{account.states_right} of {account.states}",
            style="bold green" if right else "bold red",
        ),
    )
    if account.unsure:
        table.add_row("at the edge of a power cut: may be there 断电瞬间", str(account.unsure))
    names = {
        "all": "all 全部",
        "contact": "contacts 触点",
        "panel": "panels 主机",
        "modbus": "modbus",
    }
    for name, delay in sorted(account.delays.items()):
        words = f"delay to the station, {names.get(name, name)}: p50 / p99 时延 ({delay.count})"
        table.add_row(words, f"{delay.p50_ms:.0f} / {delay.p99_ms:.0f} ms")
    console.print(table)
    for finding in account.findings[:20]:
        own_point = finding.text.startswith(finding.device)
        where = " ".join(filter(None, (finding.gateway, "" if own_point else finding.device)))
        console.print(Text(f"  {finding.fault}: {where}: {finding.text}", style="red"))
    if account.ok:
        console.print("[bold green]PASS 通过[/]  Every accepted signal is at the station, once.")
    else:
        console.print("[bold red]FAIL 不通过[/]  The promise was broken.")
    if broken:
        console.print(f"       The gateways ran with a deliberate defect: {broken}.")


def _tally(tally: Tally | None) -> Text:
    if tally is None or tally.accepted == 0:
        return Text("")
    whole = tally.accepted == tally.recorded
    return Text(f"{tally.recorded}/{tally.accepted}", style="green" if whole else "bold yellow")


def _clock(row: Row) -> str:
    """Return when the station committed a row, by the clock on the wall here."""
    moment = time.localtime(parse_rfc3339(row.received_at) / 1e6)
    return time.strftime("%H:%M:%S", moment)


def _worth_showing(row: Row) -> bool:
    return row.kind not in ("information", "measurement", "status")


def _lost(community: Community) -> Text:
    lost = [BUILDINGS[name][0] for name in BUILDINGS if community.station_says_lost(name)]
    if not lost:
        return Text("all gateways answer 网关全部在线", style="green")
    return Text(f"NO ANSWER 失联: {', '.join(lost)}", style="bold red")
