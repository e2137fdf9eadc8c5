"""Modbus RTU on the wire: CRC, frames found in any stream of bytes, and the answer to one request.

The CRC and the building of frames are pymodbus' (`FramerRTU`). Its decoder is not used: it throws
away a whole buffer on a wrong CRC or a leading glitch, and never checks byte counts.
"""

from dataclasses import dataclass

from pymodbus.framer import FramerRTU

from protocols.modbus.codes import EXCEPTION_BIT, PDU_LENGTH_MAX, UNIT_MAX
from protocols.modbus.exchange import EXCEPTION_PDU_LENGTH, Request, judge
from protocols.modbus.pdu import MORE, NEVER, Direction, Frame, decode, pdu_length

ADU_LENGTH_MIN = 4
ADU_LENGTH_MAX = PDU_LENGTH_MAX + 3
GLITCH_LENGTH_MAX = 8  # bytes that a transceiver may put before a frame or an echo
BUFFER_LENGTH_MAX = 3 * ADU_LENGTH_MAX

BOTH = (Direction.REQUEST, Direction.RESPONSE)


def frame(unit: int, pdu: bytes) -> bytes:
    """Return the RTU frame around a PDU."""
    body = bytes((unit,)) + pdu
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def crc_fits(adu: bytes) -> bool:
    """Tell whether a frame ends with its own CRC."""
    return FramerRTU.check_CRC(adu[:-2], int.from_bytes(adu[-2:], "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Adu:
    """A frame whose CRC fits and whose PDU keeps the rules of at least one direction.

    skipped: bytes thrown away between the frame before and this one.
    """

    unit: int
    pdu: bytes
    raw: bytes
    skipped: int


class Scanner:
    """Finds frames in a stream of bytes, of one or of both directions.

    Length and CRC decide, never silence, so any split of the bytes finds the same frames. Where a
    request and a response of different length both fit, the shorter one is taken.

    discarded: bytes that belonged to no frame. rejected: runs of them long enough to be one.
    """

    def __init__(self, directions: tuple[Direction, ...] = BOTH) -> None:
        self.discarded = 0
        self.rejected = 0
        self._directions = directions
        self._buffer = bytearray()
        self._run = 0

    def receive(self, data: bytes) -> list[Adu]:
        """Take bytes; return the frames that are now complete."""
        self._buffer += data
        return self._scan(ended=False)

    def flush(self) -> list[Adu]:
        """Nothing more will come: return what is left as frames, discard the rest."""
        found = self._scan(ended=True)
        self._close_run()
        return found

    def _scan(self, *, ended: bool) -> list[Adu]:
        found: list[Adu] = []
        start = 0
        while start < len(self._buffer):
            rest = bytes(self._buffer[start : start + ADU_LENGTH_MAX])
            length = self._length(rest, ended=ended)
            if length == MORE:
                break
            if length == NEVER:
                start += 1
                self._run += 1
                self.discarded += 1
                continue
            found.append(
                Adu(unit=rest[0], pdu=rest[1 : length - 2], raw=rest[:length], skipped=self._run)
            )
            self._close_run()
            start += length
        del self._buffer[:start]
        return found

    def _length(self, rest: bytes, *, ended: bool) -> int:
        """Return the length of the frame at the beginning of `rest`, `MORE`, or `NEVER`."""
        if rest[0] > UNIT_MAX:
            return NEVER
        open_end = False
        for direction, length in self._candidates(rest):
            if length == MORE or length > len(rest):
                open_end = True
            elif crc_fits(rest[:length]) and decode(
                rest[1 : length - 2], unit=rest[0], direction=direction
            ):
                return length
        return MORE if open_end and not ended else NEVER

    def _candidates(self, rest: bytes) -> list[tuple[Direction, int]]:
        found = []
        for direction in self._directions:
            length = pdu_length(rest[1 : ADU_LENGTH_MAX - 2], direction)
            if length != NEVER:
                found.append((direction, length + 3 if length != MORE else MORE))
        return sorted(found, key=lambda candidate: candidate[1] or ADU_LENGTH_MAX)

    def _close_run(self) -> None:
        self.rejected += self._run >= ADU_LENGTH_MIN
        self._run = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What answered a request. `echo_skipped` counts our own bytes that came back first."""

    frame: Frame
    pdu: bytes
    raw: bytes
    skipped: int = 0
    echo_skipped: int = 0


class AnswerReader:
    """Reads the answer to one request out of whatever the line brings.

    Our own bytes are dropped when they come back byte for byte within the first few: a two-wire
    adapter that hears itself. Some answers are identical to their request (functions 05, 06, 08);
    whether the line echoes is therefore learned from requests that are not, and an identical frame
    counts as the answer only on a line known not to echo.

    echoes: whether this line echoes; None until a telling exchange.
    doubtful: an identical frame was dropped as echo without knowing that the line echoes.
    """

    def __init__(self) -> None:
        self.echoes: bool | None = None
        self.doubtful = False
        self.rejected = 0
        self.discarded = 0
        self._buffer = bytearray()
        self._sent = b""
        self._request: Request | None = None
        self._any_exception = False
        self._telling = False
        self._skipped = 0
        self._echoed = 0

    def forget_line(self) -> None:
        """Start afresh on a line opened anew: an adapter may have been replaced."""
        self.echoes = None

    def expect(self, request: Request, sent: bytes, *, any_exception: bool = False) -> None:
        """Begin to read the answer to `request`, which went out as `sent`."""
        self._buffer.clear()
        self._request, self._sent, self._any_exception = request, sent, any_exception
        self._telling = judge(request, sent[0], sent[1:-2]) is None
        self._skipped = self._echoed = 0
        self.doubtful = False

    def receive(self, data: bytes) -> Answer | None:
        """Take bytes; return the answer once it is whole. Bytes behind it are discarded."""
        if self._request is None:
            self.discarded += len(data)
            return None
        self._buffer += data
        if not self._echoed and not self._drop_echo():
            return None
        answer = self._find(self._request)
        if answer is None:
            excess = len(self._buffer) - BUFFER_LENGTH_MAX
            if excess > 0:
                del self._buffer[:excess]
                self._skipped += excess
                self.discarded += excess
            return None
        if self._telling and not self._echoed:
            self.echoes = False
        self._end(rejected=False)
        return answer

    def give_up(self) -> None:
        """Stop reading: the time is over, and what came was no answer."""
        self._end(rejected=len(self._buffer) >= ADU_LENGTH_MIN)

    def pending(self) -> int:
        """Return how many bytes have come that may become an answer."""
        return len(self._buffer)

    def _end(self, *, rejected: bool) -> None:
        self.rejected += rejected
        self.discarded += len(self._buffer)
        self._buffer.clear()
        self._request = None

    def _drop_echo(self) -> bool:
        """Drop our own bytes; False while it is open whether they are ours."""
        buffer, sent = self._buffer, self._sent
        at = buffer.find(sent, 0, GLITCH_LENGTH_MAX + len(sent))
        if at >= 0 and (self._telling or self.echoes is not False):
            if self._telling:
                self.echoes = True
            self.doubtful = self.echoes is None
            self._echoed = len(sent)
            self._skipped += at
            self.discarded += at
            del buffer[: at + len(sent)]
            return True
        return self.echoes is False or not sent.startswith(buffer)

    def _find(self, request: Request) -> Answer | None:
        buffer = bytes(self._buffer)
        at = buffer.find(request.unit)
        while 0 <= at < len(buffer) - 1:
            length = self._length_at(request, buffer, at)
            raw = buffer[at : at + length]
            if length and len(raw) == length and crc_fits(raw):
                frame = judge(request, raw[0], raw[1:-2], any_exception=self._any_exception)
                if frame is not None:
                    self.discarded += at
                    del self._buffer[: at + length]
                    return Answer(
                        frame=frame,
                        pdu=raw[1:-2],
                        raw=raw,
                        skipped=self._skipped + at,
                        echo_skipped=self._echoed,
                    )
            at = buffer.find(request.unit, at + 1)
        return None

    def _length_at(self, request: Request, buffer: bytes, at: int) -> int:
        """Return the length of the answer that begins at `at`, or 0 where none can."""
        if buffer[at + 1] & EXCEPTION_BIT:
            return EXCEPTION_PDU_LENGTH + 3
        if not request.head.startswith(buffer[at + 1 : at + 1 + len(request.head)]):
            return 0
        length = request.answer_length or pdu_length(buffer[at + 1 :], Direction.RESPONSE)
        return 0 if length in {MORE, NEVER} else length + 3
