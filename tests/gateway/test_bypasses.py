"""A bypass silences what may be silenced, for a while, and loses nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer.memory import Memory
from events.errors import UsageError
from events.kinds import Kind, Qualifier, Subkind
from events.model import Instant, Observation, Record, Stamp
from events.wire import encode
from gateway.bypasses import FOR_S_MAX, Bypasses
from gateway.sections import Configuration, GatewaySection
from protocols.gpio.config import Gpio, GpioPoint

KINDS = {
    "burglary": ("alarm", "burglary"),
    "leak": ("supervisory", "water-leak"),
    "panic": ("alarm", "panic"),
    "hold-up": ("alarm", "hold-up"),
    "smoke": ("alarm", "smoke"),
    "call-point": ("alarm", "manual-call-point"),
    "co": ("alarm", "carbon-monoxide"),
    "lid": ("tamper", ""),
    "unnamed": ("alarm", ""),
    "door": ("status", "door"),
}
MAY = ("burglary", "leak", "door")


def at(monotonic: float, wall: float | None = None) -> Instant:
    return Instant(monotonic=monotonic, wall=wall)


def bypasses(boot_id: str = "a") -> Bypasses:
    points = tuple(
        GpioPoint(id=name, line=line, contact="no", kind=kind, subkind=subkind)
        for line, (name, (kind, subkind)) in enumerate(KINDS.items())
    )
    section = GatewaySection(name="hall", data_dir="d", key_file="k", socket="s")
    configuration = Configuration(gateway=section, gpio=Gpio(point=points))
    return Bypasses(configuration, boot_id=boot_id)


def seen(point: str, qualifier: str = "new", *, kind: str = "", subkind: str = "") -> Observation:
    """Return what a point reports; without a kind, what it is configured to."""
    of_point = KINDS[point]
    return Observation(
        point=point,
        kind=kind or of_point[0],
        subkind=subkind if kind else of_point[1],
        qualifier=qualifier,
    )


def bypassed(point: str, for_s: float = 10.0) -> Bypasses:
    found = bypasses()
    event = found.begin(found.judge(point, for_s, by="wang", now=at(0, 1.8e9)))
    assert (event.kind, event.subkind, event.qualifier) == (
        Kind.DISABLED,
        Subkind.BYPASS,
        Qualifier.NEW,
    )
    return found


@pytest.mark.parametrize("point", [name for name in KINDS if name not in MAY])
def test_panic_fire_gas_and_tamper_are_refused_whoever_asks(point: str) -> None:
    with pytest.raises(UsageError, match="whoever asks"):
        bypasses().judge(point, 10.0, by="the chief", now=at(0))


@pytest.mark.parametrize("for_s", [0.0, -1.0, FOR_S_MAX + 1, float("inf"), float("nan")])
def test_a_bypass_has_its_bound(for_s: float) -> None:
    with pytest.raises(UsageError, match="lasts up to"):
        bypasses().judge("burglary", for_s, by="wang", now=at(0))


def test_an_unknown_point_and_an_end_without_a_beginning_are_refused() -> None:
    with pytest.raises(UsageError, match="no configured point"):
        bypasses().judge("attic", 10.0, by="wang", now=at(0))
    with pytest.raises(UsageError, match="not bypassed"):
        bypasses().end("burglary", why="command")


def test_its_alarms_are_recorded_as_disabled_with_their_kind_beside() -> None:
    (event,) = bypassed("burglary").passed([seen("burglary")])
    assert (event.kind, event.subkind) == (Kind.DISABLED, "burglary")
    assert event.details["bypassed_kind"] == "alarm"
    assert "bypassed" in event.flags


@pytest.mark.parametrize(
    ("kind", "subkind"), [("alarm", "panic"), ("alarm", "smoke"), ("alarm", "gas"), ("tamper", "")]
)
def test_signals_of_lives_pass_even_from_a_bypassed_point(kind: str, subkind: str) -> None:
    signal = seen("burglary", kind=kind, subkind=subkind)
    assert bypassed("burglary").passed([signal]) == [signal]


def test_faults_and_other_points_pass() -> None:
    others = [seen("burglary", kind="fault", subkind="line"), seen("leak"), seen("panic")]
    assert bypassed("burglary").passed(others) == others


def test_what_lasts_at_the_end_is_reported_as_what_it_is() -> None:
    found = bypassed("burglary")
    found.passed([seen("burglary")])
    ended, lasting = found.end("burglary", why="time")
    assert (ended.subkind, ended.qualifier) == (Subkind.BYPASS, Qualifier.RESTORE)
    assert (lasting.kind, lasting.qualifier) == (Kind.ALARM, Qualifier.NEW)
    assert "after-bypass" in lasting.flags
    assert found.passed([seen("burglary")]) == [seen("burglary")]


def test_it_is_over_by_itself_exactly_at_its_time() -> None:
    found = bypassed("burglary", 10.0)
    assert found.deadline() == 10.0
    assert (found.due(at(9.999)), found.due(at(10.0))) == ([], ["burglary"])


def kept(found: Bypasses) -> dict[str, bytes]:
    return {"burglary": found.packed(found.judge("burglary", 100.0, by="w", now=at(0, 1.8e9)))}


def test_a_restart_of_the_program_keeps_it_for_the_rest_of_its_time() -> None:
    again = bypasses()
    assert again.load(kept(bypasses()), at(40.0, 1.8e9 + 40)) == []
    assert again.deadline() == 100.0


def test_a_restart_of_the_machine_keeps_it_by_wall_time_and_ends_it_without() -> None:
    known = bypasses("b")
    assert known.load(kept(bypasses()), at(5.0, 1.8e9 + 40)) == []
    assert known.deadline() == pytest.approx(65.0)
    over = bypasses("b")
    assert [each.point for each in over.load(kept(bypasses()), at(5.0, 1.8e9 + 200))] == [
        "burglary"
    ]
    unknown = bypasses("b")
    assert [each.point for each in unknown.load(kept(bypasses()), at(5.0))] == ["burglary"]
    assert unknown.deadline() is None


@given(st.lists(st.sampled_from(["new", "restore"]), max_size=10))
def test_whatever_happens_the_last_state_is_told_in_the_end(qualifiers: list[str]) -> None:
    found = bypassed("burglary")
    recorded = [found.passed([seen("burglary", qualifier)])[0] for qualifier in qualifiers]
    assert [each.qualifier for each in recorded] == qualifiers
    after = [each for each in found.end("burglary", why="command") if each.kind == Kind.ALARM]
    assert [each.qualifier for each in after] == qualifiers[-1:]


class Life:
    """A receiver's points over crashes: what they said last, and what the store holds of it."""

    def __init__(self) -> None:
        self.memory, self.seq = Memory(), 0
        self.journal: dict[str, bytes] = {}
        self.said: dict[str, Observation] = {}
        self.found = bypasses()
        self.found.recall([])

    def record(self, observations: list[Observation]) -> None:
        for observation in observations:
            self.seq += 1
            body = encode(
                Record(stamp=Stamp(monotonic_us=0, boot_id="a"), observation=observation)
            )
            self.memory.note(self.seq, observation, body)

    def say(self, point: str, qualifier: str) -> None:
        self.said[point] = seen(point, qualifier)
        self.record(self.found.passed([self.said[point]]))

    def begin(self, point: str) -> None:
        bypass = self.found.judge(point, 100.0, by="w", now=at(0))
        self.journal[point] = self.found.packed(bypass)
        self.record([self.found.begin(bypass)])

    def end(self, point: str, *, recorded: bool) -> None:
        if point in self.journal:
            events = self.found.end(point, why="command")
            del self.journal[point]
            if recorded:  # else the power goes between the journal and the store
                self.record(events)
            else:
                self.crash("")

    def crash(self, early: str) -> None:
        """Start anew; `early` says something again before the store is read."""
        self.found = bypasses()
        self.found.load(self.journal, at(1))
        if early in self.said:
            self.record(self.found.passed([self.said[early]]))
        self.record(self.found.recall(self.memory.silenced()))


QUIET = ("burglary", "leak")
STEPS = st.one_of(
    st.tuples(st.just("say"), st.sampled_from(QUIET), st.sampled_from(["new", "restore"])),
    st.tuples(st.just("begin"), st.sampled_from(QUIET)),
    st.tuples(st.just("end"), st.sampled_from(QUIET), st.booleans()),
    st.tuples(st.just("crash"), st.sampled_from(("", *QUIET))),
)


@given(st.lists(STEPS, max_size=12))
def test_what_was_said_under_a_bypass_outlives_crashes(steps: list[tuple[str, str, str]]) -> None:
    life = Life()
    for name, point, *more in steps:
        if name == "say":
            life.say(point, more[0])
        elif name == "begin":
            life.begin(point)
        elif name == "end":
            life.end(point, recorded=bool(more[0]))
        else:
            life.crash(point)
    for point in QUIET:
        life.end(point, recorded=True)
    for point, said in life.said.items():
        held = life.memory.latest(point, said.kind, said.subkind)
        assert held is not None
        assert (held.kind, held.qualifier) == (said.kind, said.qualifier)


def test_a_level_is_compared_with_what_was_said_under_the_bypass() -> None:
    life = Life()
    life.say("burglary", "restore")
    life.begin("burglary")
    life.say("burglary", "new")
    stored = life.memory.latest("burglary", "alarm", "burglary")
    assert stored is not None
    assert stored.qualifier == Qualifier.NEW


def test_an_alarm_that_lasts_beyond_a_bypass_that_ended_in_a_crash_is_told_once() -> None:
    life = Life()
    life.begin("burglary")
    life.say("burglary", "new")
    life.end("burglary", recorded=False)
    assert life.found.recall(life.memory.silenced()) == []
    held = life.memory.latest("burglary", "alarm", "burglary")
    assert held is not None
    assert (held.kind, "after-bypass" in held.flags) == ("alarm", True)
    assert life.memory.silenced() == []
