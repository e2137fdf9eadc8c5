"""Tell the service manager how this program is doing (sd_notify(3)).

One datagram of `NAME=value` lines to the socket named in `NOTIFY_SOCKET`. Without that variable
nobody is listening and nothing happens.
"""

import os
import socket


def notify(text: str) -> None:
    """Send state lines to the service manager: `READY=1`, `STATUS=…`, `WATCHDOG=1`, `STOPPING=1`.

    Never blocks and never raises: a manager that does not listen must not stop an alarm.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger:
        messenger.setblocking(False)
        try:
            messenger.sendto(text.encode(), address)
        except OSError:
            return  # full or gone: the manager judges by the silence, which is what it is for


def watchdog_period_s() -> float | None:
    """Return how often to send `WATCHDOG=1`: half of the manager's limit, or None if it has none.

    A limit that was meant for another process (`WATCHDOG_PID`) is not ours.
    """
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    meant_for = os.environ.get("WATCHDOG_PID", "")
    if not limit_us.isdecimal() or int(limit_us) == 0:
        return None
    if meant_for and meant_for != str(os.getpid()):
        return None
    return int(limit_us) / 2_000_000
