"""Commands from people to gateways: durable before they are sent, sent once, followed to the end.

A command is a row of the station's file before its gateway is asked for a challenge, and again
before it goes out. What was sent is never sent again: after a silence, a lost connection or a
restart the station inquires, and the gateway's answer settles it, whatever happened to the command.
A step of one command that breaks settles that command: the events and the others go on.
"""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import msgspec
import structlog

from events.calendar import rfc3339
from events.commands import (
    EXPIRES_S_MAX,
    TEXT_LENGTH_MAX,
    Arguments,
    Asked,
    Challenge,
    ChallengeOffer,
    ChallengeRequest,
    Command,
    Inquiry,
    Outcome,
    Payload,
    Person,
    Target,
    Told,
    Verdict,
    Word,
)
from events.errors import StoreError, UnavailableError, UsageError
from events.replication import Lane
from station import command_book
from station.command_book import Progress, Row
from station.store import Store
from sync.peers import Clock
from sync.zmq_sink import Hub

OFFER_S = 10.0  # without a challenge by then nothing is sent
INQUIRE_S = 10.0  # after so much silence
LOOK_S = 0.5
RETRY_S = 1.0
WAIT_S_MAX = 600.0
WATCHERS_MAX = 256
LISTED_MAX = 1000

_NOBODY = Challenge(boot_id="", counter=0)
_BULKY = frozenset({("configuration", "push"), ("configuration", "diff"), ("program", "log")})


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person asks, as it comes over the socket. `payload` is packed, in base 64."""

    request: str
    gateway: str
    target: Target
    action: Word
    by: Person
    arguments: Arguments = {}
    confirmed_by: Person = ""
    payload: Payload = b""
    expires_s: Annotated[float, msgspec.Meta(gt=0, le=EXPIRES_S_MAX)] = 30.0
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=WAIT_S_MAX)] = 60.0


@dataclass(slots=True)
class _Open:
    """A command that is not settled. `draft` is what is still to be sent, None once it was.

    sending: it is being made durable, and goes out then: an inquiry now would overtake it.
    """

    gateway: str
    lane: Lane
    draft: Command | None
    heard_at: float
    sending: bool = False
    told: list[Outcome] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class CommandDesk:
    """Sends what people ask, and keeps what came of it. `hub` is set before `run`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._open: dict[str, _Open] = {}
        self._told: asyncio.Queue[tuple[str, Told]] = asyncio.Queue(maxsize=4096)
        self._log = structlog.get_logger()
        self.hub: Hub | None = None

    def on_told(self, gateway: str, told: Told) -> None:
        """Take what a gateway answers."""
        try:
            self._told.put_nowait((gateway, told))
        except asyncio.QueueFull:
            return  # inquired after later

    def on_hello(self, gateway: str) -> None:
        """Ask at once after what was sent over a connection that this one may replace."""
        for following in self._open.values():
            if following.gateway == gateway and following.draft is None:
                following.heard_at = float("-inf")

    async def run(self) -> None:
        """Work until cancelled."""
        await self._take_up()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen())
            while True:
                await self._inquire()
                await asyncio.sleep(LOOK_S)

    async def order(self, message: dict[str, Any]) -> AsyncIterator[object]:
        """Send a command; yield what is known of it as it comes, at last its outcome.

        Raises `UsageError` for what is no command, `UnavailableError` when the gateway is not
        connected: then nothing was sent.
        """
        order = _order(message)
        lane = Lane.MAIN if (order.target, order.action) in _BULKY else Lane.URGENT
        command_id = uuid.uuid4().hex
        draft = Command(
            id=command_id,
            challenge=_NOBODY,
            expires_s=order.expires_s,
            target=order.target,
            action=order.action,
            arguments=order.arguments,
            issued_by=order.by,
            confirmed_by=order.confirmed_by,
            payload=order.payload,
        )
        if not self._connected(order.gateway, lane):
            raise UnavailableError(
                f"gateway {order.gateway} is not connected; nothing was sent",
                hint="nplus-station gateways tells how it is",
            )
        if len(self._open) >= WATCHERS_MAX:
            raise UnavailableError("too many commands are under way; nothing was sent")
        await self._store.run(
            partial(
                command_book.add, gateway=order.gateway, command=draft, asked_us=self._now_us()
            )
        )
        following = _Open(order.gateway, lane, draft, self._clock.now().monotonic)
        self._open[command_id] = following
        yield {"command": command_id, "verdict": "new"}
        self._say(following, ChallengeRequest(command_id=command_id))
        async for line in self._follow(command_id, following, order.wait_s):
            yield line

    async def listed(self, gateway: str | None, limit: int) -> list[dict[str, Any]]:
        """Return the newest commands, newest first."""
        rows = await self._store.run(
            partial(command_book.newest, gateway=gateway, limit=min(limit, LISTED_MAX))
        )
        return [_line(row) for row in rows]

    async def _follow(
        self, command_id: str, following: _Open, wait_s: float
    ) -> AsyncIterator[dict[str, Any]]:
        end = self._clock.now().monotonic + wait_s
        shown = 0
        while True:
            following.news.clear()
            while shown < len(following.told):
                outcome = following.told[shown]
                shown += 1
                if outcome.settled:
                    yield _said(outcome)
                    return
                if shown == 1:
                    yield _said(outcome)
            left_s = end - self._clock.now().monotonic
            try:
                async with asyncio.timeout(left_s):
                    await following.news.wait()
            except TimeoutError:
                yield {
                    "command": command_id,
                    "verdict": "pending",
                    "text": f"no outcome after {wait_s:g} s; the station goes on asking",
                }
                return

    async def _take_up(self) -> None:
        """Go on with what an earlier run of the station left."""
        while True:
            try:
                await self._store.run(command_book.prepare)
                rows = await self._store.run(command_book.unsettled)
                for row in rows:
                    if row.state is Progress.NEW:
                        text = "the station stopped before it was sent"
                        await self._settle(row.gateway, _unsent(row.command.id, text))
                    else:
                        self._open[row.command.id] = _Open(
                            row.gateway, Lane.URGENT, None, float("-inf")
                        )
            except StoreError:
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _listen(self) -> None:
        while True:
            gateway, told = await self._told.get()
            following = self._open.get(told.command_id)
            if following is None or following.gateway != gateway:
                continue
            following.heard_at = self._clock.now().monotonic
            if isinstance(told, ChallengeOffer):
                await self._step(told.command_id, self._send(following, told))
            else:
                await self._step(told.command_id, self._hear(following, told), following)

    async def _hear(self, following: _Open, outcome: Outcome) -> None:
        if outcome.settled:
            await self._settle(following.gateway, outcome)
        else:
            self._tell(following, outcome)

    async def _step(
        self, command_id: str, step: Awaitable[None], settling: _Open | None = None
    ) -> None:
        """Do a step of one command, whatever comes of it; what is not settled is inquired after."""
        try:
            await step
        except StoreError as error:
            self._log.error("command not kept", command=command_id, error=str(error))
        # The events of all gateways must not wait for a restart because of one command.
        except Exception as error:  # noqa: BLE001 - the reason stands above
            self._log.error("command failed", command=command_id, exc_info=error)
            if settling is not None:  # the next answer would break it again
                text = f"what came of it cannot be kept: {type(error).__name__}: {error}"
                await self._step(
                    command_id, self._settle(settling.gateway, _lost(command_id, text))
                )

    async def _send(self, following: _Open, offer: ChallengeOffer) -> None:
        draft = following.draft
        if draft is None:
            return
        arguments = draft.arguments
        if draft.target == "clock":
            arguments = {**arguments, "station_us": self._now_us() or 0}
        command = msgspec.structs.replace(draft, challenge=offer.challenge, arguments=arguments)
        following.draft = None  # whatever happens from here on: never again
        following.sending = True
        try:
            await self._store.run(partial(command_book.sent, command=command))
            self._say(following, command)
        finally:
            following.sending = False
            following.heard_at = self._clock.now().monotonic

    async def _settle(self, gateway: str, outcome: Outcome) -> None:
        await self._store.run(
            partial(
                command_book.settle, gateway=gateway, outcome=outcome, settled_us=self._now_us()
            )
        )
        following = self._open.pop(outcome.command_id, None)
        if following is not None:
            self._tell(following, outcome)

    def _tell(self, following: _Open, outcome: Outcome) -> None:
        following.told.append(outcome)
        following.news.set()

    async def _inquire(self) -> None:
        """Ask after what has been silent for too long."""
        now_s = self._clock.now().monotonic
        for command_id, following in list(self._open.items()):
            if following.sending or now_s - following.heard_at < INQUIRE_S:
                continue
            if following.draft is not None:
                following.draft = None
                text = f"the gateway gave no challenge within {OFFER_S:g} s; nothing was sent"
                unsent = _unsent(command_id, text)
                await self._step(command_id, self._settle(following.gateway, unsent))
            elif self._say(following, Inquiry(command_id=command_id)):
                following.heard_at = now_s

    def _say(self, following: _Open, message: Asked) -> bool:
        return self.hub is not None and self.hub.ask(following.gateway, following.lane, message)

    def _connected(self, gateway: str, lane: Lane) -> bool:
        return self.hub is not None and any(
            each["gateway"] == gateway
            and each["lane"] == lane.value
            and each["active"]
            and each["state"] == "open"
            for each in self.hub.status()
        )

    def _now_us(self) -> int | None:
        wall = self._clock.now().wall
        return None if wall is None else round(wall * 1_000_000)


def _order(message: dict[str, Any]) -> Order:
    try:
        return msgspec.convert(message, Order)
    except msgspec.ValidationError as error:
        raise UsageError(f"not a command: {error}") from error


def _unsent(command_id: str, text: str) -> Outcome:
    return Outcome(command_id=command_id, verdict=Verdict.FAILED, text=text)


def _lost(command_id: str, text: str) -> Outcome:
    return Outcome(
        command_id=command_id, verdict=Verdict.OUTCOME_UNKNOWN, text=text[:TEXT_LENGTH_MAX]
    )


def _said(outcome: Outcome) -> dict[str, Any]:
    return {
        "command": outcome.command_id,
        "verdict": outcome.verdict.value,
        "text": outcome.text,
        "value": outcome.value,
        "payload": base64.b64encode(outcome.payload).decode("ascii"),
    }


def _line(row: Row) -> dict[str, Any]:
    command, outcome = row.command, row.outcome
    verdict = row.state.value if outcome is None else outcome.verdict.value
    return {
        "command": command.id,
        "gateway": row.gateway,
        "asked_at": None if row.asked_us is None else rfc3339(row.asked_us),
        "settled_at": None if row.settled_us is None else rfc3339(row.settled_us),
        "target": command.target,
        "action": command.action,
        "arguments": command.arguments,
        "by": command.issued_by,
        "confirmed_by": command.confirmed_by,
        "verdict": verdict,
        "text": "" if outcome is None else outcome.text,
        "value": None if outcome is None else outcome.value,
    }
