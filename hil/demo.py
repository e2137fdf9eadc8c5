"""The demonstration: set the community up, play the story, settle the account."""

import asyncio
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from rich.console import Console
from rich.text import Text

from events.errors import ConfigError, NplusError
from hil.account import Account
from hil.community import Community
from hil.parts.programs import find
from hil.parts.waiting import Overdue, until
from hil.site import BUILDING_1, RECEIVER, STATION, Places
from hil.story import Stage, Story, Teller
from hil.view import LiveView, PlainTeller, StageTeller, show_account

SETTLE_WITHIN_S = 30.0
QUIET_S = 6.0  # longer than any heartbeat or retry: whatever has not come by then does not come
DOUBLES_WITHIN_S = 1.5  # what would arrive a second time has arrived by then
SOCKET_PATH_BYTES_MAX = 107  # of a unix socket's address, Linux
Mutant = Literal["", "ack-before-commit"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for. `speed` shortens the pauses for the eye, nothing else."""

    mutant: Mutant = ""
    seed: int = 1
    speed: float = 1.0
    serve: bool = False
    keep: Path | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a script gets."""

    ok: bool
    seed: int
    mutant: str
    data: str
    stopped: dict[str, int]
    false_words: tuple[str, ...]
    account: Account


async def demonstrate(options: Options, console: Console) -> Outcome:
    """Run one demonstration. Raises `NplusError` when the product does not even get that far."""
    places = _places(options)
    try:
        return await _in(places, options, console)
    finally:
        shutil.rmtree(places.sockets, ignore_errors=True)
        if options.keep is None:
            shutil.rmtree(places.data, ignore_errors=True)


def _places(options: Options) -> Places:
    sockets = Path(tempfile.mkdtemp(prefix="nplus-"))
    if len(bytes(sockets / "building-1.sock.new")) > SOCKET_PATH_BYTES_MAX:
        sockets.rmdir()
        raise ConfigError(
            f"{sockets.parent} is too long a path for unix sockets", hint="set TMPDIR=/tmp"
        )
    if options.keep is None:
        return Places(data=sockets, sockets=sockets)
    data = options.keep.absolute()
    if data.exists() and any(data.iterdir()):
        sockets.rmdir()
        raise ConfigError(f"{data} is not empty", hint="name a new folder with --keep")
    return Places(data=data, sockets=sockets)


async def _in(places: Places, options: Options, console: Console) -> Outcome:
    stage = Stage()
    teller: Teller = StageTeller(stage) if _can_draw(console) else PlainTeller(stage, console.file)
    async with Community(places, mutant=options.mutant) as community:
        async with asyncio.TaskGroup() as group:
            follower = group.create_task(community.ledger.follow())
            story = Story(community, teller, seed=options.seed, speed=options.speed)
            account, ended = await _performed(community, story, stage, console)
            if account is not None:
                show_account(console, account, broken=options.mutant)
                for complaint in (*story.false_words, *([str(ended)] if ended else [])):
                    console.print(Text(complaint, style="bold red"))
                if options.serve:
                    await _serve(places, console)
            follower.cancel()
        stopped = await community.stop_programs()
    if account is None:
        raise ended or Overdue("the story ended early")
    return Outcome(
        ok=account.ok and ended is None and not story.false_words and not any(stopped.values()),
        seed=options.seed,
        mutant=options.mutant,
        data=str(places.data) if options.keep else "",
        stopped=stopped,
        false_words=tuple(story.false_words),
        account=account,
    )


def _can_draw(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


async def _performed(
    community: Community, story: Story, stage: Stage, console: Console
) -> tuple[Account | None, NplusError | None]:
    """Return the account, and what ended the story early; no account when it never began."""
    async with asyncio.TaskGroup() as group:
        view = None
        if _can_draw(console):
            view = group.create_task(LiveView(console, community, stage).show())
        account = ended = None
        try:
            await _set_up(community, story.teller)
            ended = await _played(story)
            account = await _settled(community, story.teller)
        except NplusError as error:
            ended = error
        finally:
            if view is not None:
                view.cancel()
    return account, ended


async def _set_up(community: Community, teller: Teller) -> None:
    teller.scene("Setting up", "准备")
    teller.say("Making keys, writing the configuration files, enrolling two gateways.")
    await community.install()
    teller.say("Starting a station and two gateways.")
    await community.start_programs()


async def _played(story: Story) -> NplusError | None:
    ended: NplusError | None = None
    try:
        await story.play()
    except* NplusError as group:
        ended = next(error for error in group.exceptions if isinstance(error, NplusError))
    return ended


async def _settled(community: Community, teller: Teller) -> Account:
    """Give the last signals their time, then take the list anew and hold it to the journals."""
    teller.scene("The account", "对账")
    teller.say("The devices' own journals against the station's list.")
    with suppress(Overdue):
        await until(
            lambda: community.account().ok or community.quiet_s() > QUIET_S,
            within_s=SETTLE_WITHIN_S,
            what="the last signals at the station",
        )
    await asyncio.sleep(DOUBLES_WITHIN_S)
    rows = await community.ledger.whole()
    followed = {row.n: row for row in community.ledger.rows}
    changed = [row for row in rows if followed.get(row.n, row) != row]
    if changed:
        raise Overdue(f"row {changed[0].n} of the station's list is not what it was before")
    return community.account(rows)


async def _serve(places: Places, console: Console) -> None:
    """Keep everything running until somebody ends it."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    console.print("\n[bold]It keeps running. 继续运行[/]  Look around from another terminal:\n")
    station = f"--config {places.config(STATION)}"
    gateway = f"--config {places.config(BUILDING_1)}"
    for command in (
        f"{find('nplus-station')} events --follow {station}",
        f"{find('nplus-station')} gateways {station}",
        f"{find('nplus-gateway')} status {gateway}",
        f"{find('nplus-gateway')} tail --follow {gateway}",
        f"tail -f {places.journal(RECEIVER)}",
    ):
        console.print(f"  {command}", soft_wrap=True)
    console.print("\nCtrl-C ends it. 按 Ctrl-C 结束")
    await ended.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
