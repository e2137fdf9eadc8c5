"""The last table in the manual: written by the bench between two marks, and by nobody else."""

from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "performance.md"
BEGIN = "<!-- table: written by `make bench BENCH=--write` -->"
END = "<!-- end of table -->"


def caption(facts: dict[str, str], *, quick: bool) -> str:
    known = "; ".join(f"{name}: {value}" for name, value in facts.items())
    return f"{'Quick run, not for comparison. ' if quick else ''}{known}."


def between(text: str) -> str:
    """Return what stands between the marks. Raises `ValueError` when they are not both there."""
    before, begun, rest = text.partition(BEGIN)
    table, ended, _ = rest.partition(END)
    if not (before and begun and ended):
        raise ValueError("the page has lost its marks")
    return table


def replaced(text: str, table: str) -> str:
    """Return the page with another table."""
    old = between(text)
    return text.replace(f"{BEGIN}{old}{END}", f"{BEGIN}\n\n{table.strip()}\n\n{END}")


def write(table: str) -> None:
    PAGE.write_text(replaced(PAGE.read_text(), table))
