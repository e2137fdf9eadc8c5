"""Builds kernel and initial file system of the GPIO guest.

Packages come from wherever this machine's apt gets its own, for another architecture and into a
private folder; Python's wheels from wherever pip gets its own, checked against the hashes of
requirements/gateway.txt. What was fetched is kept in `.cache/image`.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from image.gpio_guest.cpio import Archive

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "image" / "gpio_guest"
ARCHITECTURE = "arm64"
KERNEL = f"linux-image-{ARCHITECTURE}"
USERLAND = ("python3-minimal", "libpython3-stdlib")
WHEELS = ("colorzero", "gpiod", "gpiozero", "msgspec")
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
SOURCES = ("events", "protocols")
KERNEL_OPTIONS = ("CONFIG_GPIO_PL061=y", "CONFIG_GPIO_CDEV=y", "CONFIG_SERIAL_AMBA_PL011=y")
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")
FETCH_WITHIN_S = 480

_FORM = "1"  # raise it when what is built from the same packages changes


class BuildError(Exception):
    """The guest cannot be built on this machine; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """Files that a machine starts from."""

    kernel: Path
    initial: Path


def build(cache: Path = CACHE) -> Guest:
    """Build what is missing or out of date, and return it. Raises `BuildError`."""
    pins = _pins()
    stamp = hashlib.sha256(f"{_FORM}\n{pins}".encode()).hexdigest()
    base, kernel, built = cache / "base.cpio", cache / "kernel", cache / "stamp"
    if not (built.exists() and built.read_text() == stamp and base.exists() and kernel.exists()):
        cache.mkdir(parents=True, exist_ok=True)
        built.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            _build_base(Path(scratch), pins, base=base, kernel=kernel)
        built.write_text(stamp)
    initial = cache / "initial.cpio"
    with initial.open("wb") as target:
        target.write(base.read_bytes())
        with Archive(target) as archive:
            _add_program(archive)
    return Guest(kernel=kernel, initial=initial)


def _build_base(scratch: Path, pins: str, *, base: Path, kernel: Path) -> None:
    apt = _Apt(scratch / "apt")
    apt.update()
    _unpack_kernel(apt.kernel(), kernel)
    tree = scratch / "tree"
    for package in apt.userland():
        _run("dpkg-deb", "-x", str(package), str(tree))
    for unused in UNUSED:
        shutil.rmtree(tree / unused, ignore_errors=True)
    if not (tree / "lib").exists():  # from Debian 13 on, packages know only /usr/lib
        (tree / "lib").symlink_to("usr/lib")
    _unpack_wheels(scratch / "wheels", pins, _python(tree), tree / "app")
    with base.open("wb") as target, Archive(target) as archive:
        for folder in ("dev", "proc", "sys", "tmp"):
            archive.directory(folder)
        archive.character_device("dev/console", 5, 1)
        archive.tree(tree)


def _add_program(archive: Archive) -> None:
    """Add the product's own source, the trials, and the program that starts them."""
    sources = [path for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))]
    for path in (*sources, Path(__file__).with_name("trials.py")):
        name = path.relative_to(ROOT)
        for parent in reversed(name.parents[:-1]):
            archive.directory(f"app/{parent}")
        archive.file(f"app/{name}", path.read_bytes())
    program = Path(__file__).with_name("init.py").read_bytes()
    archive.file("init", b"#!/usr/bin/python3\n" + program, executable=True)


def _python(tree: Path) -> str:
    """Return the version of the guest's Python, as pip wants it."""
    versions = sorted(path.name for path in (tree / "usr/bin").glob("python3.*[0-9]"))
    if len(versions) != 1:
        raise BuildError(f"the packages of {ARCHITECTURE} hold {versions or 'no'} Python")
    return versions[0].removeprefix("python")


def _pins() -> str:
    """Return the locked versions and hashes of the wheels that the guest needs."""
    text = (ROOT / "requirements" / "gateway.txt").read_text()
    blocks = re.split(r"\n(?=\S)", text)
    wanted = [block for block in blocks if block.split("==")[0] in WHEELS]
    if len(wanted) != len(WHEELS):
        raise BuildError("requirements/gateway.txt does not lock all of " + ", ".join(WHEELS))
    return "\n".join(wanted) + "\n"


def _unpack_kernel(package: Path, kernel: Path) -> None:
    """Take the kernel out of its package, after a look at its configuration."""
    found: dict[str, bytes] = {}
    unpacked = subprocess.Popen(  # noqa: S603 - fixed arguments
        ["dpkg-deb", "--fsys-tarfile", str(package)],  # noqa: S607 - whichever dpkg is installed
        stdout=subprocess.PIPE,
    )
    with unpacked, tarfile.open(fileobj=unpacked.stdout, mode="r|") as archive:
        for member in archive:
            name = Path(member.name).name.partition("-")[0]
            if name in ("vmlinuz", "config") and member.isfile():
                content = archive.extractfile(member)
                found[name] = b"" if content is None else content.read()
    if "vmlinuz" not in found or "config" not in found:
        raise BuildError(f"{package.name} holds no kernel")
    options = found["config"].decode().splitlines()
    missing = [option for option in KERNEL_OPTIONS if option not in options]
    if missing:
        raise BuildError(f"{package.name} was built without {', '.join(missing)}")
    kernel.write_bytes(found["vmlinuz"])


def _unpack_wheels(folder: Path, pins: str, python: str, target: Path) -> None:
    folder.mkdir()
    locked = folder / "requirements.txt"
    locked.write_text(pins)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", python),
        *platforms,
        *("--dest", str(folder), "--requirement", str(locked)),
    )
    for wheel in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)  # noqa: S202 - pip has checked its hash


class _Apt:
    """The apt of this machine, sources and keys and all, with a state and architecture of its own."""

    def __init__(self, folder: Path) -> None:
        self._downloads = folder / "cache" / "archives"
        for path in (folder / "lists" / "partial", self._downloads / "partial"):
            path.mkdir(parents=True)
        (folder / "status").touch()
        configuration = folder / "apt.conf"
        configuration.write_text(
            f'APT::Architecture "{ARCHITECTURE}";\n'
            f'APT::Architectures {{ "{ARCHITECTURE}"; }};\n'
            'APT::Sandbox::User "";\n'  # the folder is the builder's own
            'Debug::NoLocking "true";\n'
            'Acquire::Languages "none";\n'
            'Acquire::Retries "3";\n'
            f'Dir::State "{folder}";\n'
            f'Dir::State::status "{folder}/status";\n'
            f'Dir::Cache "{folder}/cache";\n'
        )
        self._environment = {"APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8"}

    def update(self) -> None:
        # a source of this machine that has nothing for the guest may fail; what counts comes next
        self._apt("apt-get", "update", must=False)

    def kernel(self) -> Path:
        """Download the kernel that the metapackage stands for."""
        described = self._apt("apt-cache", "show", "--no-all-versions", KERNEL)
        depends = re.search(r"^Depends: (linux-image-[^ ,]+)", described, re.MULTILINE)
        if depends is None:
            raise BuildError(f"apt knows no kernel {KERNEL}; the sources of Debian have one")
        self._apt("apt-get", "download", depends[1], folder=self._downloads)
        return next(self._downloads.glob(f"{depends[1]}_*.deb"))

    def userland(self) -> list[Path]:
        """Download Python and all it needs."""
        before = set(self._downloads.glob("*.deb"))
        arguments = ("install", "--yes", "--download-only", "--no-install-recommends")
        self._apt("apt-get", *arguments, *USERLAND)
        return sorted(set(self._downloads.glob("*.deb")) - before)

    def _apt(self, *command: str, must: bool = True, folder: Path | None = None) -> str:
        return _run(*command, must=must, folder=folder, environment=self._environment)


def _run(
    *command: str,
    must: bool = True,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a program to its end and return what it printed. Raises `BuildError`."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands of this module
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=FETCH_WITHIN_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is not installed; see image/README.md") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} took longer than {FETCH_WITHIN_S} s") from error
    if must and done.returncode:
        tail = "\n".join((done.stderr or done.stdout).splitlines()[-12:])
        raise BuildError(f"{' '.join(command[:3])} failed ({done.returncode}):\n{tail}")
    return done.stdout
