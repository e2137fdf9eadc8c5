"""Printing the ledger, and going on as it grows."""

import os
import select
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from events.errors import StoreError, UnavailableError
from station.listing import Listing

POLL_S = 0.01  # between a commit and its line
REOPEN_S = 0.5

Show = Callable[[dict[str, Any]], None]


class ReaderGone(Exception):  # noqa: N818 - not an error: whoever read our lines has had enough
    """Nobody reads the standard output any more."""


def print_events(
    directory: Path,
    show: Show,
    *,
    after: int | None,
    gateway: str | None,
    limit: int | None,
    follow: bool,
) -> None:
    """Show the events after `after`, or the newest `limit`, then those that come if `follow`.

    Raises `UnavailableError` and `StoreError` before the first event only: a ledger that cannot
    be read for a while is waited for, since the station may be starting again. Raises
    `ReaderGone` when nobody reads the lines.
    """
    listing = Listing(directory)
    n = listing.last() if follow and after is None else 0
    try:
        for event in _first(listing, after, gateway, limit):
            _say(show, event)
            n = max(n, event["n"])
    finally:
        listing.close()
    if follow:
        n = max(n, after or 0)
        for event in _coming(directory, n, gateway):
            _say(show, event)


def _first(
    listing: Listing, after: int | None, gateway: str | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    if after is None and limit is not None:
        return listing.newest(gateway, limit)
    return listing.after(after or 0, gateway, limit)


def _coming(directory: Path, n: int, gateway: str | None) -> Iterator[dict[str, Any]]:
    """Yield events above `n` as they are committed, for ever."""
    while True:
        try:
            listing = Listing(directory)
        except (StoreError, UnavailableError):
            _pause(REOPEN_S)
            continue
        try:
            for event in _coming_from(listing, n, gateway):
                n = event["n"]
                yield event
        except StoreError:
            _pause(REOPEN_S)
        finally:
            listing.close()


def _coming_from(listing: Listing, n: int, gateway: str | None) -> Iterator[dict[str, Any]]:
    seen = -1
    while True:
        version = listing.version()  # before the rows: what comes between is seen next time
        if version != seen:
            last = listing.last()
            for event in listing.after(n, gateway, None):
                n = event["n"]
                yield event
            n, seen = max(n, last), version  # other gateways' events are not looked at again
        if listing.still:
            _pause(REOPEN_S)
            return
        _pause(POLL_S)


def _say(show: Show, event: dict[str, Any]) -> None:
    try:
        show(event)
    except BrokenPipeError as error:
        raise ReaderGone from error


def _pause(seconds: float) -> None:
    """Wait, and notice meanwhile if nobody reads our lines any more."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):
        raise ReaderGone from None
    watch = select.poll()
    watch.register(output, 0)
    for _, happened in watch.poll(seconds * 1000):
        if happened & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            raise ReaderGone


def leave_quietly() -> None:
    """Keep Python from writing what nobody reads while it shuts down."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
