"""How a picture of a run looks: as a table that is drawn anew, or as lines. No input or output."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dbt_operator.local.picture import ENDED_NODE, Node, Picture, Run, essence, graph_order

STYLES = {
    "Pending": "bright_black",
    "Running": "yellow",
    "Succeeded": "green",
    "Failed": "bold red",
    "Skipped": "magenta",
    "Cancelled": "magenta",
}
MARKS = {"Pending": "·", "Succeeded": "✓", "Failed": "✗", "Skipped": "⊘", "Cancelled": "⊘"}
_LINES_AROUND_THE_ROWS = 6
_BAR_WIDTH = 40
_PHASE_WIDTH = len("✓ Succeeded")
_SPINNER = Spinner("dots", style=STYLES["Running"])


def style_of(phase: str) -> str:
    """Phases of runs that nodes do not have (Queued, Starting) look like work in progress."""
    return STYLES.get(phase, STYLES["Running"])


def remark(node: Node, *, picture: Picture) -> str:
    """What is worth reading about a node, in one line."""
    if node.blocked_by:
        return f"blocked by {picture.name_of(node.blocked_by)}"
    if node.phase == "Succeeded" and node.reason not in ("", "Success"):
        return f"{node.reason}: {essence(node.message)}"
    return essence(node.message)


def elapsed_text(seconds: float) -> str:
    return f"{seconds:.1f}s"


def seconds_of(node: Node, *, now: datetime) -> str:
    """How long dbt executed it; while it does, how long so far (clocks may differ, so never below zero)."""
    if node.seconds is not None:
        return f"{node.seconds:.2f}"
    if node.phase == "Running" and node.started is not None:
        return f"{max(0.0, (now - node.started).total_seconds()):.1f}"
    return ""


def headline(run: Run, *, elapsed: float) -> Text:
    """The run in one line: name, phase, reason and time."""
    style = style_of(run.phase)
    line = Text.assemble((run.name, "bold"), "  ", (run.phase, style))
    if run.reason:
        line.append(f" · {run.reason}", style=style)
    return line.append(f"  {elapsed_text(elapsed)}", style="bright_black")


def progress(picture: Picture, *, left: float | None = None) -> RenderableType:
    """A bar of the nodes that have ended; it is red as soon as one of them has failed. left: seconds, where known."""
    nodes = picture.nodes.values()
    ended, total = sum(node.ended for node in nodes), len(nodes)
    style = STYLES["Failed"] if any(node.phase == "Failed" for node in nodes) else STYLES["Succeeded"]
    bar = ProgressBar(
        total=total or 1, completed=ended, width=_BAR_WIDTH, complete_style=style, finished_style=style, pulse=not nodes
    )
    grid = Table.grid(padding=(0, 2))
    about = f"  about {left:.0f}s left" if left is not None and not picture.run.ended else ""
    grid.add_row(bar, Text(f"{ended}/{total} nodes{about}" if total else "", style="bright_black"))
    return grid


def fit(nodes: Sequence[Node], *, limit: int) -> tuple[list[Node], int, int]:
    """The rows that a low terminal can show, and how many before and after them it cannot.

    What is done and in order goes first, from the top; then what is still to come, from the bottom.
    """
    rows, above, below = list(nodes), 0, 0
    while len(rows) > limit and rows[0].settled and rows[0].phase == "Succeeded":
        rows.pop(0)
        above += 1
    while len(rows) > limit:
        rows.pop()
        below += 1
    return rows, above, below


def table(picture: Picture, *, now: datetime, limit: int | None = None) -> RenderableType:
    """The nodes in the order of the graph."""
    nodes = graph_order(picture.nodes)
    rows, above, below = fit(nodes, limit=len(nodes) if limit is None else max(1, limit))
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bright_black", pad_edge=False, expand=True)
    # Minimal widths keep the columns in their place; expanded, so that MESSAGE gets what the others leave, and no more.
    grid.add_column("NAME", no_wrap=True, min_width=max((len(node.name) for node in nodes), default=0))
    grid.add_column("TYPE", no_wrap=True, min_width=max((len(node.resource_type) for node in nodes), default=0))
    grid.add_column("PHASE", no_wrap=True, min_width=_PHASE_WIDTH)
    for title in ("TESTS", "SECONDS", "ROWS"):
        grid.add_column(title, no_wrap=True, justify="right", min_width=len(title))
    grid.add_column("MESSAGE", no_wrap=True, overflow="ellipsis", ratio=1)
    if above:
        grid.add_row(Text(f"… {above} more that succeeded", style="bright_black"))
    for node in rows:
        grid.add_row(*_cells(node, picture=picture, now=now))
    if below:
        grid.add_row(Text(f"… {below} more", style="bright_black"))
    return grid


def _cells(node: Node, *, picture: Picture, now: datetime) -> list[RenderableType]:
    style = style_of(node.phase)
    waiting = "bright_black" if node.phase in ("Pending", "Skipped", "Cancelled") else ""
    mark: RenderableType = Text(f"{MARKS.get(node.phase, '?')} {node.phase}", style=style)
    if node.phase == "Running":
        mark = Table.grid(padding=(0, 1, 0, 0))
        mark.add_row(_SPINNER, Text(node.phase, style=style))
    return [
        Text(node.name, style=style if node.phase == "Failed" else waiting),
        Text(node.resource_type, style="bright_black"),
        mark,
        Text(node.tests, style=waiting),
        Text(seconds_of(node, now=now), style=waiting),
        Text("" if node.rows is None or node.rows < 0 else str(node.rows), style=waiting),
        Text(remark(node, picture=picture), style=style if node.phase in ("Failed", "Skipped") else "bright_black"),
    ]


def screen(
    picture: Picture, *, elapsed: float, now: datetime, height: int | None = None, left: float | None = None
) -> RenderableType:
    """Everything about the run at this moment; `height` is the number of lines there is room for."""
    limit = None if height is None else height - _LINES_AROUND_THE_ROWS - 2
    parts: list[RenderableType] = [
        headline(picture.run, elapsed=elapsed),
        Text(picture.run.message, style="bright_black", no_wrap=True, overflow="ellipsis"),
        progress(picture, left=left),
    ]
    if picture.nodes:
        parts += [Text(), table(picture, now=now, limit=limit)]
    return Group(*parts)


def errors(picture: Picture) -> Text:
    """The full error text of each node that failed."""
    text = Text()
    for node in graph_order(picture.nodes):
        if node.phase == "Failed":
            text.append(f"{node.name} failed:\n", style=STYLES["Failed"])
            text.append("".join(f"  {line}\n" for line in node.message.splitlines()))
    return text


def change_lines(before: Picture, after: Picture, *, elapsed: float) -> list[str]:
    """One line for each change worth telling, for output that is not a terminal."""
    lines = []
    if (before.run.phase, before.run.reason) != (after.run.phase, after.run.reason):
        lines.append((after.run.phase, " ".join(filter(None, (after.run.name, after.run.reason, after.run.message)))))
    for node in graph_order(after.nodes):
        old, told = before.nodes.get(node.unique_id), _told(node, run=after.run)
        if told != (_told(old, run=before.run) if old else "Pending"):
            lines.append((told, _details(node, picture=after) if told in ENDED_NODE else node.name))
    return [f"{elapsed_text(elapsed):>7}  {phase:<9}  {text}" for phase, text in lines]


def _told(node: Node, *, run: Run) -> str:
    """The phase as it was told: a node is called Succeeded once its tests are through, or never will be."""
    return node.phase if node.settled or run.ended or not node.ended else "Running"


def _details(node: Node, *, picture: Picture) -> str:
    parts = [node.name]
    if node.tests:
        parts.append(f"tests {node.tests}")
    if node.seconds is not None:
        parts.append(f"{node.seconds:.1f}s")
    if node.phase in ("Failed", "Skipped", "Cancelled") and (text := remark(node, picture=picture)):
        parts.append(text)
    return "  ".join(parts)
