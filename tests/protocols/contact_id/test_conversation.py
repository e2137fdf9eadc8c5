"""Two engines back to back over a bad wire: what the receiver swears to must be in the book."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st

from events.model import POSSIBLE_REPEAT, Instant, Observation
from protocols.contact_id.config import Receiver
from protocols.contact_id.receiver import ReceiverLink
from protocols.contact_id.simulated import Patience, SimulatedReceiver
from protocols.ports import SerialPort
from tests.protocols.contact_id.book import Book

LATENCY_S = 0.005
END_S = 600.0


@dataclass(frozen=True)
class Weather:
    """What befalls the wire and the disk, one choice per thing that happens.

    to_us, to_them: each piece on the wire passes (0), is lost (1), damaged (2), comes twice (3).
    disk_s: how long each storing takes; negative: it is refused after that time.
    deaths: seconds at which the gateway is killed and started again after a pause.
    """

    to_us: list[int]
    to_them: list[int]
    disk_s: list[float]
    deaths: list[tuple[float, float]]
    heartbeat_first: bool


weathers = st.builds(
    Weather,
    to_us=st.lists(st.sampled_from([0, 0, 0, 1, 2, 3]), max_size=40),
    to_them=st.lists(st.sampled_from([0, 0, 1]), max_size=40),
    disk_s=st.lists(
        st.sampled_from([0.004, 0.004, 0.5, 3.9, 3.999, 4.0, 6.0, 25.0, -0.1, -5.0]), max_size=30
    ),
    deaths=st.lists(
        st.tuples(st.floats(0, 60), st.sampled_from([0.0, 2.0, 10.0, 40.0])), max_size=4
    ),
    heartbeat_first=st.booleans(),
)


@dataclass
class World:
    """A virtual clock, a receiver, a gateway's end, and the wire between them."""

    weather: Weather
    tag: str
    now: float = 0.0
    book: Book = field(default_factory=Book)

    def __post_init__(self) -> None:
        self.config = Receiver(
            id="r1",
            format=self.tag,  # type: ignore[arg-type]  # drawn text
            port=SerialPort(path="/dev/x"),
        )
        place = {"receiver": "1"} if self.tag == "685" else {"receiver": "01"}
        self.far = SimulatedReceiver(
            self.tag,
            line="001" if self.tag == "system3" else "1",
            patience=Patience(heartbeat_first=self.weather.heartbeat_first),
            **place,
        )
        self.to_us = list(reversed(self.weather.to_us))
        self.to_them = list(reversed(self.weather.to_them))
        self.disk_s = list(reversed(self.weather.disk_s))
        self.deaths = sorted(self.weather.deaths)
        self.queue: list[tuple[float, int, str, bytes]] = []
        self.order = 0
        self.far.start(self.instant)
        self.revive()

    @property
    def instant(self) -> Instant:
        return Instant(monotonic=self.now)

    def revive(self) -> None:
        self.link: ReceiverLink | None = ReceiverLink(self.config, self.book)
        self.link.start(self.instant)
        self.waiting: list[Observation] = []
        self.storing: tuple[float, float, int] | None = None  # when, how long, how many

    def signal(self, event: str, zone: str, qualifier: str = "E") -> None:
        self.far.event(
            self.instant, account="1234", event=event, zone_or_user=zone, qualifier=qualifier
        )
        self._pump()

    def step(self) -> None:
        """Go to the next thing that happens, and let it happen."""
        due = [(self.far.deadline() or END_S, "far")]
        if self.link is not None:
            due.append((self.link.deadline() or END_S, "near"))
        if self.queue:
            due.append((min(self.queue)[0], "wire"))
        if self.storing is not None:
            due.append((self.storing[0], "disk"))
        if self.deaths:
            due.append((self.deaths[0][0], "death"))
        at, what = min(due)
        self.now = max(self.now, at)
        getattr(self, f"_{what}")()
        self._pump()

    def _far(self) -> None:
        self.far.timeout(self.instant)

    def _near(self) -> None:
        assert self.link is not None
        self.link.timeout(self.instant)

    def _wire(self) -> None:
        item = min(self.queue)
        self.queue.remove(item)
        if item[2] == "far":
            self.far.receive(item[3], self.instant)
        elif self.link is not None:
            self.link.receive(item[3], self.instant)

    def _disk(self) -> None:
        assert self.link is not None
        assert self.storing is not None
        _, took, count = self.storing
        self.storing = None
        done = self.waiting[:count]
        del self.waiting[:count]
        if took < 0:
            self.link.dropped(len(done), self.instant)
        else:
            self.book.write(done)
            self.link.stored(len(done), self.instant)

    def _death(self) -> None:
        at, pause = self.deaths.pop(0)
        if self.link is None:
            self.revive()
            return
        if self.storing is not None and int(at * 1000) % 2:  # on disk, but not yet told
            self.book.write(self.waiting[: self.storing[2]])
        self.link = None
        self.storing = None
        self.deaths = sorted([*self.deaths, (self.now + pause, 0.0)])

    def _pump(self) -> None:
        self._carry("near", self.far.to_send(), self.to_us)
        if self.link is None:
            return
        self.waiting += self.link.observations()
        if self.storing is None and self.waiting:
            took = self.disk_s.pop() if self.disk_s else 0.004
            self.storing = (self.now + abs(took), took, len(self.waiting))
        self._carry("far", self.link.to_send(), self.to_them)

    def _carry(self, end: str, data: bytes, fates: list[int]) -> None:
        if not data:
            return
        fate = fates.pop() if fates else 0
        pieces = [data]
        if fate == 1:
            pieces = []
        elif fate == 2:
            damage = bytes([0x61 + self.order % 26])  # never twice the same in a row
            pieces = [data[:4] + damage + data[5:]]
        elif fate == 3:
            pieces = [data, data]
        for number, piece in enumerate(pieces):
            self.order += 1
            self.queue.append((self.now + LATENCY_S * (number + 1), self.order, end, piece))


messages = st.lists(
    st.tuples(st.sampled_from(["110", "120", "144", "301", "602"]), st.sampled_from("ER")),
    min_size=1,
    max_size=6,
)


@settings(max_examples=max(300, settings().max_examples))
@given(weathers, messages, st.sampled_from(["mlr2", "system3", "685"]))
def test_what_was_acknowledged_is_in_the_book_and_once_unless_it_says_otherwise(
    weather: Weather, signals: list[tuple[str, str]], tag: str
) -> None:
    world = World(weather, tag)
    for number, (code, qualifier) in enumerate(signals):
        world.signal(code, f"{number:03d}", qualifier)  # no two messages are the same bytes
    accepted: set[int] = set()
    while world.now < END_S and not (world.far.idle and not world.deaths):
        world.step()
        for entry in world.far.journal:
            if entry.accepted is not None and entry.number not in accepted:
                accepted.add(entry.number)
                assert entry.raw in {one.raw for one in world.book.stored}
    assert world.far.idle, "the receiver was never served"
    plain = Counter(one.raw for one in world.book.stored if POSSIBLE_REPEAT not in one.flags)
    total = Counter(one.raw for one in world.book.stored)
    for entry in world.far.journal:
        assert total[entry.raw] >= 1
        assert plain[entry.raw] <= 1
    if any(total[entry.raw] > 1 for entry in world.far.journal):
        event("a possible repeat was stored")


@given(st.sampled_from(["mlr2", "system3", "685"]), st.integers(1, 8))
def test_in_fair_weather_every_message_takes_one_sending_and_is_stored_once(
    tag: str, count: int
) -> None:
    world = World(Weather([], [], [], [], heartbeat_first=False), tag)
    for number in range(count):
        world.signal("120", f"{number % 2:03d}")
    while not world.far.idle:
        world.step()
    assert [len(entry.sent) for entry in world.far.journal] == [1] * count
    assert [one.raw for one in world.book.stored] == [entry.raw for entry in world.far.journal]
    while world.far.heartbeats_answered < 3:
        world.step()
    assert world.far.heartbeats_sent == 3
    assert 90 <= world.now < 91
    assert world.far.stray == 0


def test_a_gateway_that_acknowledges_before_it_stores_would_be_caught() -> None:
    """The check itself can fail: an eager end answers at once, and is killed before its commit."""

    class Eager(World):
        def _pump(self) -> None:
            super()._pump()
            if self.waiting and self.link is not None:
                self.storing = None
                self.link.stored(len(self.waiting), self.instant)  # told, but not written
                self._carry("far", self.link.to_send(), [])

    world = Eager(Weather([], [], [], [(0.012, 0.0)], heartbeat_first=False), "mlr2")
    world.signal("120", "001")
    while not world.far.idle:
        world.step()
    assert world.far.journal[0].accepted is not None
    assert world.book.stored == []
