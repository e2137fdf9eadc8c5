import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from tests.buffer.logs import MIB
from tests.buffer.stores import panic, pragma, records, store_at


def test_what_was_lost_at_the_end_is_no_last_state_at_the_next_start(tmp_path: Path) -> None:
    """The medium is full, the station away: marks and states could still be written."""

    async def fill() -> None:
        async with store_at(tmp_path, MIB) as store:
            await store.record([panic(0, point="hall/filler")])
            await pragma(store, "max_page_count = 1")  # no page more than there are
            with suppress(TimeoutError):
                for number in range(1000):
                    async with asyncio.timeout(1):
                        await store.record([panic(number, point="hall/filler", text="x" * 4000)])
            assert store.status()["state"] == "full"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await store.record([panic(1, source="panels", raw=b"message")])

    asyncio.run(fill())

    async def scenario() -> None:
        async with store_at(tmp_path, MIB) as store:
            assert store.latest("hall/panic", "alarm", "panic") is None
            assert store.last_raw("panels") is None
            assert store.latest("hall/filler", "alarm", "panic") is not None

    asyncio.run(scenario())
    assert 1 not in [r.observation.value for r in records(tmp_path) if r.observation.raw]
