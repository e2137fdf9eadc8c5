"""Names of points: `[a-z0-9-]+(/[a-z0-9-]+)*`, stable for ever; labels are something else."""

import re

POINT_PATTERN = r"^[a-z0-9-]+(/[a-z0-9-]+)*$"
NAME_PATTERN = r"^[a-z0-9-]+$"
POINT_LENGTH_MAX = 200

_POINT = re.compile(POINT_PATTERN)
_UNFIT = re.compile(r"[^a-z0-9-]+")


def is_point(text: str) -> bool:
    return len(text) <= POINT_LENGTH_MAX and _POINT.fullmatch(text) is not None


def segment(text: str) -> str:
    """Return `text` as one segment of a point id: lower case, anything unfit folded to `-`.

    Used for sources that nobody configured, such as an account heard by a receiver.
    """
    return _UNFIT.sub("-", text.lower()).strip("-") or "unknown"
