"""The newest event makes the state, whatever clocks, boots, lanes and volatile logs do to its way.

A gateway lives its life in one true order; the station is told in any other that the lanes allow.
"""

import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from events.kinds import Qualifier
from events.model import ClockQuality, Origin, Stamp
from events.wire import decode
from station import schema
from station.recording import Recording
from station.register import Register
from sync.ledger import Commit
from tests.station.gateway_log import GatewayLog, record

NEW, RESTORE = Qualifier.NEW.value, Qualifier.RESTORE.value
POINTS = ("door", "panic")
RECEIVED_US = 1_800_000_000_000_000


@dataclass
class Lanes:
    """One log, and how far the station has it."""

    log: GatewayLog
    main: int = 0
    early: set[int] = field(default_factory=set)

    def waiting(self) -> list[int]:
        return sorted(seq for seq in self.log.urgent if seq > self.main and seq not in self.early)

    def all_held(self, seq: int) -> bool:
        return seq <= self.main or seq in self.early


class Gateway:
    """Records on disk or, while that fails, urgent events in memory; values are the true order."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.boots = 0
        self.wall_us: int | None = None
        self.clock = ClockQuality.UNSET
        self.disk = Lanes(GatewayLog("disk-0"))
        self.volatile: Lanes | None = None
        self.logs = [self.disk]
        self.count = 0
        self.boot()

    def boot(self) -> None:
        """Start the machine anew: what was in memory alone is gone."""
        self.boots += 1
        self.monotonic_us = self.random.randint(1, 50_000_000)
        self.volatile = None

    def step_clock(self) -> None:
        self.clock = self.random.choice(list(ClockQuality))
        wall_us = self.random.randint(0, 2 * RECEIVED_US)
        self.wall_us = None if self.clock is ClockQuality.UNSET else wall_us

    def stamp(self) -> Stamp:
        return Stamp(
            monotonic_us=self.monotonic_us,
            boot_id=f"boot-{self.boots}",
            wall_us=self.wall_us,
            clock=self.clock,
        )

    def record(self, point: str, qualifier: str, *, urgent: bool) -> None:
        self.monotonic_us += self.random.randint(1, 5_000_000)
        self.count += 1
        item = msgspec.structs.replace(
            record(point, qualifier=qualifier, urgent=urgent, value=self.count),
            stamp=self.stamp(),
        )
        if self.volatile is None:
            self.disk.log.append(item)
        elif urgent:
            self.volatile.log.append(item)
        else:
            return  # refused: never accepted

    def fail(self) -> None:
        """Let the disk fail."""
        if self.volatile is None:
            name = f"memory-{len(self.logs)}"
            self.volatile = Lanes(GatewayLog(name, volatile=True))
            self.logs.append(self.volatile)

    def recover(self, *, anew: bool) -> None:
        """Let the disk work again, or begin another log; what the station lacks goes there."""
        memory, self.volatile = self.volatile, None
        if memory is None:
            return
        if anew:
            self.disk = Lanes(GatewayLog(f"disk-{len(self.logs)}"))
            self.logs.append(self.disk)
        for seq, item in enumerate(memory.log.entries, 1):
            if not memory.all_held(seq) or self.random.random() < 0.3:  # held, but not known to be
                again = decode(item.body or b"")
                origin = Origin(memory.log.log_id, seq)
                self.disk.log.append(msgspec.structs.replace(again, origin=origin))


class Station:
    """The ledger's own code over a file in memory."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        schema._bring_up(self.connection, None)
        self.register = Register()
        self.boots: set[str] = set()
        self.commits = 0

    def hello(self, stamp: Stamp) -> None:
        number = self.register.gateway(self.connection, "g1")
        self.register.hello(self.connection, number, stamp, RECEIVED_US)
        self.boots.add(stamp.boot_id)

    def commit(self, commit: Commit) -> None:
        Recording(self.register, self.connection, "g1", commit, RECEIVED_US).run()
        self.commits += 1
        if self.commits % 3 == 0:  # a transaction ends
            self.register.flush(self.connection)

    def deliver(self, lanes: Lanes, steps: random.Random, *, whole: bool = False) -> None:
        """Take a little of one lane, or all that is left of both."""
        waiting = lanes.waiting()
        if waiting and not whole and steps.random() < 0.6:
            taken = waiting[: steps.randint(1, 3)]
            self.commit(lanes.log.early(*taken))
            lanes.early |= set(taken)
            return
        last = len(lanes.log.entries)
        if not whole:
            last = min(last, lanes.main + steps.randint(1, 4))
        if last > lanes.main:
            bare = [seq for seq in lanes.early if lanes.main < seq <= last]
            skip = bare if steps.random() < 0.7 else []
            self.commit(lanes.log.main(lanes.main + 1, last, skip=skip))
            lanes.main = last

    def state(self, point: str) -> tuple[str, int] | None:
        found: tuple[str, int] | None = self.connection.execute(
            "SELECT qualifier, value FROM point_state"
            " JOIN condition ON condition.id = condition WHERE point = ?",
            (point,),
        ).fetchone()
        return found

    def newest(self, point: str) -> tuple[str, int, set[str]] | None:
        """Return qualifier and number of the newest event that is held, and the boots of all."""
        held = [
            record
            for (body,) in self.connection.execute("SELECT body FROM event")
            if (record := decode(body)).observation.point == point
        ]
        if not held:
            return None
        last = max(held, key=lambda record: int(str(record.observation.value)))
        value = int(str(last.observation.value))
        return last.observation.qualifier, value, {record.stamp.boot_id for record in held}


ACTS = (
    *["record"] * 8, *["deliver"] * 5, *["fail"] * 2, *["recover"] * 2, "recover-anew", "boot",
    "hello", "step",
)  # fmt: skip
acts = st.lists(st.sampled_from(ACTS), min_size=8, max_size=50)


def live(acts: list[str], seed: int) -> Station:
    """Let a gateway act; return a station that has heard of everything that is left."""
    gateway, station, steps = Gateway(seed), Station(), random.Random(seed)
    for act in acts:
        offered = [gateway.disk, *([gateway.volatile] if gateway.volatile else [])]
        match act:
            case "record":
                point, qualifier = steps.choice(POINTS), steps.choice([NEW, RESTORE])
                gateway.record(point, qualifier, urgent=steps.random() < 0.6)
            case "hello":
                station.hello(gateway.stamp())
            case "deliver":
                station.hello(gateway.stamp())
                station.deliver(steps.choice(offered), steps)
            case "step":
                gateway.step_clock()
            case "fail":
                gateway.fail()
            case "boot":
                gateway.boot()
            case _:
                gateway.recover(anew=act == "recover-anew")
    station.hello(gateway.stamp())
    for lanes in (gateway.disk, *([gateway.volatile] if gateway.volatile else [])):
        station.deliver(lanes, steps, whole=True)
    station.register.flush(station.connection)
    return station


@settings(max_examples=300)
@given(acts, st.integers(0, 2**32))
def test_the_newest_event_makes_the_state(acts: list[str], seed: int) -> None:
    """Where a boot never said hello its order can be in doubt: then an alarm stands."""
    station = live(acts, seed)
    with closing(station.connection):
        for point in POINTS:
            newest, state = station.newest(point), station.state(point)
            assert (newest is None) == (state is None)
            if newest is None or state is None:
                continue
            qualifier, value, boots = newest
            if boots <= station.boots:
                assert state == (qualifier, value)
            assert qualifier == RESTORE or state[0] == NEW


def test_a_restore_salvaged_from_a_boot_that_nobody_heard_clears_no_alarm_of_the_present_boot() -> (
    None
):
    """Its log is the newer one to the station: it came after the log that replaced it."""
    station = Station()
    damaged, present = GatewayLog("damaged"), GatewayLog("present")
    for seconds, qualifier in ((1, NEW), (2, RESTORE)):
        damaged.append(record(qualifier=qualifier, monotonic_s=seconds, boot_id="boot-1", value=0))
    present.append(record(qualifier=NEW, boot_id="boot-2", value=1))
    with closing(station.connection):
        station.hello(Stamp(monotonic_us=1, boot_id="boot-2"))
        station.commit(present.main(1, 1))
        station.commit(damaged.main(1, 2))
        station.register.flush(station.connection)
        assert station.state("door") == (NEW, 1)


def test_an_alarm_of_the_present_boot_goes_before_a_restore_of_one_that_nobody_heard() -> None:
    """Also where a restored card gives it a smaller number."""
    station = Station()
    before, restored = GatewayLog("disk"), GatewayLog("disk")
    for second in range(1, 4):
        before.append(record(qualifier=RESTORE, monotonic_s=second, boot_id="boot-1", value=0))
    restored.append(record("other", boot_id="boot-1"))
    restored.append(record(qualifier=NEW, urgent=True, boot_id="boot-2", value=1))
    with closing(station.connection):
        station.commit(before.main(1, 3))
        station.hello(Stamp(monotonic_us=1, boot_id="boot-2"))
        station.commit(restored.early(2))
        station.register.flush(station.connection)
        assert station.state("door") == (NEW, 1)
