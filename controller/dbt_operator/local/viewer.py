"""Showing a run while it happens: a table that is drawn anew, or a line for each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from dbt_operator.local import render
from dbt_operator.local.picture import Picture

_SECONDS_BETWEEN_DRAWINGS = 0.1
Left = Callable[[Picture, datetime], float | None]


class Viewer(Protocol):
    """Shows a run to a person."""

    def show(self, before: Picture, after: Picture, *, elapsed: float) -> None:
        """A change of the picture, or only of the time."""


class Screen:
    """A table that is drawn anew in place, for a terminal."""

    def __init__(self, live: Live, *, left: Left) -> None:
        self._live, self._left = live, left
        self._drawn = 0.0

    def show(self, before: Picture, after: Picture, *, elapsed: float) -> None:
        del before  # all of it is drawn
        if elapsed - self._drawn < _SECONDS_BETWEEN_DRAWINGS:
            return  # drawing costs more than looking, on a machine that is at work on the run
        self._drawn = elapsed
        height, now = self._live.console.height, datetime.now(UTC)
        left = self._left(after, now)
        self._live.update(render.screen(after, elapsed=elapsed, now=now, height=height, left=left), refresh=True)


class Lines:
    """A line per change, for a file or a log of CI."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, before: Picture, after: Picture, *, elapsed: float) -> None:
        for line in render.change_lines(before, after, elapsed=elapsed):
            self._console.out(line, highlight=False)


@contextmanager
def viewer(
    console: Console, *, interactive: bool | None = None, left: Left = lambda _picture, _now: None
) -> Iterator[Viewer]:
    """What fits the console, where nothing else is said. left: how many seconds the run will go on, where known."""
    if not (console.is_interactive if interactive is None else interactive):
        yield Lines(console)
        return
    # Gone at the end, when all of the table is printed, also what a low terminal had no room for.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield Screen(live, left=left)


def result(picture: Picture, *, elapsed: float, interactive: bool) -> RenderableType:
    """How a run has ended: with the whole table, where that was not printed line by line."""
    parts: list[RenderableType] = []
    if interactive:
        parts.append(render.screen(picture, elapsed=elapsed, now=datetime.now(UTC)))
    errors = render.errors(picture)
    if errors:
        parts += [Text(), errors]
    if not interactive:
        parts.append(Text(f"{picture.run.name}: {picture.run.phase}. {picture.run.message}"))
    return Group(*parts)
