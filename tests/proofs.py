"""Long proofs are remembered by the git trees that they proved, and run again when those differ.

`python -m tests.proofs record NAME` after a proof passed; `stale NAME` exits 0 when it must run;
`soak PART` runs a part of the soak and records `soak-PART`.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRODUCT = ["events", "protocols", "buffer", "sync", "gateway", "station"]
RIGS = ["hil", "tests/end_to_end", "requirements"]
FOLDERS = {
    "image-test": ["events", "protocols", "image", "tests/image", "requirements"],
    "soak-cuts": ["events", "buffer", "sync", "station", "tests/buffer", "tests/station", *RIGS],
    "soak-kills": [*PRODUCT, *RIGS],
    "soak-network": [*PRODUCT, *RIGS],
    "soak-starts": [*PRODUCT, *RIGS],
    "soak-chaos": [*PRODUCT, *RIGS],
    "soak-rest": [*PRODUCT, "hil", "tests/gateway", "tests/station", "requirements"],
}

END_TO_END = "tests/end_to_end"
SOAKS = {
    "cuts": [f"{END_TO_END}/test_power_cuts.py"],
    "kills": [f"{END_TO_END}/test_kills.py"],
    "network": [f"{END_TO_END}/test_network_faults.py"],
    "starts": [f"{END_TO_END}/test_starts_and_stops.py"],
    "chaos": [f"{END_TO_END}/test_chaos.py"],
    "rest": ["tests", f"--ignore={END_TO_END}"],
}
"""The parts of `make soak`: what pytest is told to run."""

PART_WITHIN_S = 1200.0


def trees(name: str) -> dict[str, str]:
    """Return the git tree id of each folder as it stands in the index, by folder."""
    result = {}
    for folder in FOLDERS[name]:
        listing = subprocess.run(
            ["git", "ls-files", "--stage", "--", folder],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        result[folder] = subprocess.run(
            ["git", "hash-object", "--stdin"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
            input=listing,
        ).stdout.strip()
    return result


def _changed(name: str) -> bool:
    """Tell whether what was tested differs from what the index holds."""
    listing = subprocess.run(
        ["git", "status", "--porcelain", "--", *FOLDERS[name]],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return any(line[1] != " " for line in listing.splitlines())


def soak(part: str) -> int:
    """Run one part of the soak, print its seconds, and remember it if it passed."""
    begin_s = time.monotonic()
    # Two at once, since most of each is waiting; what the rigs print is shown at the end.
    how = ["-m", "soak", "-n", "2", "--dist", "loadgroup", "-rP", "-o", "faulthandler_timeout=0"]
    command = [sys.executable, "-m", "pytest", *how, *SOAKS[part]]
    status = subprocess.run(command, cwd=ROOT, check=False, timeout=PART_WITHIN_S).returncode
    print(f"== soak, {part}: {time.monotonic() - begin_s:.0f} s", flush=True)
    if status == 0:
        main("record", f"soak-{part}")  # what is not committed is not remembered
    return status


def main(verb: str, name: str) -> int:
    if verb == "soak":
        return soak(name)
    path = ROOT / "tests" / "proofs" / f"{name}.json"
    if verb == "record":
        if _changed(name):
            print(f"{name}: its folders have changes that git does not hold; commit, then prove")
            return 1
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(trees(name), indent=1) + "\n")
        print(f"{name}: recorded for the staged trees of {', '.join(FOLDERS[name])}")
        return 0
    if not path.exists() or json.loads(path.read_text()) != trees(name):
        print(f"{name}: its folders changed since it last passed")
        return 0
    print(f"{name}: proved for these folders; not run again")
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
