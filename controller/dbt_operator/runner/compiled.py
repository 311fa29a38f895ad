"""The compiled code of nodes: as a file that outlives the pod, and the lines of it that an error names."""

from __future__ import annotations

import json
import re
import textwrap
import threading
import zlib
from collections.abc import Iterable
from typing import Any

from dbt_operator.runner.masking import Masker, shortened
from dbt_operator.runner.output import Line

FILE = "compiled.json"
# How many bytes of it there may be, compressed: some hundreds of models of an ordinary size.
LIMIT = 256 << 10
FAILURES = frozenset(("error", "fail", "runtime error", "partial success"))

# The lines before the one that an error names, and after it, and what is shown of each.
_BEFORE, _AFTER, _WIDTH = 3, 2, 90
# How databases name a line: with its text, or with a column. "line 3" alone may be one of a CSV file, of a function in
# the database, or of a traceback.
_QUOTED = re.compile(r"\bLINE (\d+): ([^\n]*)")
_NAMED = (
    # Snowflake; Trino and Athena; Spark, Databricks and ClickHouse; BigQuery
    re.compile(r"\bline (\d+) at position (\d+)"),
    re.compile(r"\bline (\d+):(\d+)"),
    re.compile(r"\(line (\d+), ?(?:pos|position|col|column) (\d+)\)"),
    re.compile(r"\bat \[(\d+):(\d+)\]"),
)


class Queries:
    """The query that each node executes, or that failed: dbt's worker threads tell of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, str] = {}

    def begun(self, unique_id: str, sql: str) -> None:
        """The node executes this query."""
        with self._lock:
            self._running[unique_id] = sql

    def succeeded(self, unique_id: str) -> None:
        """The query of the node did not fail."""
        with self._lock:
            self._running.pop(unique_id, None)

    def take(self, unique_id: str) -> str:
        """The query that the node has failed with, once; "" where it was none."""
        with self._lock:
            return self._running.pop(unique_id, "")


def excerpt(*, query: str, message: str, masker: Masker) -> str:
    """The lines of the query around the one that the message names, with the numbers that the database counts by.

    "" where it names none, or one that is not there.
    """
    lines = query.split("\n")
    found = _place(lines, message)
    if found is None or not query.strip():
        return ""
    at, number, column = found
    shown = masker.lines(query)
    first, last = max(at - _BEFORE, 0), min(at + _AFTER + 1, len(shown))
    while first < at and not shown[first].strip():
        first += 1
    while last > at + 1 and not shown[last - 1].strip():
        last -= 1
    texts = textwrap.dedent("\n".join(shown[first:last]).expandtabs(4)).split("\n")
    cut = len(shown[at].expandtabs(4)) - len(texts[at - first])
    texts[at - first] = _window(texts[at - first], column=max(column - cut, 0))
    width = len(str(number + last - at))
    return "\n".join(
        f"{'>' if row == at else ' '} {number + row - at:{width}} | {shortened(text, limit=_WIDTH)}".rstrip()
        for row, text in enumerate(texts, start=first)
    )


def _place(lines: list[str], message: str) -> tuple[int, int, int] | None:
    """Index of the line, its number as the database counts, and the column, which may be none of either."""
    quoted = _QUOTED.search(message)
    if quoted is not None:
        # Some databases do not count the comment before the query, and cut the line at both ends.
        number = int(quoted.group(1))
        part = " ".join(quoted.group(2).strip().removeprefix("...").removesuffix("...").split())
        rows = [row for row, line in enumerate(lines) if part and part in " ".join(line.split())]
        if not rows:
            return None
        row = min(rows, key=lambda one: abs(one - (number - 1)))
        return row, number, max(lines[row].find(part), 0)
    for pattern in _NAMED:
        named = pattern.search(message)
        if named is not None:
            number = int(named.group(1))
            return (number - 1, number, int(named.group(2)) - 1) if 0 < number <= len(lines) else None
    return None


def _window(line: str, *, column: int) -> str:
    """The part of a long line around the column."""
    if len(line) <= _WIDTH or column < _WIDTH - 20:
        return line
    return "…" + line[max(column - _WIDTH // 2, 0) :]


def codes(*, results: Iterable[Line], manifest: Any) -> list[tuple[Line, str]]:
    """Results with the compiled code of their nodes, of those that have any."""
    nodes = getattr(manifest, "nodes", None) or {}
    found = []
    for result in results:
        # A result that was made of an event has none: then dbt did not come to its end.
        code = result.get("compiled_code") or getattr(nodes.get(result["unique_id"]), "compiled_code", None)
        if isinstance(code, str) and code.strip():
            found.append((result, code))
    return found


def content(*, found: Iterable[tuple[Line, str]], masker: Masker, limit: int = LIMIT) -> bytes:
    """The file, as JSON: that of failed nodes first, of the others what there is room for.

    No code is cut: what stands there is what dbt has compiled, but for secrets.
    """
    kept = []
    room = limit
    for result, code in sorted(found, key=lambda pair: pair[0]["status"] not in FAILURES):
        failed = result["status"] in FAILURES
        entry = {"unique_id": result["unique_id"], "failed": failed, "code": masker.text(code)}
        # What all take together is less than what each of them takes.
        cost = len(zlib.compress(json.dumps(entry).encode(), 6))
        if cost <= room:
            kept.append(entry)
            room -= cost
    return json.dumps(kept, separators=(",", ":")).encode()
