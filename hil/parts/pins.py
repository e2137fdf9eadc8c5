"""Dry contacts on pins that live in the bench: the far end of the gateway's bench pin factory.

The gateway connects to a unix socket and both sides speak JSON lines. The bench opens with the
level of every pin and then sends each change; `sync` asks the gateway to answer `ack` once it has
taken in everything before it.

    bench    {"levels": {"GPIO5": 1, …}}   {"pin": "GPIO5", "level": 0, "t": 1234.5}   {"sync": 7}
    gateway  {"hello": pid}   {"pin": "GPIO5", "function": "input"}   {"pin": …, "pull": "up"}
             {"pin": …, "out": 1}   {"ack": 7}

`t` is a CLOCK_MONOTONIC second: when the level changed.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from hil.parts.journal import Journal

LINE_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """A dry contact between a pin with a pull-up and ground: closed reads low."""

    point: str
    pin: str
    contact: Literal["no", "nc"] = "no"

    def level(self, *, on: bool) -> int:
        """Return what the pin reads: 0 while the contact is closed."""
        closed = on == (self.contact == "no")
        return 0 if closed else 1


class PinBoard:
    """The contacts of one gateway, moved by the bench.

    Its journal: `level` (point, on): a contact moved, whether or not anybody watched. `joined`: a gateway
    connected. `watching`: it has claimed every pin and answered that it has read all levels.
    `ended`: its connection is gone.
    """

    def __init__(self, path: Path, contacts: Sequence[Contact], journal: Journal) -> None:
        self.journal = journal
        self.contacts = {contact.point: contact for contact in contacts}
        self.told: dict[str, dict[str, Any]] = {contact.pin: {} for contact in contacts}
        self._path = path
        self._on = {contact.point: False for contact in contacts}
        self._server: asyncio.Server | None = None
        self._visitor: _Visitor | None = None

    async def __aenter__(self) -> Self:
        for point, on in self._on.items():
            self.journal.note("level", point=point, on=on)
        self._server = await asyncio.start_unix_server(
            self._serve, str(self._path), limit=LINE_BYTES_MAX
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server:
            self._server.close()
        if self._visitor:
            self._visitor.writer.close()
        self._path.unlink(missing_ok=True)

    @property
    def watched(self) -> bool:
        """Whether a gateway is known to watch every contact now."""
        return self._visitor is not None and self._visitor.watching

    def on(self, point: str) -> bool:
        return self._on[point]

    def set(self, point: str, *, on: bool) -> None:
        """Move a contact. Moving it to where it is does nothing."""
        if self._on[point] == on:
            return
        self._on[point] = on
        moved = self.journal.note("level", point=point, on=on)
        if self._visitor:
            contact = self.contacts[point]
            level = contact.level(on=on)
            self._visitor.say({"pin": contact.pin, "level": level, "t": moved.at_s})

    def levels(self) -> dict[str, int]:
        """Return what every pin reads now."""
        return {c.pin: c.level(on=self._on[c.point]) for c in self.contacts.values()}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._visitor:  # a killed gateway's connection may still be unread: the new one counts
            self._leave(self._visitor)
        visitor = self._visitor = _Visitor(writer)
        self.journal.note("joined")
        visitor.say({"levels": self.levels()})
        with suppress(ConnectionError, ValueError, asyncio.CancelledError):
            while line := await reader.readline():
                self._hear(visitor, json.loads(line))
        self._leave(visitor)

    def _hear(self, visitor: "_Visitor", message: Mapping[str, Any]) -> None:
        pin = message.get("pin")
        if pin in self.told:
            self.told[pin].update(message)
            if message.get("function") == "input":
                visitor.claimed.add(pin)
                if len(visitor.claimed) == len(self.told):
                    visitor.sync()
        if "out" in message:
            self.journal.note("output", point=str(pin), on=bool(message["out"]))
        if visitor.answered(message.get("ack")) and visitor is self._visitor:
            visitor.watching = True
            self.journal.note("watching")

    def _leave(self, visitor: "_Visitor") -> None:
        visitor.writer.close()
        if visitor is self._visitor:
            self._visitor = None
            self.journal.note("ended")


class _Visitor:
    """One connection of a gateway."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.claimed: set[str] = set()
        self.watching = False
        self._asked = 0

    def say(self, message: Mapping[str, Any]) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    def sync(self) -> None:
        self._asked += 1
        self.say({"sync": self._asked})

    def answered(self, ack: object) -> bool:
        """Tell whether this is the answer to the latest question, for the first time."""
        return not self.watching and self._asked > 0 and ack == self._asked
