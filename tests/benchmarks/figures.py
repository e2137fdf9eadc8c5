"""What a bench run yields: rows with goals, what was measured for each, and the one table of it."""

import statistics
from collections.abc import Mapping, Sequence

import msgspec
from rich.table import Table

HEADINGS = ("figure", "median (spread, runs)", "goal", "verdict", "beside it")


class Goal(msgspec.Struct, frozen=True):
    """A bound that the median has to keep: at most, or at least."""

    bound: float
    least: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. A row without a goal is there for comparison."""

    name: str
    unit: str
    goal: Goal | None = None


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """A peer or a floor measured in the same call.

    missing: it is not installed, and this would install it. failed: why it could not be measured.
    """

    name: str
    unit: str = ""
    values: tuple[float, ...] = ()
    missing: str = ""
    failed: str = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The values of each run. `failed` is why there are none."""

    values: tuple[float, ...] = ()
    beside: tuple[Beside, ...] = ()
    note: str = ""
    failed: str = ""


Results = Mapping[str, Measured]


def median(values: Sequence[float]) -> float:
    """Return the middle value. Raises `ValueError` for none."""
    if not values:
        raise ValueError("no values")
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of all do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = -(-share * len(ordered) // 1)  # rounded up
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


def number(value: float) -> str:
    """Return three significant digits, thousands separated."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def spread(values: Sequence[float], unit: str) -> str:
    """Return the median with its unit, lowest, highest and how many."""
    middle = f"{number(median(values))} {unit}".rstrip()
    if len(values) == 1:
        return f"{middle} (1 run)"
    return f"{middle} ({number(min(values))}–{number(max(values))}, {len(values)} runs)"


def goal_text(row: Row) -> str:
    if row.goal is None:
        return ""
    sign = "≥" if row.goal.least else "≤"
    return f"{sign} {number(row.goal.bound)} {row.unit}".rstrip()


def reached(row: Row, measured: Measured) -> bool | None:
    """Tell whether the median keeps the goal; None where there is no goal or no value."""
    if row.goal is None or not measured.values:
        return None
    middle = median(measured.values)
    return middle >= row.goal.bound if row.goal.least else middle <= row.goal.bound


def verdict(row: Row, measured: Measured) -> str:
    """Return `reached`, or by how much not."""
    if measured.failed:
        return "not measured"
    kept = reached(row, measured)
    if kept is None or row.goal is None:
        return ""
    if kept:
        return "reached"
    middle, bound = median(measured.values), row.goal.bound
    if row.goal.least:
        return f"missed: {middle / bound:.0%} of it" if bound else "missed"
    return f"missed: {middle / bound:.2f} times it" if bound else "missed"


def cells(row: Row, measured: Measured) -> tuple[str, str, str, str, str]:
    """Return one line of the table, a cell for each of `HEADINGS`."""
    value = f"failed: {measured.failed}" if measured.failed else spread(measured.values, row.unit)
    if measured.note:
        value += f"; {measured.note}"
    beside = "; ".join(f"{each.name}: {_peer(each)}" for each in measured.beside)
    return row.name, value, goal_text(row), verdict(row, measured), beside


def _peer(each: Beside) -> str:
    if each.failed:
        return f"failed: {each.failed}"
    return each.missing or spread(each.values, each.unit)


def table(rows: Sequence[Row], results: Results, caption: str) -> Table:
    """Return the table for a terminal."""
    result = Table(title="N+ gateway on this machine", caption=caption, show_lines=True)
    for heading in HEADINGS:
        result.add_column(heading, overflow="fold")
    for row in rows:
        result.add_row(*cells(row, results[row.name]))
    return result


def markdown(rows: Sequence[Row], results: Results, caption: str) -> str:
    """Return the same for the manual."""
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "|" + " --- |" * len(HEADINGS),
        *("| " + " | ".join(_escaped(cells(row, results[row.name]))) + " |" for row in rows),
    ]
    return f"{caption}\n\n" + "\n".join(lines) + "\n"


def _escaped(texts: Sequence[str]) -> list[str]:
    return [" ".join(text.replace("|", "\\|").split()) for text in texts]
