"""How the commands look on a terminal."""

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_console = Console(highlight=False, soft_wrap=True)

_KIND_STYLES = {
    "alarm": "bold red",
    "tamper": "bold red",
    "fault": "yellow",
    "supervisory": "yellow",
    "measurement": "dim",
    "information": "dim",
}


def show_status(status: dict[str, Any]) -> None:
    store = status["store"]
    style = "green" if store["state"] == "ok" else "bold red"
    _console.print(
        f"[bold]{escape(status['name'])}[/]  version {escape(status['version'])}"
        f"  up {_span(status['uptime_s'])}  clock {escape(str(status['clock']['quality']))}"
    )
    _console.print(
        f"store [{style}]{escape(store['state'])}[/]  {store['bytes']:,} of {store['bound']:,}"
        f" bytes  log {escape(str(status['log_id']))}  head {status['head']}"
        f"  oldest unsent {_span(status['oldest_unsent_s'])}"
    )
    if status["annunciation"]["not_delivered"]:
        after_s = status["annunciation"]["after_s"]
        _console.print(
            Text(f"NOT DELIVERED: an event is older than {after_s:g} s", style="bold white on red")
        )
    if store.get("text"):
        _console.print(Text(store["text"], style=style))
    _console.print(_stations(status), soft_wrap=False)
    _console.print(_lines(status), soft_wrap=False)
    if status["outputs"]:
        _console.print(_outputs(status), soft_wrap=False)
    for bypass in status["bypasses"]:
        text = f"bypassed: {bypass['point']}, by {bypass['by']}, for another "
        _console.print(Text(text + _span(bypass["left_s"]), style="yellow"))
    _show_configuration(status["configuration"])
    for fault in status["faults"]:
        _console.print(
            Text(
                f"{fault['point']} {fault['subkind']}: {fault['text'] or fault['reason']}",
                style="yellow",
            )
        )


def show_event(line: dict[str, Any]) -> None:
    kind = str(line.get("kind", ""))
    style = _KIND_STYLES.get(kind, "")
    if line.get("qualifier") == "restore":
        style = "green"
    text = Text(f"{line['seq']:>8}  {line.get('at') or 'time unknown':<24}  ")
    text.append(f"{kind}/{line.get('subkind', '')} {line.get('qualifier', '')}".ljust(32), style)
    text.append(f"  {line.get('point', '')}", "bold")
    if line.get("value") is not None:
        text.append(f"  {line['value']} {line.get('unit', '')}")
    if line.get("text"):
        text.append(f"  {line['text']}", "dim")
    _console.print(text)


def show_decoded(line: dict[str, Any]) -> None:
    ((word, value),) = line.items()
    styles = {"frame": "cyan", "observation": "bold", "send": "magenta", "counts": "dim"}
    text = Text(f"{word:<12}", styles.get(word, ""))
    if isinstance(value, dict):
        shown = (
            f"{name}={json.dumps(inner, ensure_ascii=False)}" for name, inner in value.items()
        )
        text.append("  ".join(shown))
    else:
        text.append(str(value))
    _console.print(text)


def _stations(status: dict[str, Any]) -> Table:
    table = _table("station", "stored", "urgent", "paths")
    for station in status["stations"]:
        paths = Text("  ").join(
            Text(
                f"{path['name']} {'up' if path['up'] else path.get('fault') or 'down'}",
                "green" if path["up"] else "red",
            )
            for path in station["paths"]
        )
        table.add_row(
            escape(station["name"]), str(station["stored"]), str(station["urgent_stored"]), paths
        )
    return table


def _lines(status: dict[str, Any]) -> Table:
    table = _table("line", "state", "observations", "starts", "last error")
    gpio = [status["gpio"]] if status["gpio"] is not None else []
    for line in (*status["buses"], *status["receivers"], *gpio):
        state = Text("up", "green") if line["up"] else Text("down", "red")
        table.add_row(
            escape(line["id"]),
            state,
            str(line["observations"]),
            str(line["starts"]),
            Text(line["last_error"]),
        )
    return table


def _outputs(status: dict[str, Any]) -> Table:
    table = _table("output", "is", "rests at", "pulse", "fault")
    for output in status["outputs"]:
        state = {None: Text("unknown", "yellow"), True: Text("on", "bold"), False: Text("off")}
        left_s = output["pulse_left_s"]
        table.add_row(
            escape(output["id"]),
            state[output["on"]],
            "on" if output["fail_safe"] else "off",
            "-" if left_s is None else f"{left_s:.1f} s",
            Text(output["fault"], "red"),
        )
    return table


def _show_configuration(pending: dict[str, Any] | None) -> None:
    if pending is None:
        return
    text = f"configuration {pending['phase']}, by {pending['by']}"
    if pending["left_s"] is not None:
        text += f": rolled back in {_span(pending['left_s'])} unless the station fetches under it"
    if pending["reason"]:
        text += f": {pending['reason']}"
    _console.print(Text(text, style="yellow"))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    whole = int(seconds)
    days, hours, minutes = whole // 86_400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{seconds:.1f} s"
