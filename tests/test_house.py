"""The house keeps its own rules: names, floors, documents, and what the tree must not say."""

import ast
import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from events.kinds import Kind, Qualifier, Subkind

ROOT = Path(__file__).parent.parent
PACKAGES = ("events", "protocols", "buffer", "sync", "gateway", "station", "hil")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Shells by name: the only modules of these packages that may touch clocks, ports and sockets.
SHELLS = {
    "protocols": ("protocols.drivers",),
    "sync": ("sync.zmq_", "sync.local_socket", "sync.service_", "sync.keys"),
    "events": (),
}


def modules(package: str) -> list[str]:
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / package).rglob("*.py")
    )


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("package", PACKAGES)
def test_nobody_else_installs_a_package_of_our_name(package: str) -> None:
    owners = importlib.metadata.packages_distributions().get(package, ["nplus-gateway"])
    assert set(owners) == {"nplus-gateway"}


@pytest.mark.parametrize("package", sorted(SHELLS))
def test_every_engine_stands_under_the_sans_io_contract(package: str) -> None:
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    listed = next(c for c in contracts if c["id"] == "sans-io")["source_modules"]
    missing = [
        module
        for module in modules(package)
        if module != package
        and not module.startswith(SHELLS[package])
        and not any(module == name or module.startswith(name + ".") for name in listed)
    ]
    assert missing == []


def test_of_pymodbus_the_engine_takes_messages_and_framers_alone() -> None:
    found = {
        node.module
        for path in (ROOT / "protocols" / "modbus").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pymodbus")
    }
    assert found
    assert {
        name for name in found if not name.startswith(("pymodbus.pdu", "pymodbus.framer"))
    } == set()


def test_every_word_is_in_the_manual_and_no_other() -> None:
    text = (ROOT / "docs" / "events.md").read_text()
    kinds = re.findall(r"^\| `([a-z-]+)` \|", text.split("## Qualifiers")[0], re.MULTILINE)
    assert sorted(kinds) == sorted(Kind)
    subkinds = text.split("## Subkinds")[1].split("## Fields")[0]
    assert sorted(re.findall(r"`([a-z-]+)`", subkinds)) == sorted(Subkind)
    assert all(f"`{qualifier}`" in text for qualifier in Qualifier)


@pytest.mark.parametrize("path", tracked("*.md"), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_in_a_document_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (path.parent / target).exists(), target


def test_locks_are_hashed_and_name_no_index() -> None:
    for path in tracked("requirements/*.txt"):
        text = path.read_text()
        assert "://" not in text, path
        if "==" in text:
            pins = re.findall(
                r"^[a-z0-9][^\n]*==[^\n]*\\\n(?=\s+--hash=sha256:)", text, re.MULTILINE
            )
            assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)), path


def test_the_tree_speaks_of_the_product_alone() -> None:
    words = re.compile(
        r"/" + r"work/|\.\./" + r"shared|/root" + r"/|files\.pythonhosted|registry\.npmjs"
    )
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in tracked()
        if path.suffix not in {".png", ".bin"}
        for match in [words.search(path.read_text(errors="replace"))]
        if match
    ]
    assert found == []


def test_every_test_folder_is_a_package() -> None:
    """Without it, `tests/buffer` would shadow `buffer`."""
    folders = {path.parent for path in tracked("tests/**/*.py", "tests/*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_modules_stay_small() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for package in (*PACKAGES, "image")
        for path in tracked(f"{package}/*.py", f"{package}/**/*.py")
    }
    assert {name: size for name, size in sizes.items() if size > 400} == {}
