"""Where other people's programs come from: Debian's, and Python packages in environments of ours.

The environments lie in a cache folder outside the tree, made once. What cannot be had is named
with what to install; it is never silently missing.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hil.parts.programs import leashed
from tests.benchmarks.figures import Beside

ENVIRONMENTS = {
    "clients": ("paho-mqtt==2.2.0", "nats-py==2.16.0"),
    "thingsboard": ("thingsboard-gateway==3.8.5",),
}
SERVERS = {"mosquitto": "mosquitto", "nats-server": "nats-server"}  # program: Debian package
FOLDER = Path(__file__).parent
INSTALL_WITHIN_S = 240
_PLACES = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


class MissingPeer(Exception):  # noqa: N818 - it says what to install
    """A peer that is not here and could not be installed."""


def program(name: str) -> str:
    """Return the path of a program. Raises `MissingPeer` with the package that brings it."""
    found = shutil.which(name, path=_PLACES)
    if found is None:
        raise MissingPeer(f"not installed; install: apt-get install {SERVERS.get(name, name)}")
    return found


def python(name: str) -> str:
    """Return the Python of an environment, made and filled at its first use."""
    home = _cache() / name
    wanted = ENVIRONMENTS[name]
    marker, own = home / "ready", home / "bin" / "python"
    if marker.is_file() and marker.read_text() == "\n".join(wanted):
        return str(own)
    shutil.rmtree(home, ignore_errors=True)
    try:
        for command in (
            [sys.executable, "-m", "venv", str(home)],
            [str(own), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *wanted],
        ):
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=INSTALL_WITHIN_S
            )
    except (subprocess.SubprocessError, OSError) as error:
        words = " ".join(wanted)
        raise MissingPeer(f"not installed; install: {own} -m pip install {words}") from error
    marker.write_text("\n".join(wanted))
    return str(own)


def run(script: str, environment: str, arguments: Sequence[str], within_s: float) -> Any:
    """Run a script of this folder in an environment; return the JSON object that it prints."""
    command = [python(environment), "-P", str(FOLDER / script), *arguments]
    with subprocess.Popen(
        leashed(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, error = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{script} took longer than {within_s:.0f} s") from None
        finally:
            _end_group(process.pid)
    if process.returncode:
        raise RuntimeError(f"{script} failed: {error.strip().splitlines()[-1:]}")
    return json.loads(out.splitlines()[-1])


def beside(name: str, unit: str, measure: Callable[[], Sequence[float]]) -> Beside:
    """Measure a peer; what is missing or failed is said in its place, and ends nothing else."""
    try:
        return Beside(name=name, unit=unit, values=tuple(measure()))
    except MissingPeer as error:
        return Beside(name=name, missing=str(error))
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        return Beside(name=name, failed=f"{type(error).__name__}: {error}")


def versions() -> dict[str, str]:
    """Return the versions of the peers that are here."""
    result = {}
    for name, flag in (("mosquitto", "-h"), ("nats-server", "--version")):
        found = shutil.which(name, path=_PLACES)
        if found is None:
            continue
        told = subprocess.run([found, flag], check=False, capture_output=True, text=True)
        first = (told.stdout or told.stderr).splitlines()[:1]
        result[name] = first[0].rpartition(" ")[2].strip() if first else "?"
    for name, packages in ENVIRONMENTS.items():
        if (_cache() / name / "ready").is_file():
            result |= dict(package.split("==") for package in packages)
    return result


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "nplus-gateway-bench"


def _end_group(group: int) -> None:
    """Kill whatever the script left behind."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
