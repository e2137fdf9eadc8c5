"""How old the oldest event is that no required station has yet."""

import asyncio
from collections.abc import Callable
from typing import Final

from buffer.log import EventLog
from buffer.memory import readable
from buffer.writer import Writer
from buffer.writer_thread import Steps
from events.errors import StoreError
from events.model import Instant, Stamp

LOOK_EVERY_S: Final = 1.0


class OldestUnsent:
    """Looks up the stamp of the oldest unsent event, at most once a second.

    `number` gives its number in the log, None when everything is delivered.
    """

    def __init__(self, number: Callable[[], int | None], boot_id: str) -> None:
        self._number = number
        self._boot_id = boot_id
        self._moved = asyncio.Event()
        self._seq: int | None = None
        self._stamp: Stamp | None = None

    @property
    def seq(self) -> int | None:
        return self._number()

    def look(self) -> None:
        """Look again: the log or a mark has moved."""
        if self._number() is None:
            self._seq = self._stamp = None  # the next one is not as old as the last one was
        self._moved.set()

    def age_s(self, now: Instant) -> float | None:
        """Return the seconds since the oldest unsent event was recorded.

        None when there is none. An event of an earlier boot is aged by the wall clocks of then
        and now, or, where one of them was not set, counted from the start of this boot.
        """
        if self._number() is None:
            return None
        stamp = self._stamp
        if stamp is None:
            return 0.0
        if stamp.boot_id == self._boot_id:
            return max(0.0, now.monotonic - stamp.monotonic_us / 1_000_000)
        if stamp.wall_us is not None and now.wall is not None:
            return max(0.0, now.wall - stamp.wall_us / 1_000_000)
        return now.monotonic

    async def follow(self, writer: Writer) -> None:
        """Keep the stamp up to date until cancelled."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            seq = self._number()
            if seq is not None and seq != self._seq:
                await self._look_up(writer, seq)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look_up(self, writer: Writer, seq: int) -> None:
        def body(log: EventLog) -> Steps[bytes | None]:
            yield
            return log.body_from(seq)  # the number itself may have been evicted

        try:
            held = await writer.run(body)
        except StoreError:
            return  # asked again when the log moves
        record = None if held is None else readable(held)
        self._seq = seq
        self._stamp = None if record is None else record.stamp
