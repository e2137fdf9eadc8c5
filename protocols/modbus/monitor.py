"""Decode captured bytes, as a bus monitor or as the judge of one answer.

Without a request both directions are decoded. Where a frame fits both, it is the response to the
request before it if it answers that one, and else a request; so a lone frame of function 05, 06 or
08 is shown as a request.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from events.errors import UsageError
from protocols.modbus.exchange import Request, judge, parse_request
from protocols.modbus.pdu import Direction, Frame
from protocols.modbus.pdu import decode as decode_pdu
from protocols.modbus.rtu import ADU_LENGTH_MIN, Adu, AnswerReader, Scanner, crc_fits
from protocols.modbus.tcp import PROTOCOL, Reader, TcpAdu

OPEN_REQUESTS_MAX = 16  # TCP requests remembered while their answers are looked for


def decode(
    data: bytes, request: bytes | None = None, *, tcp: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield one `{"frame": …}` per checked frame, last `{"counts": …}`.

    request: the frame that `data` has to answer. Then only an answer to it is a frame, under the
    rules of the bus owner: everything else is rejected. Bytes skipped in front of a frame are
    its `skip`, a copy of the request dropped as local echo its `echo_skipped`.
    Raises `UsageError` if `request` is not a request frame.
    """
    if tcp:
        found = _tcp_monitor(data) if request is None else _tcp_answer(data, request)
    else:
        found = _rtu_monitor(data) if request is None else _rtu_answer(data, request)
    frames, rejected, discarded = found
    for frame, notes in frames:
        yield {"frame": {**frame.plain(), **{key: n for key, n in notes.items() if n}}}
    yield {"counts": {"frames": len(frames), "rejected": rejected, "discarded_bytes": discarded}}


_Frames = list[tuple[Frame, dict[str, int]]]
_Found = tuple[_Frames, int, int]


def _rtu_monitor(data: bytes) -> _Found:
    scanner = Scanner()
    adus = [*scanner.receive(data), *scanner.flush()]
    if not adus and len(data) >= ADU_LENGTH_MIN and crc_fits(data):
        # A function code that the standard does not define: only the end of the data ends it.
        unknown = decode_pdu(data[1:-2], unit=data[0], direction=Direction.REQUEST)
        if unknown is not None:
            return [(unknown, {})], 0, 0
    frames: _Frames = []
    request: Request | None = None
    for adu in adus:
        frame, request = _classify(adu, request)
        if frame is not None:
            frames.append((frame, {"skip": adu.skipped}))
    return frames, scanner.rejected, scanner.discarded


def _classify(adu: Adu | TcpAdu, request: Request | None) -> tuple[Frame | None, Request | None]:
    """Return the frame, and the request that the next one may answer."""
    if request is not None:
        frame = judge(request, adu.unit, adu.pdu)
        if frame is not None:
            return frame, None
    frame = decode_pdu(adu.pdu, unit=adu.unit, direction=Direction.REQUEST)
    if frame is not None:
        return frame, parse_request(adu.unit, adu.pdu)
    return decode_pdu(adu.pdu, unit=adu.unit, direction=Direction.RESPONSE), request


def _rtu_answer(data: bytes, request: bytes) -> _Found:
    asked = None
    if len(request) >= ADU_LENGTH_MIN and crc_fits(request):
        asked = parse_request(request[0], request[1:-2])
    if asked is None:
        raise _no_request(request)
    reader = AnswerReader()
    reader.expect(asked, request)
    answer = reader.receive(data)
    if answer is None and reader.doubtful:
        reader = AnswerReader()
        reader.echoes = False  # one frame identical to the request and nothing else: the answer
        reader.expect(asked, request)
        answer = reader.receive(data)
    if answer is None:
        reader.give_up()
        return [], reader.rejected, reader.discarded
    notes = {"skip": answer.skipped, "echo_skipped": answer.echo_skipped}
    return [(answer.frame, notes)], int(answer.skipped >= ADU_LENGTH_MIN), reader.discarded


def _tcp_monitor(data: bytes) -> _Found:
    reader = Reader()
    frames: _Frames = []
    rejected = discarded = 0
    requests: dict[int, Request] = {}
    for adu in reader.receive(data):
        frame, request = _classify(adu, requests.pop(adu.transaction, None))
        if frame is None:
            rejected += 1
            discarded += len(adu.raw)
        else:
            frames.append((_headed(frame, adu), {}))
        if request is not None:
            requests[adu.transaction] = request
            if len(requests) > OPEN_REQUESTS_MAX:
                del requests[next(iter(requests))]
    return frames, rejected + _rest(reader), discarded + reader.discarded


def _tcp_answer(data: bytes, request: bytes) -> _Found:
    sent = Reader().receive(request)
    asked = parse_request(sent[0].unit, sent[0].pdu) if len(sent) == 1 else None
    if asked is None:
        raise _no_request(request)
    reader = Reader()
    frames: _Frames = []
    rejected = discarded = 0
    for adu in reader.receive(data):
        fits = adu.transaction == sent[0].transaction and not frames
        frame = judge(asked, adu.unit, adu.pdu) if fits else None
        if frame is None:
            rejected += 1
            discarded += len(adu.raw)
        else:
            frames.append((_headed(frame, adu), {}))
    return frames, rejected + _rest(reader), discarded + reader.discarded


def _headed(frame: Frame, adu: TcpAdu) -> Frame:
    return replace(frame, transaction=adu.transaction, protocol=PROTOCOL, length=adu.length)


def _rest(reader: Reader) -> int:
    """Discard what is left; return 1 if it was, or began, a frame that is refused."""
    return int(bool(reader.flush()) or reader.broken)


def _no_request(request: bytes) -> UsageError:
    return UsageError(
        f"{request.hex()} is not one whole Modbus request",
        hint="give the request as it was sent, with its checksum or header",
    )
