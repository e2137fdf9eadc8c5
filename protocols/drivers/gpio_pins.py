"""What this product's own gpiozero pin factories have in common.

gpiozero's devices work on top as on its own factories. Beside that a pin hands every edge with
its time, and with the number of edges lost before it, to a `listener`; nothing here uses threads.
"""

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any
from weakref import WeakMethod, ref

from gpiozero.exc import (
    PinFixedPull,
    PinInvalidEdges,
    PinInvalidFunction,
    PinInvalidPull,
    PinInvalidState,
    PinSetInput,
)
from gpiozero.pins import BoardInfo, Factory, HeaderInfo, Pin, PinInfo

from events.errors import LinkLost

WhenChanged = Callable[[float, bool], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A change of a line: the level it led to, when (monotonic), and the edges missed before it."""

    level: bool
    at_us: int
    lost: int = 0


class LinePin(Pin):  # type: ignore[misc]  # gpiozero carries no types
    """A line as input or output. It is taken from the system at its first use, not before."""

    def __init__(self, factory: "LineFactory", info: Any) -> None:
        super().__init__()
        self._factory = factory
        self._info = info
        self._function = "input"
        self._pull = "floating"
        self._edges = "both"
        self._held = False
        self._when_changed: Callable[[], WhenChanged | None] | None = None
        self.listener: Callable[[Edge], None] | None = None

    def __repr__(self) -> str:
        return str(self._info.name)

    @abstractmethod
    def take_input(self, pull: str) -> None:
        """Take the line as an input with a pull (`up`, `down`, `floating`), watching edges."""

    @abstractmethod
    def take_output(self, level: bool | None) -> None:
        """Take the line as an output; None keeps the level it has."""

    @abstractmethod
    def read(self) -> bool: ...

    @abstractmethod
    def write(self, level: bool) -> None: ...

    @abstractmethod
    def give_back(self) -> None:
        """Give the line back to the system, as an input."""

    def deliver(self, edge: Edge) -> None:
        """Hand an edge to the listener and to the gpiozero device."""
        if self.listener is not None:
            self.listener(edge)
        direction = "rising" if edge.level else "falling"
        if self._edges in ("both", direction):
            changed = self._get_when_changed()
            if changed is not None:
                changed(edge.at_us / 1e6, edge.level)

    def close(self) -> None:
        self.listener = None
        self._when_changed = None
        self._release()
        self._function = "input"
        self._pull = "floating"
        self._factory.forget(self)

    def output_with_state(self, state: float) -> None:
        self._become_output(bool(state))

    def input_with_pull(self, pull: str) -> None:
        self._set_function("input")
        self._set_pull(pull)
        self._hold_input()

    def _become_output(self, level: bool | None) -> None:
        if self._function != "output":
            if level is not None:
                self._release()
            self.take_output(level)
            self._held = True
            self._function = "output"
        elif level is not None:
            self.write(level)

    def _hold_input(self) -> None:
        if not self._held:
            self.take_input(self._pull)
            self._held = True

    def _release(self) -> None:
        if self._held:
            self._held = False
            self.give_back()

    def _get_info(self) -> Any:
        return self._info

    def _get_function(self) -> str:
        return self._function

    def _set_function(self, value: str) -> None:
        if value not in ("input", "output"):
            raise PinInvalidFunction(f"{value!r} is not a function of {self!r}")
        if value == "output":
            self._become_output(None)
        elif self._function == "output":
            self._release()
            self._function = "input"

    def _get_state(self) -> int:
        if self._function == "input":
            self._hold_input()
        return int(self.read())

    def _set_state(self, value: float) -> None:
        if self._function != "output":
            raise PinSetInput(f"{self!r} is an input")
        if value not in (0, 1):
            raise PinInvalidState(f"{self!r} is high or low, not {value}")
        self.write(bool(value))

    def _get_pull(self) -> str:
        return self._pull

    def _set_pull(self, value: str) -> None:
        if value not in ("up", "down", "floating"):
            raise PinInvalidPull(f"{value!r} is not a pull")
        if self._function == "output":
            raise PinFixedPull(f"{self!r} is an output")
        if value != self._pull or not self._held:
            self._release()
            self._pull = value
            self._hold_input()

    def _get_edges(self) -> str:
        return self._edges

    def _set_edges(self, value: str) -> None:
        if value not in ("none", "rising", "falling", "both"):
            raise PinInvalidEdges(f"{value!r} names no edges")
        self._edges = value

    def _get_when_changed(self) -> WhenChanged | None:
        return None if self._when_changed is None else self._when_changed()

    def _set_when_changed(self, value: WhenChanged | None) -> None:
        # weak, as in gpiozero's own pins: a device must not be kept alive by its pin
        if value is None:
            self._when_changed = None
        elif isinstance(value, MethodType):
            self._when_changed = WeakMethod(value)
        else:
            self._when_changed = ref(value)
        if value is not None and self._function == "input":
            self._hold_input()


class LineBoard(BoardInfo):  # type: ignore[misc]  # gpiozero carries no types
    """A board whose pins are whatever its factory can find."""

    def find_pin(self, name: str | int) -> Any:
        """Yield header and pin information for a name, as gpiozero wants it."""
        yield from self.finder(name)


class LineFactory(Factory):  # type: ignore[misc]  # gpiozero carries no types
    """Base of the factories.

    lost: set when the way to all pins is gone.
    on_lost: called then, on the loop.
    """

    def __init__(self, *, model: str) -> None:
        super().__init__()
        self.lost: LinkLost | None = None
        self.on_lost: Callable[[], None] | None = None
        self._pins: dict[str, LinePin] = {}
        self._board = LineBoard(
            revision="0000",
            model=model,
            pcb_revision="",
            released="",
            soc="",
            manufacturer="",
            memory=0,
            storage="",
            usb=0,
            usb3=0,
            ethernet=0,
            eth_speed=0,
            wifi=False,
            bluetooth=False,
            csi=0,
            dsi=0,
            headers={},
            board="",
        )
        self._board.finder = self._find

    @abstractmethod
    def resolve(self, name: str | int) -> Any:
        """Return the `PinInfo` of a line. Raises `LineFault`."""

    @abstractmethod
    def make_pin(self, info: Any) -> LinePin:
        """Return a new pin for a resolved line."""

    @abstractmethod
    def drain(self) -> None:
        """Deliver every edge that has happened until now."""

    def pin(self, name: str | int) -> LinePin:
        info = self.resolve(name)
        if info.name not in self._pins:
            self._pins[info.name] = self.make_pin(info)
        return self._pins[info.name]

    def forget(self, pin: LinePin) -> None:
        """Drop a pin that was closed."""
        self._pins.pop(pin.info.name, None)

    def close(self) -> None:
        for pin in list(self._pins.values()):
            pin.close()

    def ticks(self) -> float:
        return time.monotonic()

    def ticks_diff(self, later: float, earlier: float) -> float:
        return later - earlier

    def _find(self, name: str | int) -> Any:
        info = self.resolve(name)
        yield HeaderInfo(name="LINES", rows=1, columns=1, pins={info.number: info}), info

    def _get_board_info(self) -> LineBoard:
        return self._board


def pin_info(*, number: int, name: str) -> Any:
    """Return gpiozero's record of a pin, for a line of any chip."""
    return PinInfo(
        number=number,
        name=name,
        names=frozenset({name}),
        pull="",
        row=number + 1,
        col=1,
        interfaces=frozenset({"gpio"}),
    )
