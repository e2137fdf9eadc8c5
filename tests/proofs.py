"""Long proofs are remembered by the git trees that they proved, and run again when those differ.

`python -m tests.proofs record NAME` after a proof passed; `stale NAME` exits 0 when it must run.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "image-test": ["events", "protocols", "image", "tests/image", "requirements"],
    "soak": [
        "events",
        "protocols",
        "buffer",
        "sync",
        "gateway",
        "station",
        "hil",
        "tests/end_to_end",
        "requirements",
    ],
}


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


def main(verb: str, name: str) -> int:
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
