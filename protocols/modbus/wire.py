"""The two ways in which an exchange crosses a line: RTU and TCP, behind one face."""

from typing import Protocol

from protocols.modbus import rtu, tcp
from protocols.modbus.exchange import Request, judge
from protocols.modbus.rtu import Answer, AnswerReader
from protocols.modbus.tcp import TRANSACTIONS, Reader
from protocols.modbus.timing import RTU_OVERHEAD, transmission_s


class Wire(Protocol):
    """Frames one request at a time and reads the answer to it.

    broken: the connection must be closed. integrity: the checks that an answer has passed.
    rejected, discarded: frames refused, and bytes thrown away, since the beginning.
    doubtful: a frame that was either our echo or the answer has been dropped as echo.
    """

    @property
    def integrity(self) -> tuple[str, ...]: ...
    @property
    def broken(self) -> bool: ...
    @property
    def doubtful(self) -> bool: ...
    @property
    def rejected(self) -> int: ...
    @property
    def discarded(self) -> int: ...
    def restart(self) -> None: ...
    def send(self, request: Request, *, any_exception: bool) -> bytes: ...
    def receive(self, data: bytes) -> Answer | None: ...
    def give_up(self) -> None: ...
    def rest_s(self, request: Request) -> float:
        """Return how long the answer may take on the wire once it has begun; 0 if it has not."""


class RtuWire:
    """A serial line. Between exchanges everything that comes is discarded."""

    integrity: tuple[str, ...] = ("crc",)
    broken = False

    def __init__(self, baud: int) -> None:
        self._reader = AnswerReader()
        self._baud = baud

    @property
    def doubtful(self) -> bool:
        return self._reader.doubtful

    @property
    def rejected(self) -> int:
        return self._reader.rejected

    @property
    def discarded(self) -> int:
        return self._reader.discarded

    def restart(self) -> None:
        self._reader.give_up()
        self._reader.forget_line()

    def send(self, request: Request, *, any_exception: bool) -> bytes:
        sent = rtu.frame(request.unit, request.pdu)
        self._reader.expect(request, sent, any_exception=any_exception)
        return sent

    def receive(self, data: bytes) -> Answer | None:
        return self._reader.receive(data)

    def give_up(self) -> None:
        self._reader.give_up()

    def rest_s(self, request: Request) -> float:
        if not self._reader.pending():
            return 0.0
        return transmission_s(request.answer_length + RTU_OVERHEAD, self._baud)


class TcpWire:
    """A TCP connection. An answer must carry the number of the request that is open."""

    integrity: tuple[str, ...] = ("transaction",)
    doubtful = False

    def __init__(self) -> None:
        self._reader = Reader()
        self._transaction = 0
        self._request: Request | None = None
        self._any_exception = False
        self._rejected = 0
        self._discarded = 0

    @property
    def broken(self) -> bool:
        return self._reader.broken

    @property
    def rejected(self) -> int:
        return self._rejected + self._reader.broken

    @property
    def discarded(self) -> int:
        return self._discarded + self._reader.discarded

    def restart(self) -> None:
        self._rejected, self._discarded = self.rejected, self.discarded
        self._reader = Reader()
        self._request = None

    def send(self, request: Request, *, any_exception: bool) -> bytes:
        self._transaction = (self._transaction + 1) % TRANSACTIONS
        self._request, self._any_exception = request, any_exception
        return tcp.frame(self._transaction, request.unit, request.pdu)

    def receive(self, data: bytes) -> Answer | None:
        answer = None
        for adu in self._reader.receive(data):
            request = self._request
            frame = None
            if request is not None and adu.transaction == self._transaction:
                frame = judge(request, adu.unit, adu.pdu, any_exception=self._any_exception)
            if frame is None:
                self._rejected += 1
                self._discarded += len(adu.raw)
            else:
                self._request = None
                answer = Answer(frame=frame, pdu=adu.pdu, raw=adu.raw)
        return answer

    def give_up(self) -> None:
        self._request = None

    def rest_s(self, request: Request) -> float:
        return 0.0  # the network is never the slow part
