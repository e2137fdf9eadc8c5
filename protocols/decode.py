"""Decoders of captured bytes, by protocol name.

A decoder yields dictionaries: `frame` for each checked frame, `observation`, `send` for what would
be put on the line, and last `counts`. `decode` makes them fit for JSON.
"""

import importlib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from functools import partial

import msgspec

from events.errors import UsageError
from events.model import Observation

Line = dict[str, object]
Decoder = Callable[[bytes, bytes | None, bytes | None], Iterator[Line]]
"""Takes the captured bytes, the request before them if there was one, and a key if there is one."""


def _contact_id(
    data: bytes,
    request: bytes | None,  # noqa: ARG001 - this line has no requests
    key: bytes | None,  # noqa: ARG001 - and no keys
    *,
    protocol: str,
) -> Iterator[Line]:
    monitor = importlib.import_module("protocols.contact_id.monitor")
    lines: Iterator[Line] = monitor.decode(protocol, data)
    return lines


def _modbus(
    data: bytes,
    request: bytes | None,
    key: bytes | None,  # noqa: ARG001 - Modbus has none
    *,
    tcp: bool,
) -> Iterator[Line]:
    monitor = importlib.import_module("protocols.modbus.monitor")
    lines: Iterator[Line] = monitor.decode(data, request, tcp=tcp)
    return lines


DECODERS: dict[str, Decoder] = {
    "contact-id-mlr2": partial(_contact_id, protocol="contact-id-mlr2"),
    "contact-id-system3": partial(_contact_id, protocol="contact-id-system3"),
    "contact-id-685": partial(_contact_id, protocol="contact-id-685"),
    "contact-id-6500": partial(_contact_id, protocol="contact-id-6500"),
    "contact-id-dtmf": partial(_contact_id, protocol="contact-id-dtmf"),
    "modbus-rtu": partial(_modbus, tcp=False),
    "modbus-tcp": partial(_modbus, tcp=True),
}


def names() -> list[str]:
    """Return the protocols that can be decoded."""
    return sorted(DECODERS)


def decode(
    protocol: str, data: bytes, *, request: bytes | None = None, key: bytes | None = None
) -> Iterator[dict[str, object]]:
    """Return what `data` says, one JSON-ready dictionary per line; bytes are hexadecimal text.

    Raises `UsageError` for a protocol that is not in `names()`. Never raises on what `data` holds.
    """
    decoder = DECODERS.get(protocol)
    if decoder is None:
        near = get_close_matches(protocol, DECODERS, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"there is no protocol {protocol!r}", hint=f"{hint}Known are: {', '.join(names())}."
        )
    return (_shown(line) for line in decoder(data, request, key))


def _shown(line: Line) -> Line:
    return {name: _value(name, value) for name, value in line.items()}


def _value(name: str, value: object) -> object:
    if isinstance(value, Observation):
        return _observation(value)
    if name == "frame" and isinstance(value, dict):
        return {**value, "valid": True}  # only checked frames come this far
    return value


def _observation(observation: Observation) -> Line:
    shown: Line = msgspec.to_builtins(observation, builtin_types=(bytes,))
    # The words by which an event is read are shown even where they are the defaults.
    shown |= {"subkind": observation.subkind, "qualifier": observation.qualifier}
    if observation.raw:
        shown["raw"] = observation.raw.hex()
    return shown
