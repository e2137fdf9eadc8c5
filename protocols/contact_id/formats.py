"""What serial receivers send to a computer: one row per format, and one splitter for all.

There is no length, no number and no checksum on this line. What vouches for a message is its
terminator, the fixed form of its text and, where the port has it, parity. The forms are those of
the Sur-Gard MLR2, MLR2000 and System III manuals (Radionics 6500 is one of their emulations), and
for the Ademco 685 those of the MX8000 and VisorAlarm manuals.
"""

import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from events.model import RAW_LENGTH_MAX

FRAME_LENGTH_MAX = RAW_LENGTH_MAX  # the longest form has 25 characters, texts some more
ACK = b"\x06"
_FILLER = b"\x00\r\n \x06\x15"  # between frames, these are no sign of a fault
_DC4 = 0x14
_CR = 0x0D

_SYNTAX = {
    "message_type": "18|98",
    "account": "[0-9A-F]{4}",
    "qualifier": "[ERP]",
    "event": "[0-9B-F]{3}",
    "group": "[0-9B-F]{2}",
    "zone_or_user": "[0-9B-F]{3}",
    "address_kind": "[CU]",
}
_LOOKS_LIKE_EVENT = re.compile(rb"(18|98)[0-9A-F]{4}[A-Z][0-9A-F]{3}")


class FrameKind(Enum):
    EVENT = "event"  # a Contact ID message
    HEARTBEAT = "heartbeat"  # the receiver asks whether the computer is there
    OTHER = "other"  # of a form that such receivers have, but not Contact ID: kept as it came
    UNREADABLE = "unreadable"  # terminated, but of no form that we know
    NOISE = "noise"  # bytes before a frame that belong to none


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the splitter found.

    raw: the bytes as they came, terminator included, parity bits too.
    fields: the characters of each field, by its name in the standard; `type` of an `OTHER` frame.
    text: the frame without its terminator and parity bits.
    parity_stripped: bit 7 was set somewhere and has been taken for parity.
    """

    kind: FrameKind
    raw: bytes
    text: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    parity_stripped: bool = False


class Format:
    """One receiver-to-computer format, from the forms of its frames.

    tag: as in the configuration; name: as decoders print it.
    event, heartbeat: the forms, with the fields in braces; an empty heartbeat means none.
    others: the forms that are kept as they came, as patterns of a whole line.
    acknowledge, answer: what an event and a heartbeat are answered with.
    """

    def __init__(
        self,
        tag: str,
        name: str,
        *,
        event: str,
        heartbeat: str,
        terminator: int,
        receiver_width: int = 2,
        line_width: int = 1,
        others: tuple[str, ...] = (),
        acknowledge: bytes = ACK,
        answer: bytes = ACK,
    ) -> None:
        self.tag = tag
        self.name = name
        self.terminator = terminator
        self.acknowledge = acknowledge
        self.answer = answer
        self.has_heartbeat = bool(heartbeat)
        self._event_form = event
        self._heartbeat_form = heartbeat
        widths = {"receiver": receiver_width, "line": line_width}
        self._event = _pattern(event, widths)
        self._heartbeat = _pattern(heartbeat, widths) if heartbeat else None
        self._others = tuple(re.compile(other.encode("ascii")) for other in others)

    def event(self, fields: Mapping[str, str]) -> bytes:
        """Return the bytes of an event."""
        return self._event_form.format(**fields).encode("ascii")

    def heartbeat(self, fields: Mapping[str, str]) -> bytes:
        """Return the bytes of a heartbeat."""
        return self._heartbeat_form.format(**fields).encode("ascii")

    def parse(self, text: bytes) -> tuple[int, FrameKind, dict[str, str]]:
        """Return where in a terminated line the frame begins, what it is, and its fields."""
        for kind, pattern in (
            (FrameKind.EVENT, self._event),
            (FrameKind.HEARTBEAT, self._heartbeat),
        ):
            if pattern is not None and (match := pattern.search(text)):
                return match.start(), kind, _fields(match)
        start = len(text) - len(text.lstrip(_FILLER))
        body = text[start:-1]
        for pattern in self._others:
            if (match := pattern.fullmatch(body)) and not _LOOKS_LIKE_EVENT.search(body):
                return start, FrameKind.OTHER, _fields(match)
        return start, FrameKind.UNREADABLE, {}


def _fields(match: re.Match[bytes]) -> dict[str, str]:
    return {name: value.decode("ascii") for name, value in match.groupdict().items()}


def _pattern(form: str, widths: Mapping[str, int]) -> re.Pattern[bytes]:
    """Return the pattern of a form; runs of more than one space may be of any length."""
    parts = []
    for literal, name, _, _ in string.Formatter().parse(form):
        parts.append(re.sub(r"(\\ ){2,}", " +", re.escape(literal)))
        if name:
            syntax = _SYNTAX.get(name) or f"[0-9A-F]{{{widths[name]}}}"
            parts.append(f"(?P<{name}>{syntax})")
    return re.compile("".join(parts).encode("ascii") + rb"\Z")


def _sur_gard_others(line_width: int) -> tuple[str, ...]:
    head = f"(?P<receiver>[0-9A-F]{{2}})(?P<line>[0-9A-F]{{{line_width}}})"
    return (
        f"(?P<type>0){head}[ -~]*",  # the receiver's own status: mains, battery, telephone line
        f"(?P<type>1){head} +[0-9A-F]{{3,6}} +[0-9A-F]{{1,3}} *",  # 3-1, 4-1, 4-2 pulse formats
        f"(?P<type>3){head}[ -~]{{4,}}",  # SIA level 1
        f"(?P<type>S){head}\\[[ -~]+\\]",  # SIA level 2
    )


FORMATS = {
    row.tag: row
    for row in (
        Format(
            "mlr2",
            "sur-gard-mlr2",
            event="5{receiver}{line} {message_type}{account}{qualifier}{event}{group}"
            "{zone_or_user}\x14",
            heartbeat="1{receiver}{line}           @    \x14",
            terminator=_DC4,
            others=_sur_gard_others(1),
        ),
        Format(
            "system3",
            "sur-gard-system3",
            event="5{receiver}{line} {message_type}{account}{qualifier}{event}{group}"
            "{zone_or_user}\x14",
            heartbeat="1{receiver}000           @    \x14",
            terminator=_DC4,
            line_width=3,
            others=_sur_gard_others(3),
        ),
        Format(
            "685",
            "ademco-685",
            event="\n{receiver}{line} {account} {message_type} {qualifier}{event} {group}"
            " {address_kind}{zone_or_user}\r",
            heartbeat="\n{receiver}{line} OKAY @ \r",
            terminator=_CR,
            receiver_width=1,
            answer=b"\r",
        ),
        Format(
            "6500",
            "radionics-6500",
            event=" a{receiver}{line} {account}{message_type}{qualifier}{event}{group}"
            "{zone_or_user}\x14",
            heartbeat="",
            terminator=_DC4,
        ),
    )
}


class Splitter:
    """Cuts what comes over the line into frames. Every split of the bytes says the same.

    Holds `FRAME_LENGTH_MAX` bytes of a line at most; of a longer one its end is judged. A frame
    that follows a broken one without terminator is found: it is the end of the line that counts.
    """

    def __init__(self, form: Format, *, strip_parity: bool) -> None:
        self.rejected = 0
        self.discarded_bytes = 0
        self._form = form
        self._strip_parity = strip_parity
        self._line = bytearray()
        self._dropped = False
        terminator = form.terminator
        self._ends = {terminator, terminator | 0x80} if strip_parity else {terminator}

    @property
    def unterminated(self) -> int:
        """Return how many bytes wait for their terminator."""
        return len(self._line)

    def clear(self) -> None:
        """Forget a half-read line."""
        self.discarded_bytes += len(self._line)
        self._line.clear()
        self._dropped = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes."""
        for byte in data:
            self._line.append(byte)
            if byte in self._ends:
                line, dropped = bytes(self._line), self._dropped
                self._line.clear()
                self._dropped = False
                yield from self._judge(line, dropped=dropped)
            elif len(self._line) >= FRAME_LENGTH_MAX:
                del self._line[0]
                self._dropped = True
                self.discarded_bytes += 1

    def _judge(self, line: bytes, *, dropped: bool) -> Iterator[Frame]:
        text = bytes(byte & 0x7F for byte in line) if self._strip_parity else line
        start, kind, fields = self._form.parse(text)
        raw = line[start:]
        stripped = self._strip_parity and any(byte & 0x80 for byte in raw)
        if stripped and not _parity_agrees(raw):
            kind, fields = FrameKind.UNREADABLE, {}
        before = text[:start].strip(_FILLER)
        if before or dropped:
            self.rejected += 1
            yield Frame(kind=FrameKind.NOISE, raw=line[:start])
        self.discarded_bytes += start
        if kind is FrameKind.UNREADABLE:
            self.discarded_bytes += len(raw)
            if not text[start:-1].strip(_FILLER):
                return  # a terminator alone
            self.rejected += 1
        yield Frame(
            kind=kind,
            raw=raw,
            text=text[start:-1].decode("ascii", errors="replace"),
            fields=fields,
            parity_stripped=stripped,
        )


def _parity_agrees(raw: bytes) -> bool:
    """Tell whether all characters have even parity, or all odd."""
    return len({byte.bit_count() & 1 for byte in raw}) == 1
