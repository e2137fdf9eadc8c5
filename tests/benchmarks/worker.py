"""One part in a process of its own: `python -m tests.benchmarks.worker PART SCRATCH [quick]`.

Writes what it measured as one JSON object on the last line. Whatever it started dies with it.
"""

import sys
from pathlib import Path

import msgspec

from tests.benchmarks.parts import PARTS, Setting


def main(name: str, scratch: str, *words: str) -> None:
    results = PARTS[name].run(Setting(scratch=Path(scratch), quick="quick" in words))
    print(msgspec.json.encode(results).decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
