"""The station's life beside the ledger: who may speak, who is silent, what people must be told.

Four times a second: the list of gateways is looked at, live connections are told to supervision,
and what follows from both is stored. What cannot be stored now is kept and tried again.
"""

import asyncio

import structlog

from events.errors import StoreError
from events.kinds import Qualifier, Subkind
from events.model import Instant, Scalar
from events.replication import Hello, LogHead
from station.announcements import Announcement
from station.backlog import Backlog
from station.config import StationConfig
from station.enrolment import SCAN_INTERVAL_S, Enrolment
from station.mass_loss import MassLoss, together_s
from station.pulse import Pulse
from station.store import Store
from station.supervision import Change, Known, Supervision
from station.told import Told
from station.withheld import Withheld
from sync.peers import Clock, Notice
from sync.zmq_sink import Hub

TICK_S = 0.25
MARGIN_S = 0.5  # so that a loss is stored, not only noticed, within `lost_after_s`
SETTLE_EVERY_S = 5.0  # how soon what was held back is spoken of when its time has come
TOUCH_EVERY_S = 30.0
CLOCK_SET_S = 2.0  # our wall clock less our monotonic one changed by more: somebody set it
PAUSED_S = 5.0  # who stands still for longer did not attend


class Intake:
    """Joins list, connections, supervision and ledger. `hub` is set before `run`.

    seen_us: when each gateway was last heard since the start, in POSIX microseconds.
    programs, offered: what each gateway says it runs, and its log on disk.
    """

    def __init__(
        self, config: StationConfig, *, store: Store, enrolment: Enrolment, clock: Clock
    ) -> None:
        self._config = config
        self._store = store
        self._enrolment = enrolment
        self._clock = clock
        self._log = structlog.get_logger()
        self.supervision = Supervision(lost_after_s=config.lost_after_s - MARGIN_S)
        self.mass_loss = MassLoss()
        self._told = Told()
        self._withheld = Withheld()
        self._backlog = Backlog()
        self._known: dict[str, Known] = {}
        self._watched: set[str] = set()
        self.seen_us: dict[str, int] = {}
        self._touched: dict[str, int] = {}
        self._newly_lost: list[str] = []
        self._offset_s: float | None = None
        self.programs: dict[str, str] = {}
        self.offered: dict[str, LogHead] = {}
        self._trouble = ""
        self.hub: Hub | None = None

    async def start(self) -> None:
        """Look at the list and the ledger for the first time. Raises `StoreError`."""
        await asyncio.to_thread(self._enrolment.scan)
        self._known = await self._store.known()
        self._tell_warnings()
        now = self._clock.now()
        await self._follow_list(now)
        folded = {name for name, known in self._known.items() if known.folded}
        self.mass_loss.resume(folded, now.monotonic)
        for name in folded - self._enrolment.names.keys():
            self.mass_loss.forget(name)
        self._withheld.resume(await self._store.withheld())

    async def run(self) -> None:
        """Work until cancelled."""
        pulse = Pulse()
        try:
            await self._work(pulse)
        finally:
            pulse.close()

    async def _work(self, pulse: Pulse) -> None:
        scan_at = settle_at = touch_at = 0.0
        while True:
            now = self._clock.now()
            if now.monotonic >= scan_at:
                scan_at = now.monotonic + SCAN_INTERVAL_S
                if await asyncio.to_thread(self._enrolment.scan):
                    self._tell_warnings()
                    self._backlog.add(self._told.start_anew())
                    await self._follow_list(now)
            self._wake_up(pulse.slept_s())
            self._listen(now)
            self.supervision.timeout(now.monotonic)
            self._judge(now.monotonic)
            if now.monotonic >= settle_at:
                settle_at = now.monotonic + SETTLE_EVERY_S
                self._backlog.add(self._told.due(now.monotonic))
                await self._look_for_withheld()
                await self._settle(now)
            await self._announce(now)
            new = self._newly_lost or self.seen_us.keys() - self._touched.keys()
            if now.monotonic >= touch_at or new:
                touch_at = now.monotonic + TOUCH_EVERY_S
                await self._touch(now)
            self._tell_trouble()
            await self._pause(now)

    async def finish(self) -> None:
        """Store what is still to be stored."""
        await self._announce(self._clock.now())
        await self._touch(self._clock.now())

    def on_notice(self, notice: Notice) -> None:
        """Take something that people must be told."""
        self._log.warning(
            notice.reason, text=notice.text, peer=notice.gateway or notice.key, log=notice.log_id
        )
        self._withheld.note(notice)
        announcement = self._told.take(notice, self._clock.now().monotonic)
        if announcement is not None:
            self._backlog.add([announcement])

    def on_hello(self, gateway: str, hello: Hello) -> None:
        """Take what a gateway says about itself."""
        self.programs[gateway] = hello.program
        on_disk = [log for log in hello.logs if not log.volatile]
        if on_disk:
            self.offered[gateway] = on_disk[0]
        self._store.hello(gateway, hello.stamp, self._clock.now())

    async def _follow_list(self, now: Instant) -> None:
        """Let supervision watch exactly those who are enrolled."""
        names = self._enrolment.names
        for name in self._watched - names.keys():
            self.supervision.revoke(name)
            self.mass_loss.forget(name)
            self._watched.discard(name)
            self._log.info("gateway revoked", gateway=name)
        for name in names.keys() & self._watched:
            self._watch(name, now)  # its class may be another one
        added = names.keys() - self._watched
        if not added:
            return
        try:
            for name in sorted(added):
                await self._store.remember(name)
            self._known = await self._store.known()
        except StoreError as error:
            self._log.error("gateways not remembered", error=str(error))
        for name in sorted(added):
            self._watch(name, now)
            self._watched.add(name)
            self._log.info("gateway enrolled", gateway=name)

    def _watch(self, name: str, now: Instant) -> None:
        known = self._known.get(name, Known())
        lost_after_s = self._enrolment.lost_after_s.get(name, self._config.lost_after_s)
        self.supervision.enrol(name, known, now.monotonic, lost_after_s - MARGIN_S)

    def _listen(self, now: Instant) -> None:
        """Tell supervision who has spoken since the last look."""
        if self.hub is None:
            return
        newest: dict[str, float] = {}
        for (gateway, path), (heard, period_s) in self.hub.heard().items():
            self.supervision.heard(gateway, path, heard, period_s=period_s)
            newest[gateway] = max(heard, newest.get(gateway, heard))
        if now.wall is not None:
            began = now.wall - now.monotonic
            self.seen_us |= {name: round((began + heard) * 1e6) for name, heard in newest.items()}

    def _wake_up(self, slept_s: float) -> None:
        """Count no silence while we ourselves could hear nobody."""
        if slept_s:
            self._log.warning("stood still", slept_s=round(slept_s, 1))
            self.supervision.slept(slept_s)
        if slept_s >= PAUSED_S:
            self._store.pause_attendance()

    def _judge(self, now: float) -> None:
        """Announce what began and ended: one by one, or folded where many are lost at once."""
        changes = self.supervision.changes()
        whole = [change for change in changes if change.path is None]
        self._newly_lost += [each.gateway for each in whole if each.qualifier is Qualifier.NEW]
        silent = self.supervision.silent(now, together_s(changes))
        alone, folded = self.mass_loss.take(changes, silent, now)
        for said in folded:
            self._log.warning(said.subkind, qualifier=said.qualifier.value, text=said.text)
        self._backlog.add([*map(self._announcement, alone), *folded])

    def _announcement(self, change: Change) -> Announcement:
        begins = change.qualifier is Qualifier.NEW
        log = self._log.warning if begins else self._log.info
        subkind = Subkind.GATEWAY_LOST if change.path is None else Subkind.PATH_LOST
        word = "lost" if begins else "back"
        log(f"{subkind.removesuffix('-lost')} {word}", gateway=change.gateway, path=change.path)
        what = f"gateway {change.gateway}"
        if change.path is not None:
            what = f"path {change.path} of {what}"
        text = f"{what} is heard again"
        if begins:
            text = f"nothing heard from {what} for {change.silent_s:.0f} s"
        details: dict[str, Scalar] = {} if change.path is None else {"path": change.path}
        return Announcement(
            gateway=change.gateway,
            subkind=subkind,
            qualifier=change.qualifier,
            text=text,
            path=change.path,
            silence=True,
            details=details,
        )

    async def _announce(self, now: Instant) -> None:
        while self._backlog:
            batch = self._backlog.take()
            try:
                await self._store.announce(batch.announcements, now)
            except StoreError:
                self._backlog.put_back(batch)
                return  # told by `_tell_trouble`; they wait for the next turn
            except (
                asyncio.CancelledError
            ):  # nobody says what became of them: rather twice than not
                self._backlog.put_back(batch)
                raise

    async def _look_for_withheld(self) -> None:
        """End what was announced of events that did not come, once they have."""
        for gateway, log_id in self._withheld.waiting():
            try:
                cursor = (await self._store.cursors(gateway, [log_id])).get(log_id)
            except StoreError:
                return
            come = self._withheld.come(gateway, log_id, 0 if cursor is None else cursor.main)
            if come is not None:
                self._told.ended(come.subkind, gateway, log_id)
                self._backlog.add([come])

    async def _settle(self, now: Instant) -> None:
        try:
            await self._store.settle(now)
        except StoreError as error:
            self._log.error("count of unreadable events not stored", error=str(error))

    async def _touch(self, now: Instant) -> None:
        if now.wall is None:
            return
        offset_s = now.wall - now.monotonic
        if self._offset_s is not None and abs(offset_s - self._offset_s) >= CLOCK_SET_S:
            self._store.pause_attendance()
        self._offset_s = offset_s
        seen_us, lost = dict(self.seen_us), tuple(self._newly_lost)
        heard = {
            name: at_us for name, at_us in seen_us.items() if self._touched.get(name) != at_us
        }
        try:
            await self._store.touch(seen_us)
            await self._store.attend(round(now.wall * 1e6), heard, lost)
        except StoreError:
            return
        self._touched = seen_us
        del self._newly_lost[: len(lost)]

    def _tell_warnings(self) -> None:
        for warning in self._enrolment.warnings:
            self._log.warning("enrolment", text=warning, peer=warning)

    def _tell_trouble(self) -> None:
        trouble = self._store.trouble
        text = "" if trouble is None else str(trouble)
        if text and text != self._trouble:
            self._log.error("store fails", error=text, hint=trouble.hint if trouble else "")
        elif self._trouble and not text:
            self._log.info("store works again")
        self._trouble = text

    async def _pause(self, now: Instant) -> None:
        deadline = self.supervision.deadline()
        wait_s = TICK_S if deadline is None else min(TICK_S, deadline - now.monotonic)
        await asyncio.sleep(max(wait_s, 0.01))
