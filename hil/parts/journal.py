"""What a device wrote down itself: the evidence of the bench."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

ENTRIES_MAX = (
    500_000  # some 100 MB: far more than any run; a runaway device must not eat the bench
)


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened at a device.

    at_s: monotonic seconds (CLOCK_MONOTONIC, one clock for every process of a machine).
    event: `level`, `joined`, `watching`, `ended`, `answered`, `sent`, `acknowledged` …
    accepted: whether the gateway took it in, where the device can know that.
    read_s: when the device looked at the level that it tells of, where that was earlier.
    """

    at_s: float
    device: str
    event: str
    point: str = ""
    on: bool | None = None
    accepted: bool | None = None
    text: str = ""
    read_s: float | None = None


class Journal:
    """The entries of one device, oldest first; on disk too where a path is given."""

    def __init__(self, device: str, path: Path | None = None) -> None:
        self.device = device
        self.entries: list[Entry] = []
        self._file = path.open("wb") if path else None
        self._listeners: list[Callable[[Entry], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def note(
        self,
        event: str,
        *,
        point: str = "",
        on: bool | None = None,
        accepted: bool | None = None,
        text: str = "",
        at_s: float | None = None,
        read_s: float | None = None,
    ) -> Entry:
        """Write down what happens now. Raises `OverflowError` beyond `ENTRIES_MAX` entries."""
        if len(self.entries) >= ENTRIES_MAX:
            raise OverflowError(f"the journal of {self.device} is full")
        entry = Entry(
            at_s=time.monotonic() if at_s is None else at_s,
            device=self.device,
            event=event,
            point=point,
            on=on,
            accepted=accepted,
            text=text,
            read_s=read_s,
        )
        self.entries.append(entry)
        if self._file:
            self._file.write(msgspec.json.encode(entry) + b"\n")
            self._file.flush()
        for listener in self._listeners:
            listener(entry)
        return entry

    def of(self, *events: str, point: str | None = None) -> list[Entry]:
        """Return the entries of some events, of one point where it is given."""
        return [
            entry
            for entry in self.entries
            if entry.event in events and (point is None or entry.point == point)
        ]

    def listen(self, listener: Callable[[Entry], None]) -> None:
        """Call `listener` with every later entry, within `note`."""
        self._listeners.append(listener)

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None
