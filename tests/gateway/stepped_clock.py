"""Run the gateway with a wall clock that the test sets while it runs: seconds ahead, in a file.

Only the wall clock is moved, as `date` or a time server moves it; monotonic time goes on. The file
is read with every reading. Where it says `unset` the machine is in 1970.
"""

import os
import time
from pathlib import Path

from gateway.cli import main

_real = time.clock_gettime
_file = Path(os.environ["STEPPED_CLOCK"])
_began = _real(time.CLOCK_REALTIME)


def _stepped(clock: int) -> float:
    now = _real(clock)
    if clock != time.CLOCK_REALTIME:
        return now
    text = _file.read_text().strip()
    return now - _began + 60.0 if text == "unset" else now + float(text)


def run() -> None:
    """Be `nplus-gateway`, with this clock."""
    time.clock_gettime = _stepped
    main()
