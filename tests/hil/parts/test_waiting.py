import asyncio

import pytest

from hil.parts.waiting import Overdue, until


def test_waiting_ends_with_the_condition() -> None:
    looks = iter([False, False, True])
    asyncio.run(until(lambda: next(looks), within_s=5, what="the third look"))
    assert list(looks) == []


def test_waiting_in_vain_says_for_what() -> None:
    with pytest.raises(Overdue, match="the bus"):
        asyncio.run(until(lambda: False, within_s=0.02, what="the bus"))
