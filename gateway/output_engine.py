"""What every output is to be, from orders and time. Sans-IO: its shell switches and reports back.

An output has a level that lasts (`set`) and at most one pulse above it. From the start on it is in
its fail-safe state until it is ruled. Only what was switched becomes an event: an order that never
reached the output changed nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from events.errors import UsageError
from events.kinds import Kind, Qualifier
from events.model import Instant, Observation, Scalar
from gateway.output_config import Output
from protocols.levels import Memory, stored_level

START, STOP, PULSE_END = "start", "stop", "pulse-end"


@dataclass(slots=True)
class _State:
    """pulse_s: of a pulse that was ordered and not switched on yet; pulse_until: of one that is."""

    config: Output
    base: bool
    pulse_s: float = 0.0
    pulse_until: float | None = None
    driven: bool | None = None
    why: dict[str, Scalar] = field(default_factory=dict)

    @property
    def level(self) -> bool:
        return self.base or self.pulse_s > 0 or self.pulse_until is not None

    def end_pulse(self) -> None:
        self.pulse_s, self.pulse_until = 0.0, None


class OutputEngine:
    """Levels of all outputs. The shell switches to `level` and tells with `driven`."""

    def __init__(self, outputs: Sequence[Output], memory: Memory) -> None:
        self._memory = memory
        self._states = {each.id: _State(each, each.safe, why={"why": START}) for each in outputs}
        self._observations: list[Observation] = []

    def __contains__(self, output: str) -> bool:
        return output in self._states

    def level(self, output: str) -> bool:
        """Return what the output is to be now."""
        return self._of(output).level

    def set(self, output: str, *, on: bool, why: dict[str, Scalar]) -> None:
        """Rule an output; a pulse that lasts ends with it. Raises `UsageError` for an unknown one."""
        state = self._of(output)
        state.end_pulse()
        state.base, state.why = on, why

    def release(self, output: str, *, why: dict[str, Scalar]) -> None:
        """Give an output back to its fail-safe state."""
        self.set(output, on=self._of(output).config.safe, why=why)

    def pulse(self, output: str, duration_s: float, *, why: dict[str, Scalar]) -> None:
        """Switch on for `duration_s`, counted from the switching. A second pulse begins anew.

        Raises `UsageError` for one that is too long, or an output that is on already.
        """
        state = self._of(output)
        longest = state.config.pulse_max_s
        if not 0 < duration_s <= longest:
            raise UsageError(f"a pulse of {output} lasts up to {longest:g} s, not {duration_s:g}")
        if state.base:
            raise UsageError(
                f"{output} is on: a pulse would change nothing", hint="clear it first"
            )
        state.end_pulse()
        state.pulse_s, state.why = duration_s, why

    def driven(self, output: str, *, on: bool, now: Instant) -> None:
        """Note that the output has been switched, or found switched, to a level."""
        state = self._of(output)
        if on and state.pulse_s:
            state.pulse_until, state.pulse_s = now.monotonic + state.pulse_s, 0.0
        config = state.config
        before = state.driven
        if before is None:
            before = stored_level(self._memory, output, Kind.OUTPUT, config.subkind)
        state.driven = on
        if before == on:
            return
        self._observations.append(
            Observation(
                point=output,
                kind=Kind.OUTPUT,
                subkind=config.subkind,
                qualifier=Qualifier.NEW if on else Qualifier.RESTORE,
                source=config.bus or ("gpio" if config.pin is not None else ""),
                value=on,
                edge_us=round(now.monotonic * 1_000_000),
                flags=("initial",) if before is None else (),
                details=dict(state.why),
            )
        )

    def lost(self, output: str) -> None:
        """Note that nobody knows the state of the output any more: its line was lost."""
        self._of(output).end_pulse()

    def deadline(self) -> float | None:
        ends = [each.pulse_until for each in self._states.values() if each.pulse_until is not None]
        return min(ends, default=None)

    def timeout(self, now: Instant) -> None:
        for state in self._states.values():
            if state.pulse_until is not None and state.pulse_until <= now.monotonic:
                state.end_pulse()
                state.why = {**state.why, "why": PULSE_END}

    def stop(self) -> None:
        """Give every output back to its fail-safe state."""
        for output in self._states:
            self.release(output, why={"why": STOP})

    def observations(self) -> list[Observation]:
        """Drain what happened, in order."""
        drained, self._observations = self._observations, []
        return drained

    def status(self, now: Instant) -> list[dict[str, Scalar | None]]:
        """Return each output: `on` is None until it was switched for the first time."""
        return [
            {
                "id": each.config.id,
                "label": each.config.label,
                "on": each.driven,
                "wanted": each.level,
                "fail_safe": each.config.safe,
                "pulse_left_s": None
                if each.pulse_until is None
                else round(max(0.0, each.pulse_until - now.monotonic), 3),
            }
            for each in self._states.values()
        ]

    def _of(self, output: str) -> _State:
        state = self._states.get(output)
        if state is None:
            known = ", ".join(self._states) or "none"
            raise UsageError(f"there is no output {output!r}", hint=f"configured: {known}")
        return state
