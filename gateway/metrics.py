"""The status as Prometheus text (exposition format 0.0.4)."""

from collections.abc import Iterator
from typing import Any

PREFIX = "nplus_gateway"

Sample = tuple[str, str, dict[str, str], float]
"""Metric name without prefix, its type, labels, value."""


def exposition(status: dict[str, Any]) -> str:
    """Return the metrics that `status` holds, samples of one metric together."""
    families: dict[str, list[str]] = {}
    for name, kind, labels, value in _samples(status):
        full = f"{PREFIX}_{name}"
        lines = families.setdefault(full, [f"# TYPE {full} {kind}"])
        lines.append(f"{full}{_labels(labels)} {_number(value)}")
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def _samples(status: dict[str, Any]) -> Iterator[Sample]:
    version = {"name": status["name"], "version": status["version"]}
    yield "info", "gauge", version, 1
    yield "uptime_seconds", "gauge", {}, status["uptime_s"]
    yield "log_head", "gauge", {}, status["head"]
    yield "oldest_unsent_seconds", "gauge", {}, status["oldest_unsent_s"]
    yield "not_delivered", "gauge", {}, status["annunciation"]["not_delivered"]
    yield from _store(status["store"])
    for station in status["stations"]:
        yield from _station(station)
    lines = [*status["buses"], *status["receivers"]]
    if status["gpio"] is not None:
        lines.append(status["gpio"])
    for line in lines:
        yield from _line(line)


def _store(store: dict[str, Any]) -> Iterator[Sample]:
    yield "store_ok", "gauge", {}, store["state"] == "ok"
    yield "store_bytes", "gauge", {}, store["bytes"]
    yield "store_bound_bytes", "gauge", {}, store["bound"]
    if store["written_bytes"] is not None:
        yield "store_written_bytes_total", "counter", {}, store["written_bytes"]


def _station(station: dict[str, Any]) -> Iterator[Sample]:
    name = station["name"]
    for lane, key in (("main", "stored"), ("urgent", "urgent_stored")):
        yield "station_stored", "gauge", {"station": name, "lane": lane}, station[key] or 0
    for path in station["paths"]:
        yield "path_up", "gauge", {"station": name, "path": path["name"]}, path["up"]


def _line(line: dict[str, Any]) -> Iterator[Sample]:
    label = {"line": line["id"]}
    yield "line_up", "gauge", label, line["up"]
    for key in ("starts", "lost", "failed", "observations", "refused"):
        yield f"line_{key}_total", "counter", label, line[key]
    for counter, value in line["counters"].items():
        yield "line_counter_total", "counter", {**label, "counter": counter}, value
    for unit in line["units"]:
        if isinstance(unit.get("up"), bool):
            yield "unit_up", "gauge", {**label, "unit": str(unit["id"])}, unit["up"]


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
