"""Commands of stations: recorded, done at most once, and answered, whatever is repeated or lost.

Intent on disk → audit event → effect → outcome on disk → answer and audit event. A crash between
intent and outcome leaves an intent, and the next start settles it as `outcome-unknown`; nothing is
ever done because it was found there. A command counts from its challenge on the monotonic clock.
An action that breaks has failed, and is told like any other: alarms must not wait for a restart
because of it. A defect of the desk itself ends the process: what it recorded is not to be trusted.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import msgspec
import structlog

from events.commands import (
    TEXT_LENGTH_MAX,
    Asked,
    Challenge,
    ChallengeOffer,
    ChallengeRequest,
    Command,
    Inquiry,
    Outcome,
    Told,
    Verdict,
)
from events.errors import NplusError, StoreCorrupt, StoreError, UsageError
from events.model import Scalar
from gateway.command_audit import audit
from gateway.command_journal import Journal, JournalThread, Owed
from protocols.drivers.base import Clock, Report

AT_ONCE_MAX = 16
WAITING_MAX = 64
TURNED_AWAY_MAX = 256
RETRY_S = 1.0
FIRST_TOLD_S = (
    0.5  # how long an effect waits for its audit event: a store that fails stops no siren
)
AUDIT_BATCH = 64

Reply = Callable[[Told], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an action came to. `after` runs once that is recorded and answered."""

    verdict: Verdict = Verdict.APPLIED
    text: str = ""
    value: Scalar | None = None
    payload: bytes = b""
    after: Callable[[], object] | None = None


Action = Callable[[str, Command], Awaitable[Done | None]]
"""Gets the station's name and the command. Raises `UsageError` to refuse, anything else to fail.

None: `settle` comes later.
"""


class CommandDesk:
    """Takes what stations ask. `actions` by target and action; an empty target stands for any point.

    commanding: the stations that may command. held: ids of commands that were begun before this
    start and will still be settled by whoever began them.
    """

    def __init__(
        self,
        journal: JournalThread,
        actions: Mapping[tuple[str, str], Action],
        *,
        clock: Clock,
        boot_id: str,
        commanding: Collection[str],
        held: Collection[str] = (),
    ) -> None:
        self._journal = journal
        self._actions = actions
        self._clock = clock
        self._boot_id = boot_id
        self._commanding = commanding
        self._held = set(held)
        self._since: Challenge | None = None
        self._waiting: deque[tuple[str, Command | Inquiry, Reply]] = deque()
        self._news = asyncio.Event()
        self._owing = asyncio.Event()
        self._told: dict[str, asyncio.Event] = {}
        self._doubtful = 0  # audit events up to here may be in the log already
        self._listeners: dict[str, list[Reply]] = {}  # of commands that are being done
        self._unkept: dict[str, Outcome] = {}  # outcomes that the disk has not taken yet
        self._turned_away: dict[str, Outcome] = {}  # what could not be recorded, and was not done
        self._log = structlog.get_logger()
        self.dropped = 0

    def heard(self, station: str, asked: Asked, reply: Reply) -> None:
        """Take what a station asks; `reply` may be called now, later, several times, or never."""
        if isinstance(asked, ChallengeRequest):
            reply(ChallengeOffer(command_id=asked.command_id, challenge=self.challenge()))
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append((station, asked, reply))
            self._news.set()
        else:
            self.dropped += 1  # the station inquires

    def challenge(self) -> Challenge:
        """Return the challenge of this moment."""
        return Challenge(boot_id=self._boot_id, counter=int(self._clock().monotonic * 1000))

    async def run(self, record: Report) -> None:
        """Work until cancelled. Audit events are recorded through `record`."""
        while True:
            if await self._begin():
                break
            await asyncio.sleep(RETRY_S)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tell_all(record))
            working: set[asyncio.Task[None]] = set()
            while True:
                self._news.clear()
                while self._waiting and len(working) < AT_ONCE_MAX:
                    task = tasks.create_task(self._serve(*self._waiting.popleft()))
                    working.add(task)
                    task.add_done_callback(working.discard)
                    task.add_done_callback(lambda _: self._news.set())
                await self._news.wait()

    async def settle(self, command_id: str, done: Done) -> None:
        """Settle a command whose action returned None. Returns when it is recorded."""
        outcome = _outcome(command_id, done)
        self._unkept[command_id] = outcome
        while True:
            if await self._keep(outcome):
                break
            await asyncio.sleep(RETRY_S)
        self._held.discard(command_id)
        self._answer(outcome)
        self._listeners.pop(command_id, None)

    async def _begin(self) -> bool:
        """Open the journal, and settle what a crash has left."""
        try:
            await self._journal.run(lambda journal: journal.open(self.challenge()))
            self._since = await self._journal.run(Journal.since)
            for entry in await self._journal.run(Journal.intents):
                if entry.command.id not in self._held:
                    await self._settle_on_disk(_unknown(entry.command.id))
            await self._journal.run(lambda journal: journal.trim(self.challenge()))
            self._doubtful = await self._journal.run(Journal.newest)
        except StoreCorrupt as error:  # found behind its first page
            self._log.error("journal set aside", error=str(error), hint=error.hint)
            await self._journal.run(Journal.set_aside)
            return False
        except StoreError as error:
            self._log.error("commands cannot be recorded", error=str(error), hint=error.hint)
            self._refuse_waiting(error)
            return False
        self._owing.set()
        return True

    async def _serve(self, station: str, asked: Command | Inquiry, reply: Reply) -> None:
        command_id = asked.id if isinstance(asked, Command) else asked.command_id
        listeners = self._listeners.get(command_id)
        if listeners is not None:
            if len(listeners) < WAITING_MAX:
                listeners.append(reply)
            reply(Outcome(command_id=command_id, verdict=Verdict.ACCEPTED, repeated=True))
            return
        self._listeners[command_id] = [reply]
        try:
            await self._serve_one(station, asked, command_id)
        except StoreError as error:
            self._turn_away(_unrecorded(command_id, error))
        finally:
            if command_id not in self._held:
                self._listeners.pop(command_id, None)

    async def _serve_one(self, station: str, asked: Command | Inquiry, command_id: str) -> None:
        known = self._unkept.get(command_id) or self._turned_away.get(command_id)
        if known is None:
            entry = await self._journal.run(lambda journal: journal.find(command_id))
            known = None if entry is None else entry.outcome
            if entry is not None and known is None:
                if command_id in self._held:
                    self._hold(command_id)
                else:
                    await self._finish(command_id, _done(_unknown(command_id)))
                return
        if known is not None:
            self._answer(_repeated(known))
        elif isinstance(asked, Command):
            await self._command(station, asked)
        else:
            await self._withdraw(station, asked.command_id)

    async def _command(self, station: str, command: Command) -> None:
        refusal = self._judge(station, command)
        if refusal is not None:
            await self._refuse(station, command, refusal)
            return
        if not await self._journal.run(lambda journal: journal.intend(station, command)):
            return  # the disk knew better: whoever asked inquires
        late = self._late(command)
        if late:
            await self._finish(command.id, Done(verdict=Verdict.EXPIRED, text=late))
            return
        self._answer(Outcome(command_id=command.id, verdict=Verdict.ACCEPTED))
        await self._first_told(command.id)
        done = await self._act(station, command)
        if done is None:
            self._hold(command.id)
            return
        await self._finish(command.id, done)

    async def _act(self, station: str, command: Command) -> Done | None:
        try:
            return await self._actions[_key(self._actions, command)](station, command)
        except UsageError as error:
            return Done(verdict=Verdict.REFUSED, text=_sentence(error))
        except NplusError as error:
            return Done(verdict=Verdict.FAILED, text=_sentence(error))
        # As around a driver: a defect in one command must not silence the lines.
        except Exception as error:  # noqa: BLE001 - the reason stands above
            self._log.error("command failed", command=command.id, exc_info=error)
            text = f"it broke off, and may have taken effect: {type(error).__name__}: {error}"
            return Done(verdict=Verdict.FAILED, text=text)

    async def _first_told(self, command_id: str) -> None:
        """Let the audit event of a request stand before its effect, if the store takes it now."""
        told = self._told[command_id] = asyncio.Event()
        self._owing.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_TOLD_S):
                await told.wait()
        del self._told[command_id]

    async def _finish(self, command_id: str, done: Done) -> None:
        outcome = _outcome(command_id, done)
        self._unkept[command_id] = outcome
        kept = await self._keep(outcome)
        self._answer(outcome)
        if not kept:
            self._owing.set()  # tried again there
        if done.after is not None:
            done.after()

    async def _refuse(self, station: str, command: Command, done: Done) -> None:
        outcome = _outcome(command.id, done)
        await self._journal.run(lambda journal: journal.intend(station, command, outcome))
        self._answer(outcome)
        self._owing.set()

    async def _withdraw(self, station: str, command_id: str) -> None:
        """Settle a command that never came, so that it cannot come any more."""
        command = Command(
            id=command_id, challenge=self.challenge(), expires_s=3600.0, target="", action=""
        )
        text = "it never reached the gateway, and is not done any more"
        await self._refuse(station, command, Done(verdict=Verdict.REFUSED, text=text))

    def _judge(self, station: str, command: Command) -> Done | None:
        """Return why a command is not done, before anything else of it is looked at."""
        late = self._late(command)
        if late:
            return Done(verdict=Verdict.EXPIRED, text=late)
        if station not in self._commanding:
            text = f"station {station} may not command this gateway"
        elif not command.issued_by.strip():
            text = "nobody's name: a command needs to say who asks"
        elif _key(self._actions, command) not in self._actions:
            known = sorted({f"{target or 'POINT'} {action}" for target, action in self._actions})
            text = f"{command.target} {command.action} is no command here; there are {', '.join(known)}"
        else:
            return None
        return Done(verdict=Verdict.REFUSED, text=text)

    def _late(self, command: Command) -> str:
        """Return why a command comes too late; empty when it does not."""
        now, challenge, since = self.challenge(), command.challenge, self._since
        if challenge.boot_id != now.boot_id:
            return "its challenge is of another boot of this machine"
        if challenge.counter > now.counter:
            return "its challenge was never handed out"
        age_s = (now.counter - challenge.counter) / 1000
        if age_s >= command.expires_s:
            return f"it came {age_s:.1f} s after its challenge, and was good for {command.expires_s:g} s"
        if since is None or (since.boot_id == now.boot_id and challenge.counter < since.counter):
            return "the gateway remembers no commands from before its challenge"
        return ""

    async def _keep(self, outcome: Outcome) -> bool:
        try:
            await self._settle_on_disk(outcome)
        except StoreError as error:
            self._log.error("outcome not recorded", command=outcome.command_id, error=str(error))
            return False
        self._unkept.pop(outcome.command_id, None)
        self._owing.set()
        return True

    async def _tell_all(self, record: Report) -> None:
        """Record what the log does not hold yet, however long that takes."""
        while True:
            await self._owing.wait()
            self._owing.clear()
            try:
                for outcome in list(self._unkept.values()):
                    if outcome.command_id not in self._held:
                        await self._keep(outcome)
                await self._tell_owed(record)
            except StoreError:
                self._owing.set()
                await asyncio.sleep(RETRY_S)

    async def _tell_owed(self, record: Report) -> None:
        while owed := await self._journal.run(lambda journal: journal.owed(AUDIT_BATCH)):
            for each in owed:
                await record([audit(each, doubtful=each.n <= self._doubtful)])
                await self._journal.run(partial(_note_told, each))
                told = self._told.get(each.entry.command.id)
                if told is not None:
                    told.set()

    def _answer(self, outcome: Outcome) -> None:
        for reply in self._listeners.get(outcome.command_id, ()):
            reply(outcome)

    def _turn_away(self, outcome: Outcome) -> None:
        """Answer for what could not be recorded, the same whenever it comes again."""
        self._turned_away[outcome.command_id] = outcome
        while len(self._turned_away) > TURNED_AWAY_MAX:
            del self._turned_away[next(iter(self._turned_away))]
        self._answer(outcome)

    def _hold(self, command_id: str) -> None:
        """Keep whoever asked until the command is settled."""
        self._held.add(command_id)
        self._answer(Outcome(command_id=command_id, verdict=Verdict.ACCEPTED, repeated=True))

    def _refuse_waiting(self, error: StoreError) -> None:
        while self._waiting:
            _, asked, reply = self._waiting.popleft()
            if isinstance(asked, Command):
                outcome = _unrecorded(asked.id, error)
                self._turn_away(outcome)
                reply(outcome)

    async def _settle_on_disk(self, outcome: Outcome) -> None:
        await self._journal.run(lambda journal: journal.settle(outcome))


def _note_told(owed: Owed, journal: Journal) -> None:
    journal.told(owed)


def _key(actions: Mapping[tuple[str, str], Action], command: Command) -> tuple[str, str]:
    exact = (command.target, command.action)
    return exact if exact in actions else ("", command.action)


def _outcome(command_id: str, done: Done) -> Outcome:
    return Outcome(
        command_id=command_id,
        verdict=done.verdict,
        text=done.text[:TEXT_LENGTH_MAX].encode("utf-8", "replace").decode(),  # of a file's name
        value=done.value,
        payload=done.payload,
    )


def _done(outcome: Outcome) -> Done:
    return Done(verdict=outcome.verdict, text=outcome.text)


def _unknown(command_id: str) -> Outcome:
    text = "the gateway stopped while this was being done: it may have taken effect"
    return Outcome(command_id=command_id, verdict=Verdict.OUTCOME_UNKNOWN, text=text)


def _unrecorded(command_id: str, error: StoreError) -> Outcome:
    text = f"not done: it cannot be recorded ({error})"
    return Outcome(command_id=command_id, verdict=Verdict.REFUSED, text=text[:TEXT_LENGTH_MAX])


def _repeated(outcome: Outcome) -> Outcome:
    return msgspec.structs.replace(outcome, repeated=True)


def _sentence(error: NplusError) -> str:
    return f"{error}. {error.hint}" if error.hint else str(error)
