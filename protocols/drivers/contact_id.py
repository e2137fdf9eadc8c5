"""The driver of an alarm receiver on a serial port."""

from events.model import Scalar
from protocols.contact_id.config import Receiver
from protocols.contact_id.receiver import ReceiverLink
from protocols.drivers.base import Context, Health, Report
from protocols.drivers.serial_port import open_serial
from protocols.drivers.stream import drive


class ReceiverDriver:
    """Runs one receiver. What it knows of repeats outlives the loss of the port."""

    def __init__(self, config: Receiver, context: Context) -> None:
        self._config = config
        self._context = context
        self._link = ReceiverLink(config, context.memory)
        self._up = False
        self._details: dict[str, Scalar] = {}

    @property
    def id(self) -> str:
        return self._config.id

    async def run(self, report: Report) -> None:
        """Open the port and serve the receiver. Raises `LinkLost`, also where nothing opens."""
        stream = await open_serial(self._config.port)
        try:
            self._up = True
            self._details = {"framing": stream.asked}
            if stream.notes:
                self._details["notes"] = "; ".join(stream.notes)
            await drive(self._link, stream, report, self._context.clock)
        finally:
            self._up = False
            stream.close()

    def health(self) -> Health:
        return Health(
            up=self._up,
            counters=self._link.totals(),
            details={"format": self._link.form.name, "silent": self._link.silent, **self._details},
        )
