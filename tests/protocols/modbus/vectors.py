"""The recorded frames, and how a decoder's answer is held against them."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "vectors/modbus"


def load(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def request_of(vector: dict[str, Any]) -> bytes | None:
    return bytes.fromhex(vector["request"]) if "request" in vector else None
