"""What a new configuration would take away, in words, and what a push may not change at all.

Everything that a point loses is named. For points of panic, fire, gas and tamper any change of how
they are read counts as weaker: whoever reads the list cannot know better than the installer did.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.protected import point_protection
from gateway.sections import Configuration

_SHOWN_MAX = 60
_NAMES = frozenset({"label"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. lost: less is watched than before. protected: of panic, fire, gas or tamper."""

    text: str
    lost: bool = False
    protected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """changes: in words. refused: what no push may change."""

    changes: tuple[Change, ...]
    refused: tuple[str, ...]

    @property
    def needs_second_person(self) -> bool:
        return any(change.lost and change.protected for change in self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A point, what it hangs on, and the section settings that say how it is read."""

    point: Any
    line: str
    surroundings: dict[str, Any]


def compare(before: Configuration, after: Configuration) -> Diff:
    """Return what changes from one configuration to another, both as read from one folder."""
    return Diff(
        changes=(
            *_points(before, after),
            *_lines(before, after),
            *_outputs(before, after),
            *_annunciation(before, after),
            *_stations(before, after),
        ),
        refused=tuple(_refused(before, after)),
    )


def _points(before: Configuration, after: Configuration) -> Iterator[Change]:
    old, new = _places(before), _places(after)
    for name, place in old.items():
        why = point_protection(place.point)
        if name not in new:
            yield Change(
                text=f"point {_named(place.point)} will no longer be watched",
                lost=True,
                protected=bool(why) or not hasattr(place.point, "kind"),
            )
        else:
            yield from _point(place, new[name], why)
    for name, place in new.items():
        if name not in old:
            yield Change(text=f"point {_named(place.point)} will be watched, on {place.line}")


def _point(old: _Place, new: _Place, why: str) -> Iterator[Change]:
    name = _named(old.point)
    # a receiver's point has no kind of its own: its signals may be any
    guarded = bool(why) or not hasattr(old.point, "kind")
    if old.line != new.line:
        text = f"point {name} will be read on {new.line} instead of {old.line}"
        yield Change(text=text, lost=guarded, protected=guarded)
    shape = type(old.point)
    if not isinstance(new.point, shape):
        return
    for field in msgspec.structs.fields(shape):
        was, is_now = getattr(old.point, field.name), getattr(new.point, field.name)
        if was == is_now or field.name == "id":
            continue
        yield _field(name, field.name, was, is_now, new.point, guarded=guarded)
    for key in old.surroundings.keys() | new.surroundings.keys():
        was, is_now = old.surroundings.get(key), new.surroundings.get(key)
        if was != is_now and guarded:
            text = (
                f"point {name} will be read with {key} {_shown(is_now)} instead of {_shown(was)}"
            )
            yield Change(text=text, lost=True, protected=True)


def _field(name: str, field: str, was: Any, is_now: Any, point: Any, *, guarded: bool) -> Change:
    if field in _NAMES or (field == "urgent" and is_now):
        return Change(text=f"point {name}: {field} {_shown(was)} becomes {_shown(is_now)}")
    if field in {"kind", "subkind"}:
        text = f"point {name} will report {field} {_shown(is_now)} instead of {_shown(was)}"
        return Change(text=text, lost=True, protected=guarded)
    if field == "urgent":
        return Change(text=f"point {name} will no longer be urgent", lost=True, protected=guarded)
    weaker = _weaker(field, was, is_now, point)
    if weaker:
        return Change(text=f"point {name} {weaker}", lost=True, protected=guarded)
    text = f"point {name}: {field} {_shown(was)} becomes {_shown(is_now)}"
    return Change(text=text, lost=guarded, protected=guarded)


def _weaker(field: str, was: Any, is_now: Any, point: Any) -> str:
    """Return in what a point becomes harder to raise; empty where it does not, or nobody knows."""
    match field:
        case "qualify_ms" if is_now > was:
            return f"must hold for {is_now} ms instead of {was} ms to count"
        case "period_s" if (is_now or 0) > (was or 0):
            return f"will be read every {_shown(is_now)} s instead of {_shown(was)} s"
        case "deadband" | "hysteresis" | "report_s" if is_now > was:
            return f"will report less: {field} {is_now:g} instead of {was:g}"
        case "threshold" if was is not None:
            return _threshold(was, is_now, point.side)
        case "priority":
            return f"will be read with priority {is_now} instead of {was}"
        case _:
            return ""


def _threshold(was: float, is_now: float | None, side: str) -> str:
    if is_now is None:
        return "will have no threshold"
    harder = is_now > was if side == "above" else is_now < was
    return f"will be raised at {is_now:g} instead of {was:g}" if harder else ""


def _lines(before: Configuration, after: Configuration) -> Iterator[Change]:
    old, new = dict(_sections(before)), dict(_sections(after))
    for name, section in old.items():
        if name not in new:
            lost = name.startswith(("receiver", "unit"))
            yield Change(
                text=f"{name} will no longer be {'listened to' if lost else 'used'}",
                lost=True,
                protected=name.startswith("receiver"),
            )
            continue
        for key in section.keys() | new[name].keys():
            was, is_now = section.get(key), new[name].get(key)
            if was != is_now:
                yield Change(
                    text=f"{name}: {key} {_shown(was)} becomes {_shown(is_now)}",
                    lost=name.startswith("receiver"),
                    protected=name.startswith("receiver"),
                )
    for name in new.keys() - old.keys():
        yield Change(text=f"{name} is new")


def _outputs(before: Configuration, after: Configuration) -> Iterator[Change]:
    old = {output.id: output for output in before.output}
    new = {output.id: output for output in after.output}
    for name, output in old.items():
        if name not in new:
            yield Change(text=f"output {_named(output)} will no longer be there", lost=True)
        elif output != new[name]:
            yield Change(
                text=f"output {_named(output)} will be switched in another way", lost=True
            )
    for name in new.keys() - old.keys():
        yield Change(text=f"output {_named(new[name])} is new")


def _annunciation(before: Configuration, after: Configuration) -> Iterator[Change]:
    old, new = before.annunciation, after.annunciation
    if old.output is not None and old.output != new.output:
        then = "nothing" if new.output is None else f"output {new.output}"
        text = f"events that are not delivered will switch {then} instead of output {old.output}"
        yield Change(text=text, lost=new.output is None)
    elif old.output != new.output:
        yield Change(text=f"events that are not delivered will switch output {new.output}")
    if old.after_s != new.after_s:
        text = (
            f"events count as not delivered after {new.after_s:g} s instead of {old.after_s:g} s"
        )
        yield Change(text=text, lost=new.after_s > old.after_s)


def _stations(before: Configuration, after: Configuration) -> Iterator[Change]:
    new = {station.name: station for station in after.station}
    for station in before.station:
        ways = {path.name: path for path in station.path}
        then = {path.name: path for path in new[station.name].path} if station.name in new else {}
        for name in ways.keys() - then.keys():
            yield Change(text=f"path {name} to station {station.name} will be gone", lost=True)
        for name, path in then.items():
            if name not in ways:
                yield Change(text=f"path {name} to station {station.name} is new")
            elif path.address == ways[name].address and path != ways[name]:
                yield Change(
                    text=f"path {name} to station {station.name} will be proved every"
                    f" {path.idle_period_s():g} s instead of {ways[name].idle_period_s():g} s"
                )
            elif path != ways[name]:
                yield Change(
                    text=f"station {station.name} will be called over {name} at {path.address}"
                    f" instead of {ways[name].address}"
                )


def _refused(before: Configuration, after: Configuration) -> Iterator[str]:
    for field in msgspec.structs.fields(type(before.gateway)):
        was, is_now = getattr(before.gateway, field.name), getattr(after.gateway, field.name)
        if was != is_now:
            yield f"[gateway] {field.name} cannot be changed from afar"
    if (after.store.bound_bytes or 0) < (before.store.bound_bytes or 0) or (
        before.store.bound_bytes is None and after.store.bound_bytes is not None
    ):
        yield "[store] bound_bytes cannot be lowered from afar: it could evict what is undelivered"
    old = {station.name: station for station in before.station}
    new = {station.name: station for station in after.station}
    for name in old.keys() - new.keys():
        yield f"station {name} cannot be removed from afar"
    for name in new.keys() - old.keys():
        yield f"station {name} cannot be added from afar: its key must be put here by hand"
    for name in old.keys() & new.keys():
        for field in msgspec.structs.fields(type(old[name])):
            if field.name != "path" and getattr(old[name], field.name) != getattr(
                new[name], field.name
            ):
                what = "key" if field.name == "public_key_file" else field.name
                yield f"the {what} of station {name} cannot be changed from afar"


def _places(configuration: Configuration) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for bus in configuration.bus:
        for unit in bus.unit:
            surroundings = {
                **_scalars(bus, f"bus {bus.id} "),
                **_scalars(unit, f"unit {unit.id} "),
            }
            for point in unit.point:
                places[point.id] = _Place(
                    point=point, line=f"unit {bus.id}/{unit.id}", surroundings=surroundings
                )
    for receiver in configuration.receiver:
        for each in receiver.point:
            places[each.id] = _Place(point=each, line=f"receiver {receiver.id}", surroundings={})
    if configuration.gpio is not None:
        surroundings = _scalars(configuration.gpio, "[gpio] ")
        for pin in configuration.gpio.point:
            places[pin.id] = _Place(point=pin, line="a pin", surroundings=surroundings)
    return places


def _sections(configuration: Configuration) -> Iterator[tuple[str, dict[str, Any]]]:
    for bus in configuration.bus:
        yield f"bus {bus.id}", _scalars(bus)
        for unit in bus.unit:
            yield f"unit {bus.id}/{unit.id}", _scalars(unit)
    for receiver in configuration.receiver:
        yield f"receiver {receiver.id}", _scalars(receiver)
    if configuration.gpio is not None:
        yield "[gpio]", _scalars(configuration.gpio)


def _scalars(section: Any, prefix: str = "") -> dict[str, Any]:
    """Return the settings of a section itself, without its lists and labels."""
    return {
        prefix + field.name: getattr(section, field.name)
        for field in msgspec.structs.fields(type(section))
        if field.name not in _NAMES | {"id"}
        and not isinstance(getattr(section, field.name), tuple)
    }


def _named(thing: Any) -> str:
    return f"{thing.id} ({thing.label})" if thing.label else str(thing.id)


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
