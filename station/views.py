"""What people see on a terminal: one line an event, a table of gateways.

Colour never stands alone: the qualifier has a sign and the kind is a word. Texts come from devices
and strangers, so nothing that could steer a terminal gets through.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from events.kinds import Kind, Qualifier, shown_kind
from station.verification import LogVerdict

TEXT_LENGTH_SHOWN = 120

_KIND_STYLES = {
    Kind.ALARM: "bold white on red",
    Kind.TAMPER: "bold white on magenta",
    Kind.FAULT: "bold black on yellow",
    Kind.SUPERVISORY: "yellow",
    Kind.DISABLED: "yellow",
    Kind.TEST: "cyan",
    Kind.ACCESS: "blue",
    Kind.ARMING: "blue",
}
_QUALIFIER_SIGNS = {Qualifier.NEW: "●", Qualifier.RESTORE: "○", Qualifier.STILL: "◐"}
_STATE_STYLES = {
    "connected": ("●", "green"),
    "silent": ("◌", "bold yellow"),
    "lost": ("✖", "bold white on red"),
    "unknown": ("?", "bold yellow"),
    "never-seen": ("?", "bold yellow"),
    "revoked": ("–", "dim"),
}


class EventLines:
    """Prints events one by one, as they come."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)

    def show(self, event: Mapping[str, Any]) -> None:
        """Print one event."""
        self._console.print(event_text(event), soft_wrap=True)
        self._console.file.flush()


def event_text(event: Mapping[str, Any]) -> Text:
    """Return one event as a line."""
    kind = shown_kind(event["kind"])
    qualifier = event["qualifier"]
    ended = qualifier == Qualifier.RESTORE
    style = "green" if ended and not event["late"] else _KIND_STYLES.get(Kind(kind), "")
    what = event["subkind"] or kind
    if kind != event["kind"]:
        what = f"{event['kind']}/{event['subkind']}"
    text = Text()
    text.append(f"{event['n']:>8}  ", style="dim")
    text.append(f"{(event['at'] or 'at unknown time'):<24}  ")
    sign = _QUALIFIER_SIGNS.get(qualifier, "·")
    text.append(f" {sign} {kind} ", style="dim" if event["late"] else style)
    text.append(f" {plain(what)} {plain(qualifier)}  ", style="bold" if not ended else "")
    text.append(plain("/".join(part for part in (event["gateway"], event["point"]) if part)))
    if event["value"] is not None:
        text.append(f"  {plain(str(event['value']))}{plain(event['unit'])}")
    if event.get("text"):
        text.append(f"  “{plain(event['text'])}”")
    for flag in _flags(event):
        text.append(f"  [{flag}]", style="bold yellow")
    return text


def show_gateways(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table of gateways."""
    console = Console(highlight=False)
    if not rows:
        console.print("No gateway is enrolled. `nplus-station enroll NAME PUBKEYFILE` adds one.")
        return
    table = Table(title=None, header_style="bold", expand=False)
    for heading in (
        "gateway", "state", "lost after", "last seen", "held / in log", "missing", "paths",
    ):  # fmt: skip
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*_gateway_cells(row))
    console.print(table)


def show_availability(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print how much of a month each gateway was there."""
    console = Console(highlight=False)
    month = rows[0]["month"] if rows else ""
    table = Table(title=month, title_justify="left", header_style="bold", expand=False)
    table.add_column("gateway", overflow="fold")
    for heading in ("available", "up", "lost", "unknown", "losses", "longest"):
        table.add_column(heading, no_wrap=True, justify="right")
    for row in rows:
        ratio = row["availability"]
        known = ratio is not None
        cells = [row["name"], f"{100 * ratio:.3f} %" if known else "not known"]
        cells += [_span(row[key]) for key in ("up_s", "lost_s", "unknown_s")]
        cells += [str(row["losses"]), _span(row["longest_s"])]
        table.add_row(*cells, style="" if known else "bold yellow")
    console.print(table)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours:02}:{minutes:02}:{rest:02}"
    return f"{days} d {clock}" if days else clock


def show_verdicts(verdicts: Sequence[LogVerdict]) -> None:
    """Print what a verification of the ledger found."""
    console = Console(highlight=False)
    for verdict in verdicts:
        good = not verdict.misfits
        text = Text("● " if good else "✖ ", style="green" if good else "bold white on red")
        text.append(plain(f"{verdict.gateway} {verdict.log_id}"), style="bold")
        text.append(f": {verdict.checked} events fit, {verdict.unchecked} cannot be checked,")
        text.append(f" {verdict.gaps} numbers gone, {verdict.misfits} faults")
        console.print(text, soft_wrap=True)
        for misfit in verdict.first:
            console.print(f"    number {misfit.seq} {misfit.why}", soft_wrap=True)
    if not verdicts:
        console.print("Nothing is stored yet.")


def show_status(status: Mapping[str, Any]) -> None:
    """Print how the station is."""
    console = Console(highlight=False)
    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _flat(status):
        table.add_row(name, plain(value))
    console.print(table)


def plain(text: str, length: int = TEXT_LENGTH_SHOWN) -> str:
    """Return text that cannot steer a terminal, cut to what fits a line."""
    cut = text if len(text) <= length else f"{text[:length]}…"
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in cut
    )


def _flags(event: Mapping[str, Any]) -> list[str]:
    flags = [name for name in ("urgent", "late", "volatile", "suspect") if event[name]]
    if event["clock"] == "unset":
        flags.append("clock unset")
    if not event["readable"]:
        flags.append("unreadable")
    return flags


def _gateway_cells(row: Mapping[str, Any]) -> list[Text]:
    sign, style = _STATE_STYLES.get(row["state"], ("?", "bold yellow"))
    held = "–" if row["seq"] is None else f"{row['seq']} / {row['head']}"
    missing = str(row["missing"])
    paths = Text()
    for path in row["paths"]:
        path_sign, path_style = _STATE_STYLES.get(path["state"], ("?", "bold yellow"))
        paths.append(f"{path_sign} {plain(path['name'])} ", style=path_style)
    together = " with others" if row["lost_at_once"] else ""
    return [
        Text(row["name"], style="bold"),
        Text(f"{sign} {row['state']}{together}", style=style),
        Text(f"{row['lost_after_s']:g} s"),
        Text(row["last_seen"] or "never"),
        Text(held),
        Text(missing, style="bold yellow" if row["missing"] else ""),
        paths,
    ]


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [
            pair
            for key, inner in value.items()
            for pair in _flat(inner, f"{name}.{key}" if name else str(key))
        ]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(str(item) for item in value) or "–")]
    return [(name, "–" if value is None else str(value))]
