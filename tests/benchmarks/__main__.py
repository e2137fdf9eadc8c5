"""`make bench`: measure on this machine and print one table, medians beside goal, floor and peers."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from rich.console import Console

from tests.benchmarks import calling, figures, machine, page
from tests.benchmarks.figures import Measured
from tests.benchmarks.parts import PARTS

ROOT = Path(__file__).parent.parent.parent


def main() -> None:
    options = _options()
    names = list(dict.fromkeys(options.parts)) or list(PARTS)
    if not options.no_install:
        _install()
    clock = calling.Clock()
    results: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="nplus-bench") as scratch:
        for index, name in enumerate(names, 1):
            began = time.monotonic()
            _say(f"{index}/{len(names)} {name} …")
            results |= calling.call(name, PARTS[name], Path(scratch), clock, quick=options.quick)
            _say(f"{index}/{len(names)} {name}: {time.monotonic() - began:.0f} s")
    rows = [row for name in names for row in PARTS[name].rows]
    facts = machine.facts()
    if options.json:
        told = {"machine": facts, "rows": _plain(rows, results)}
        print(json.dumps(told, ensure_ascii=False, indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else 180).print(
            figures.table(rows, results, machine.caption(facts))
        )
    if options.write:
        page.write(figures.markdown(rows, results, page.caption(facts, quick=options.quick)))
    troubles = calling.failures(results)
    for trouble in troubles:
        _say(f"not measured: {trouble}")
    sys.exit(1 if troubles else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench BENCH=…", description="measure the product on this machine"
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="fewer and smaller runs")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--write", action="store_true", help="put the table into the manual too")
    parser.add_argument("--no-install", action="store_true", help="leave the peers as they are")
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"no part is called {', '.join(unknown)}; known: {', '.join(PARTS)}")
    if options.write and options.parts:
        parser.error("--write takes a run of every part: leave the parts out")
    return options


def _plain(rows: list[figures.Row], results: dict[str, Measured]) -> list[dict[str, object]]:
    return [
        {
            **msgspec.to_builtins(row),
            **msgspec.to_builtins(results[row.name]),
            "median": figures.median(results[row.name].values)
            if results[row.name].values
            else None,
            "verdict": figures.verdict(row, results[row.name]),
        }
        for row in rows
    ]


def _install() -> None:
    """Have the peers installed, or be told how; without them the bench goes on."""
    lines = (ROOT / "requirements" / "debian-bench.txt").read_text().splitlines()
    wanted = [line.split("#")[0].strip() for line in lines]
    script = [str(ROOT / ".ci" / "packages"), "wanted", *filter(None, wanted)]
    subprocess.run(script, check=False, stdout=sys.stderr)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
