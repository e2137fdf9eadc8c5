"""Calendar arithmetic: the one place where microseconds become dates."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def rfc3339(wall_us: int) -> str:
    """Return POSIX microseconds as RFC 3339 UTC text with milliseconds (`2026-11-24T08:00:00.000Z`).

    Times outside the years 1 to 9999 are clamped: a wrong clock must not break a list.
    """
    try:
        moment = _EPOCH + timedelta(microseconds=wall_us)
    except OverflowError:
        moment = (
            datetime.max.replace(tzinfo=UTC) if wall_us > 0 else datetime.min.replace(tzinfo=UTC)
        )
    return (
        moment.strftime("%Y-%m-%dT%H:%M:%S.").rjust(20, "0") + f"{moment.microsecond // 1000:03d}Z"
    )


def month_of(wall_us: int) -> str:
    """Return the month of a moment in UTC, such as `2026-11`."""
    return rfc3339(wall_us)[:7]


def month_bounds(month: str) -> tuple[int, int]:
    """Return the first moment of a month (`2026-11`, UTC) and that of the next, in microseconds.

    Raises `ValueError` for a text that names no month.
    """
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    following = (first + timedelta(days=31)).replace(day=1)
    return ((first - _EPOCH) // _MICROSECOND, (following - _EPOCH) // _MICROSECOND)


def parse_rfc3339(text: str) -> int:
    """Return the POSIX microseconds of RFC 3339 text. Raises `ValueError` where there are none."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"no offset in {text!r}")
    return (moment - _EPOCH) // timedelta(microseconds=1)
