"""The driver of a Modbus bus: a serial port or a TCP connection, and the engine that owns it."""

import asyncio
import contextlib

from events.commands import Verdict
from events.errors import LinkLost
from events.model import Scalar
from protocols.drivers.base import Context, Health, Report
from protocols.drivers.serial_port import open_serial
from protocols.drivers.stream import Stream, drive
from protocols.drivers.tcp import open_tcp
from protocols.modbus.bus import ModbusBus
from protocols.modbus.config import Bus
from protocols.modbus.exchange import write_coil
from protocols.modbus.sections import TCP_PORT
from protocols.modbus.writes import Written
from protocols.ports import split_address

WRITE_S = 5.0  # a write that could not go out by then is not sent any more
OUTCOME_S = 10.0  # after it: the exchange that is open, and its late window
LOOK_S = 0.02


class ModbusDriver:
    """Runs one bus. What it knows of levels, silent units and unstored events outlives the line."""

    def __init__(self, config: Bus, context: Context) -> None:
        self._config = config
        self._clock = context.clock
        self._bus = ModbusBus(config, context.memory)
        self._up = False
        self._reconnects = 0
        self._details: dict[str, Scalar] = {}
        self._stream: _Guarded | None = None
        self._written: dict[int, Written] = {}

    @property
    def id(self) -> str:
        return self._config.id

    @property
    def bus(self) -> ModbusBus:
        return self._bus

    async def write_coil(self, unit: int, address: int, *, on: bool) -> Written:
        """Write a coil between two reads; return what became of it.

        Never repeated after a timeout: whether the unit took it is then unknown. Raises `LinkLost`
        while the line is down, `LocalProtocolError` when too many writes wait.
        """
        if self._stream is None:
            raise LinkLost(f"the line of {self.id} is down")
        ticket = self._bus.write(write_coil(unit, address, on), self._clock(), expires_s=WRITE_S)
        self._stream.nudge()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WRITE_S + OUTCOME_S):
                while ticket not in self._written:
                    await asyncio.sleep(LOOK_S)
                    self._written |= {each.ticket: each for each in self._bus.written()}
        unknown = Written(ticket=ticket, verdict=Verdict.OUTCOME_UNKNOWN)
        return self._written.pop(ticket, unknown)

    async def run(self, report: Report) -> None:
        """Poll the bus until cancelled. Raises `LinkLost`, also where nothing opens.

        A connection that is open but has become deaf is replaced without a word; only when none
        can be had is the line lost.
        """
        while True:
            stream = await self._open()
            try:
                self._up = True
                self._stream = _Guarded(stream, self._bus)
                await drive(self._bus, self._stream, report, self._clock)
            except LinkLost:
                if not self._bus.stale:
                    raise
                self._reconnects += 1
            finally:
                self._up = False
                self._stream = None
                stream.close()

    def health(self) -> Health:
        now_s = self._clock().monotonic
        units: dict[str, dict[str, Scalar]] = {}
        for state in self._bus.units():
            shown: dict[str, Scalar] = {
                "unit": state.config.unit,
                "answering": state.trusted,
                "misses": state.misses,
            }
            if state.answered_at is not None:
                shown["last_answer_s"] = round(now_s - state.answered_at, 3)
            units[state.config.id] = shown
        polling = self._bus.polling
        details = self._details
        if self._up and not polling and not self._bus.broken:
            details = {**details, "not_polling": "urgent events wait for the store"}
        return Health(
            up=self._up and polling,
            counters={**self._bus.totals(), "reconnects": self._reconnects},
            details=details,
            units=units,
        )

    async def _open(self) -> Stream:
        config = self._config
        if config.port is not None:
            serial = await open_serial(config.port)
            self._details = {"framing": serial.asked}
            if serial.notes:
                self._details["notes"] = "; ".join(serial.notes)
            return serial
        address = (config.address or "").removeprefix("tcp://")
        host, port = split_address(address, default_port=TCP_PORT)
        self._details = {"address": f"{host}:{port}"}
        return await open_tcp(host, port, connect_timeout_s=config.connect_timeout_ms / 1000)


class _Guarded:
    """A stream that ends when the engine says that nothing sensible can come from it any more."""

    def __init__(self, stream: Stream, bus: ModbusBus) -> None:
        self._stream = stream
        self._bus = bus
        self._scope: asyncio.Timeout | None = None

    def nudge(self) -> None:
        """End the reading under way with nothing: the engine has something to send."""
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def read(self) -> bytes:
        if self._bus.broken:
            raise LinkLost(
                f"{self._bus.id} sent what is no Modbus TCP header",
                hint="is this address a Modbus TCP device, or a converter set to raw RTU?",
            )
        if self._bus.stale:
            raise LinkLost(f"nothing answers on the connection of {self._bus.id}")
        try:
            async with asyncio.timeout(None) as self._scope:
                return await self._stream.read()
        except TimeoutError:
            return b""
        finally:
            self._scope = None

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    def close(self) -> None:
        self._stream.close()
