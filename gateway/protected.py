"""Points on which lives depend: panic, fire, gas and tamper. Nobody bypasses them from afar."""

from collections.abc import Iterator
from typing import Any

from events.kinds import Kind, Subkind
from gateway.sections import Configuration

PANIC = frozenset({Subkind.PANIC, Subkind.HOLD_UP, Subkind.DURESS, Subkind.MEDICAL})
FIRE = frozenset(
    {
        Subkind.FIRE,
        Subkind.SMOKE,
        Subkind.HEAT,
        Subkind.FLAME,
        Subkind.MANUAL_CALL_POINT,
        Subkind.WATER_FLOW,
    }
)
GAS = frozenset({Subkind.GAS, Subkind.CARBON_MONOXIDE})

_WORDS = {"panic": PANIC, "fire": FIRE, "gas": GAS}


def protection(kind: str, subkind: str) -> str:
    """Return why signals of this kind are protected, as one word; empty when they are not.

    An alarm of which nobody said what it is about may be any of them.
    """
    if kind == Kind.TAMPER:
        return "tamper"
    for word, subkinds in _WORDS.items():
        if subkind in subkinds:
            return word
    return "alarm of an unnamed kind" if kind == Kind.ALARM and not subkind else ""


def points(configuration: Configuration) -> Iterator[Any]:
    """Yield every configured point. Those of receivers have no kind: each signal brings its own."""
    for bus in configuration.bus:
        for unit in bus.unit:
            yield from unit.point
    for receiver in configuration.receiver:
        yield from receiver.point
    if configuration.gpio is not None:
        yield from configuration.gpio.point


def point_protection(point: Any) -> str:
    """Return why a configured point is protected; empty for one that is not, or has no kind."""
    kind = getattr(point, "kind", "")
    return protection(kind, point.subkind) if kind else ""
