"""What is polled on a bus, and what answers and silence mean.

A unit that leaves `retries` + 1 requests in a row unanswered is silent: one `fault` /
`communication` at `<bus>/<unit>`, and its restore when it answers reliably again. A point that a
unit refuses to give, with an exception, gets the same pair under its own id.
"""

from events.kinds import Kind, Qualifier, Subkind
from events.model import RAW_LENGTH_MAX, Native, Observation, Scalar
from protocols.levels import Memory
from protocols.modbus.codes import ExceptionCode
from protocols.modbus.exchange import read
from protocols.modbus.map import read_point
from protocols.modbus.outbox import Outbox
from protocols.modbus.pdu import Frame
from protocols.modbus.plan import Read, cost_of, plan, split
from protocols.modbus.rtu import Answer
from protocols.modbus.schedule import Item, Schedule, UnitState, slack_s
from protocols.modbus.sections import BIT_TABLES, Bus, Unit
from protocols.modbus.watch import Condition, Evidence, Watch
from protocols.modbus.writes import BUSY_DELAY_S, BUSY_MAX

REFUSED_HOLD_S = 1.0  # least pause before a read that was refused is sent again


BUSY = frozenset({ExceptionCode.ACKNOWLEDGE, ExceptionCode.SERVER_DEVICE_BUSY})
_SILENT = frozenset({ExceptionCode.GATEWAY_PATH_UNAVAILABLE, ExceptionCode.GATEWAY_TARGET_FAILED})
# A merged read may have reached over cells that the unit does not have.
_DIVISIBLE = frozenset(
    {
        ExceptionCode.ILLEGAL_DATA_ADDRESS,
        ExceptionCode.ILLEGAL_DATA_VALUE,
        ExceptionCode.SERVER_DEVICE_FAILURE,
    }
)


class Poll:
    """The reads of one bus, with what is known of its units and points."""

    def __init__(
        self, config: Bus, memory: Memory, outbox: Outbox, integrity: tuple[str, ...]
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._integrity = integrity
        self._silence: dict[str, Condition] = {}
        cost = cost_of(config)
        states = []
        for unit in config.unit:
            state = UnitState(
                config=unit,
                timeout_s=config.timeout_s(unit),
                late_window_s=config.late_window_s(unit),
            )
            watches = {
                point.id: Watch(point, unit=unit.unit, source=config.id, memory=memory)
                for point in unit.point
            }
            state.items = [_item(state, each, watches) for each in plan(unit, cost)]
            states.append(state)
            self._silence[unit.id] = Condition(
                memory, self._point_of(unit), Kind.FAULT, Subkind.COMMUNICATION
            )
        self.schedule = Schedule(states, retries=config.retries)

    def unit(self, number: int) -> UnitState | None:
        """Return the unit with this address."""
        for state in self.schedule.units:
            if state.config.unit == number:
                return state
        return None

    def answered(self, item: Item, answer: Answer, now_s: float) -> None:
        """Take the answer to a read."""
        code = answer.frame.exception
        if code in _SILENT:
            self._missed(item, now_s, now_s, answer)
            return
        if not self.schedule.answered(item, now_s):
            return
        self._set_silent(item.unit, False, answer)
        if code is None:
            self._values(item, answer, now_s)
        else:
            self._exception(item, code, answer, now_s)

    def missed(self, item: Item, now_s: float, silent_until: float) -> None:
        """Note that a read got no answer; its late window ends at `silent_until`."""
        self._missed(item, now_s, silent_until, None)

    def _missed(
        self, item: Item, now_s: float, silent_until: float, answer: Answer | None
    ) -> None:
        if self.schedule.missed(item, now_s, silent_until):
            self._set_silent(item.unit, True, answer)

    def _values(self, item: Item, answer: Answer, now_s: float) -> None:
        item.refusals = item.busy = 0
        frame = answer.frame
        cells = frame.bits if item.read.table in BIT_TABLES else frame.registers
        if cells is None or len(cells) < item.read.count or answer.pdu == item.last_pdu:
            return
        evidence = self._evidence(item, answer)
        for watch in item.watches:
            start = watch.point.address - item.read.address
            reading = read_point(watch.point, cells[start : start + watch.point.span])
            self._outbox.put(watch.read(reading, evidence, now_s))
        if item.skips_same:
            item.last_pdu = answer.pdu

    def _exception(self, item: Item, code: int, answer: Answer, now_s: float) -> None:
        item.last_pdu = None
        if code in BUSY and item.busy < BUSY_MAX:
            item.busy += 1
            item.due = min(item.due, now_s)
            item.hold_until = now_s + BUSY_DELAY_S
            return
        item.hold_until = now_s + REFUSED_HOLD_S
        item.refusals += 1
        if item.refusals <= self._config.retries:
            return
        if len(item.watches) > 1 and code in _DIVISIBLE:
            watches = {watch.point.id: watch for watch in item.watches}
            parts = [_item(item.unit, each, watches) for each in split(item.read)]
            for part in parts:
                part.due = now_s
            self.schedule.replace(item, parts)
            return
        evidence = self._evidence(item, answer)
        for watch in item.watches:
            self._outbox.put(watch.unreadable(code, evidence))

    def _set_silent(self, unit: UnitState, silent: bool, answer: Answer | None) -> None:
        qualifier = self._silence[unit.config.id].change(silent)
        if qualifier is not None:
            self._outbox.put([self._communication(unit, qualifier, answer)])

    def _communication(
        self, unit: UnitState, qualifier: Qualifier, answer: Answer | None
    ) -> Observation:
        fields: dict[str, Scalar] = {"unit": unit.config.unit}
        code = "no-answer"
        if answer is not None:
            fields["fc"] = answer.frame.fc
            exception = answer.frame.exception
            code = str(answer.frame.fc) if exception is None else f"exception-{exception}"
        new = qualifier == Qualifier.NEW
        return Observation(
            point=self._point_of(unit.config),
            kind=Kind.FAULT,
            subkind=Subkind.COMMUNICATION,
            qualifier=qualifier,
            source=self._config.id,
            address={"unit": str(unit.config.unit)},
            native=Native(scheme="modbus", code=code, fields=fields),
            raw=b"" if answer is None else answer.raw[:RAW_LENGTH_MAX],
            integrity=() if answer is None else self._integrity,
            details={"misses": unit.misses} if new else {},
        )

    def _point_of(self, unit: Unit) -> str:
        return f"{self._config.id}/{unit.id}"

    def _evidence(self, item: Item, answer: Answer) -> Evidence:
        frame: Frame = answer.frame
        return Evidence(
            unit=frame.unit, fc=item.read.fc, raw=answer.raw, integrity=self._integrity
        )


def _item(state: UnitState, each: Read, watches: dict[str, Watch]) -> Item:
    first = each.points[0]
    period_s = first.period_s or state.config.period_s
    return Item(
        unit=state,
        read=each,
        request=read(state.config.unit, each.fc, each.address, each.count),
        watches=tuple(watches[point.id] for point in each.points),
        period_s=period_s,
        slack_s=slack_s(first.priority, period_s),
        # A measurement may wait for `report_s`: the same answer can mean something later.
        skips_same=all(point.kind != Kind.MEASUREMENT for point in each.points),
    )
