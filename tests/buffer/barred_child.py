"""A store whose file or folder it may not use: run by the test without the rights of root."""

import asyncio
import json
import sys
import time
from pathlib import Path

from tests.buffer.stores import file, panic, store_at, until

MODES = {"file-unreadable": 0o000, "file-read-only": 0o444, "folder-read-only": 0o555}


async def main(folder: Path, how: str) -> None:
    async with store_at(folder) as store:
        await store.record([panic(1)])
        log_id = store.heads()[0].log_id
    barred = folder if how.startswith("folder") else file(folder)
    usual = barred.stat().st_mode
    barred.chmod(MODES[how])
    async with store_at(folder) as store:
        began = time.monotonic()
        waiting = asyncio.ensure_future(store.record([panic(2)]))
        await until(lambda: store.status()["state"] != "ok")
        told = store.status()
        told_s = time.monotonic() - began
        barred.chmod(usual)
        await until(lambda: store.status()["state"] == "ok")
        await waiting
        again = store.heads()[0].log_id
    print(
        json.dumps(
            {
                "told_s": told_s,
                "text": told["text"],
                "hint": told["hint"],
                "same_log": log_id == again,
            }
        )
    )


asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
