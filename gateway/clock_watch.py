"""What the gateway's clock does: it is set, steered, or stepped, and the station must be told.

A pure engine. Within one boot the wall time less the monotonic time stands still, however the
clock is slewed; when it changes, somebody set the clock. The station corrects the times of what
this boot recorded before.
"""

from dataclasses import dataclass

from events.kinds import Kind, Subkind
from events.model import ClockQuality, Instant, Observation, Scalar, Stamp

STEP_S = 0.25  # a jump of this length is told; steered clocks stay well within


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """offset_s: the machine's own wall time less its monotonic time; None while it is not set."""

    clock: ClockQuality
    offset_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockChange:
    before: ClockState
    after: ClockState
    at: Instant

    def observation(self, point: str) -> Observation:
        """Return the event that publishes the offset. Offsets are whole microseconds."""
        before, after = self.before, self.after
        details: dict[str, Scalar] = {
            "clock": after.clock.value,
            "clock_before": before.clock.value,
        }
        for name, state in (("offset_us", after), ("offset_before_us", before)):
            if state.offset_s is not None:
                details[name] = round(state.offset_s * 1_000_000)
        return Observation(
            point=point,
            kind=Kind.INFORMATION,
            subkind=Subkind.CLOCK,
            source=point,
            edge_us=int(self.at.monotonic * 1_000_000),
            text=_text(before, after),
            details=details,
        )


class ClockWatch:
    """Compares the clock with what was last told. Give it `now` once a second.

    told: how the clock was when this boot's newest record was stamped, None at its first start.
    """

    def __init__(self, now: Instant, told: Stamp | None) -> None:
        self._told = _state(now) if told is None else _stamped(told)
        self._seen = self._told

    def look(self, now: Instant) -> ClockChange | None:
        """Return what is to be told, the same again until it was (`tell`).

        Only what two looks in a row agree on: the two clocks are read one after the other, and a
        program that is held up between them sees a jump that is none.
        """
        after, seen = _state(now), self._seen
        self._seen = after
        if not _differ(self._told, after) or _differ(seen, after):
            return None
        return ClockChange(before=self._told, after=after, at=now)

    def tell(self, change: ClockChange) -> None:
        """Note that a change was recorded."""
        self._told = change.after


def _state(now: Instant) -> ClockState:
    own = now.wall is not None and now.clock != ClockQuality.UNSET
    return ClockState(
        clock=now.clock,
        offset_s=now.wall - now.monotonic if own and now.wall is not None else None,
    )


def _stamped(stamp: Stamp) -> ClockState:
    wall = None if stamp.wall_us is None else stamp.wall_us / 1_000_000
    return _state(Instant(monotonic=stamp.monotonic_us / 1_000_000, wall=wall, clock=stamp.clock))


def _differ(before: ClockState, after: ClockState) -> bool:
    return after.clock != before.clock or _stepped(before, after)


def _stepped(before: ClockState, after: ClockState) -> bool:
    if before.offset_s is None or after.offset_s is None:
        return (before.offset_s is None) != (after.offset_s is None)
    return abs(after.offset_s - before.offset_s) >= STEP_S


def _text(before: ClockState, after: ClockState) -> str:
    if after.offset_s is None:
        return "the clock is not set any more"
    words = "the clock was set"
    if before.offset_s is not None:
        step_s = after.offset_s - before.offset_s
        words = f"the clock was set {'forward' if step_s > 0 else 'back'} by {abs(step_s):.3f} s"
        if abs(step_s) < STEP_S:
            return "the clock is steered" if _steered(after) else "nobody steers the clock now"
    return f"{words} and is steered" if _steered(after) else words


def _steered(state: ClockState) -> bool:
    return state.clock == ClockQuality.SYNCHRONISED
