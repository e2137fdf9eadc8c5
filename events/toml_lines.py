"""On which line of a TOML text a key or table is written.

`tomllib` gives values without places. This scan follows TOML 1.0's table headers and keys, skips
strings, comments and what stands inside brackets, and notes a line for each path. It is only asked
about texts that `tomllib` accepted, so it does not judge syntax.
"""

import re
from contextlib import suppress

Path = tuple[str | int, ...]

_KEY = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*""")
_STRING_ENDS = {
    '"""': re.compile(r'(?:[^\\]|\\.)*?"""', re.DOTALL),
    "'''": re.compile(r".*?'''", re.DOTALL),
}
_STRINGS = {'"': re.compile(r'"(?:[^"\\\n]|\\.)*"'), "'": re.compile(r"'[^'\n]*'")}


def written(path: Path) -> str:
    """Return a path as a technician reads it: `bus[0].unit[2].address`; `$` for the whole file."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text or "$"


class Lines:
    """Places of every key and table header in a TOML text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        with suppress(RecursionError):  # a text nested that deeply has no useful places
            self._scan(text)

    def of(self, path: Path) -> int:
        """Return the line of `path`, or of the nearest enclosing thing that has one; else 0."""
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return line
        return 0

    def _scan(self, text: str) -> None:
        table: Path = ()
        at, line = 0, 1
        while at < len(text):
            start = at
            at = _skip_blank(text, at)
            line += text.count("\n", start, at)
            if at >= len(text):
                return
            if text[at] == "[":
                double = text.startswith("[[", at)
                keys, at = _keys(text, at + 1 + double)
                table = self._enter(keys, double=double)
                self._lines.setdefault(table, line)
                at = _line_end(text, at)
            else:
                keys, after = _keys(text, at)
                if not keys:
                    at = _line_end(text, at)
                    continue
                self._note(table, keys, line)
                value_end = self._value(text, after, (*table, *keys), line)
                line += text.count("\n", at, value_end)
                at = value_end

    def _note(self, table: Path, keys: list[str], line: int) -> None:
        path = table
        for key in keys:
            path = (*path, key)
            self._lines.setdefault(path, line)

    def _enter(self, keys: list[str], *, double: bool) -> Path:
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        path = (*path, *keys[-1:])
        if double:
            index = self._counts.get(path, 0)
            self._counts[path] = index + 1
            path = (*path, index)
        elif path in self._counts:
            path = (*path, self._counts[path] - 1)
        return path

    def _value(self, text: str, at: int, path: Path, line: int) -> int:
        """Skip one value, noting the keys of inline tables and the elements of arrays in it."""
        at = _skip_blank(text, at)
        if at >= len(text):
            return at
        if text[at] == "[":
            return self._array(text, at + 1, path, line)
        if text[at] == "{":
            return self._inline_table(text, at + 1, path, line)
        return _scalar_end(text, at)

    def _array(self, text: str, at: int, path: Path, line: int) -> int:
        index = 0
        while True:
            start = at
            at = _skip_blank(text, at)
            line += text.count("\n", start, at)
            if at >= len(text) or text[at] == "]":
                return at + 1
            if text[at] == ",":
                at, index = at + 1, index + 1
                continue
            self._lines.setdefault((*path, index), line)
            end = self._value(text, at, (*path, index), line)
            line += text.count("\n", at, end)
            at = max(end, at + 1)

    def _inline_table(self, text: str, at: int, path: Path, line: int) -> int:
        while True:
            start = at
            at = _skip_blank(text, at)
            line += text.count("\n", start, at)
            if at >= len(text) or text[at] == "}":
                return at + 1
            if text[at] == ",":
                at += 1
                continue
            keys, after = _keys(text, at)
            if not keys:
                return at + 1
            self._note(path, keys, line)
            end = self._value(text, after, (*path, *keys), line)
            line += text.count("\n", at, end)
            at = max(end, at + 1)


def _skip_blank(text: str, at: int) -> int:
    while at < len(text):
        if text[at] == "#":
            at = _line_end(text, at)
        elif text[at].isspace():
            at += 1
        else:
            break
    return at


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _keys(text: str, at: int) -> tuple[list[str], int]:
    """Return the dotted key at `at` and the place behind its `=` or `]`."""
    keys: list[str] = []
    while match := _KEY.match(text, at):
        keys.append(next(group for group in match.groups() if group is not None))
        at = match.end()
        if at < len(text) and text[at] == ".":
            at += 1
            continue
        break
    if at < len(text) and text[at] in "=]":
        at += 1
    return keys, at


def _scalar_end(text: str, at: int) -> int:
    for opening, ending in _STRING_ENDS.items():
        if text.startswith(opening, at):
            match = ending.match(text, at + 3)
            return match.end() if match else len(text)
    quoted = _STRINGS.get(text[at])
    if quoted and (match := quoted.match(text, at)):
        return match.end()
    while at < len(text) and text[at] not in ",]}#\n":
        at += 1
    return at
