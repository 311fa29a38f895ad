"""Plots of results as SVG, without a library: lines, bars, or the parts of a time one after another.

The background is transparent, and each colour stands out from a white page as from GitHub's dark one; lines differ by
their dashes and dots too. The same chart gives the same bytes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

Kind = Literal["lines", "bars", "steps"]
INK = "#767d86"  # of text and axes
COLOURS = ("#3b82f6", "#d97706", "#16a34a", "#a855f7", "#ef4444", "#0d9488")
DASHES = ("", "7 4", "2 3", "10 3 2 3", "5 5", "1 4")
WIDTH, HEIGHT = 720, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 64, 48  # around what is plotted
LABELS = 300  # the room for the names of parts
STEP = 26  # the height of a part
LETTER = 6.4  # the width of a letter, about
FONT = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn.

    across: the names of the places from left to right, or of the parts from top to bottom. series: for each place a
    value, or None where nothing was measured; each step is of one series. goal: a bound that is drawn as a line.
    """

    title: str
    kind: Kind
    across: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    unit: str = ""
    along: str = ""  # what the places are
    goal: float | None = None


@dataclass(slots=True)
class _Canvas:
    height: float
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", weight: str = "") -> None:
        bold = f' font-weight="{weight}"' if weight else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}"{bold}>{escape(text)}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, *, dash: str = "", faint: bool = True) -> None:
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        opacity = ' stroke-opacity="0.35"' if faint else ""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{INK}"{opacity}{dashed}/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" fill="{colour}"/>'
        )

    def dots(self, points: Sequence[tuple[float, float]], *, colour: str, dash: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in points]

    def document(self, title: str) -> str:
        size = f'width="{WIDTH}" height="{self.height:g}" viewBox="0 0 {WIDTH} {self.height:g}"'
        start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="{FONT}" font-size="12">'
        return "\n".join([start, f"<title>{escape(title)}</title>", *self.parts, "</svg>"]) + "\n"


def svg(chart: Chart) -> str:
    """The chart as the text of an SVG file."""
    return _steps(chart) if chart.kind == "steps" else _upright(chart)


def number(value: float) -> str:
    """A figure in as many digits as anybody reads."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    short = f"{value:.3g}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if "e" in short else short


def ticks(most: float, *, count: int = 5) -> list[float]:
    """Round numbers from 0 to `most` or a little more: about as many as asked for."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    return [round(step * place, 12) for place in range(math.ceil(most / step - 1e-9) + 1)]


def _upright(chart: Chart) -> str:
    canvas = _Canvas(HEIGHT)
    _heading(canvas, chart)
    found = [value for values in chart.series.values() for value in values if value is not None]
    marks = ticks(max([*found, chart.goal or 0.0]))

    def height_of(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * max(0.0, value) / marks[-1]

    for mark in marks:
        canvas.line(LEFT, height_of(mark), WIDTH - RIGHT, height_of(mark))
        canvas.text(LEFT - 8, height_of(mark) + 4, number(mark), anchor="end")
    room = (WIDTH - RIGHT - LEFT) / len(chart.across)
    places = [LEFT + room * (place + 0.5) for place in range(len(chart.across))]
    for x, name in zip(places, chart.across, strict=True):
        canvas.text(x, HEIGHT - BOTTOM + 18, name, anchor="middle")
    if chart.along:
        canvas.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, chart.along, anchor="middle")
    for index, values in enumerate(chart.series.values()):
        points = [(x, value) for x, value in zip(places, values, strict=True) if value is not None]
        if chart.kind == "lines":
            shown = [(x, height_of(value)) for x, value in points]
            canvas.dots(shown, colour=_colour(index), dash=DASHES[index % len(DASHES)])
        else:
            _bars(canvas, chart, index, [(x, value, height_of(value)) for x, value in points], room=room)
    if chart.goal is not None:
        canvas.line(LEFT, height_of(chart.goal), WIDTH - RIGHT, height_of(chart.goal), dash="6 3", faint=False)
        said = f"goal {number(chart.goal)} {chart.unit}".rstrip()
        canvas.text(WIDTH - RIGHT, height_of(chart.goal) - 5, said, anchor="end")
    return canvas.document(chart.title)


def _bars(
    canvas: _Canvas, chart: Chart, index: int, bars: Sequence[tuple[float, float, float]], *, room: float
) -> None:
    width = min(64.0, 0.8 * room / len(chart.series))
    for x, value, top in bars:
        left = x + (index - len(chart.series) / 2) * width
        canvas.bar(left + 1, top, width - 2, HEIGHT - BOTTOM - top, _colour(index))
        canvas.text(left + width / 2, top - 5, number(value), anchor="middle")


def _steps(chart: Chart) -> str:
    bottom = TOP + STEP * len(chart.across)
    canvas = _Canvas(bottom + BOTTOM)
    _heading(canvas, chart)
    steps = [_step(values) for values in zip(*chart.series.values(), strict=True)]
    marks = ticks(sum(size for _, size in steps))
    right = WIDTH - RIGHT - 56  # the figure of the last part stands beside it

    def place_of(value: float) -> float:
        return LABELS + (right - LABELS) * value / marks[-1]

    for mark in marks:
        canvas.line(place_of(mark), TOP, place_of(mark), bottom)
        canvas.text(place_of(mark), bottom + 18, number(mark), anchor="middle")
    canvas.text((LABELS + right) / 2, bottom + 38, chart.along, anchor="middle")
    begin = 0.0
    for row, (name, (index, size)) in enumerate(zip(chart.across, steps, strict=True)):
        top = TOP + STEP * row
        canvas.text(LABELS - 10, top + STEP / 2 + 4, name, anchor="end")
        width = max(1.0, place_of(begin + size) - place_of(begin))
        canvas.bar(place_of(begin), top + 4, width, STEP - 8, _colour(index))
        canvas.text(place_of(begin) + width + 6, top + STEP / 2 + 4, f"{number(size)} {chart.unit}".rstrip())
        begin += size
    return canvas.document(chart.title)


def _step(values: Sequence[float | None]) -> tuple[int, float]:
    """Of which series a step is, and its size."""
    return next((index, max(0.0, value)) for index, value in enumerate(values) if value is not None)


def _heading(canvas: _Canvas, chart: Chart) -> None:
    canvas.text(16, 24, f"{chart.title}, {chart.unit}" if chart.unit else chart.title, weight="600")
    if len(chart.series) < 2:
        return
    for index, (name, x) in enumerate(_legend(chart)):
        if chart.kind == "lines":
            canvas.dots([(x, 42), (x + 24, 42)], colour=_colour(index), dash=DASHES[index % len(DASHES)])
        else:
            canvas.bar(x, 36, 24, 11, _colour(index))
        canvas.text(x + 32, 46, name)


def _legend(chart: Chart) -> Iterator[tuple[str, float]]:
    x = 16.0
    for name in chart.series:
        yield name, x
        x += 32 + LETTER * len(name) + 24


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
