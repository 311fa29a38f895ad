"""What a scenario has measured: JSON in `benchmarks/results/`, and a table with plots in benchmarks/README.md."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.charts import Chart, number

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `values` are those of the repetitions; the goal is a bound of their median.

    column: where a table has several, such as one for each number of threads, that of this figure.
    """

    what: str
    values: tuple[float, ...]
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    column: str = ""

    @property
    def median(self) -> float:
        """The median of the repetitions."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.at_most is not None:
            return self.median <= self.at_most
        return None if self.at_least is None else self.median >= self.at_least

    @property
    def goal(self) -> str:
        """The goal as the table shows it."""
        if self.at_most is not None:
            return f"≤ {number(self.at_most)} {self.unit}".rstrip()
        return "" if self.at_least is None else f"≥ {number(self.at_least)} {self.unit}".rstrip()

    @property
    def shown(self) -> str:
        """The figure as the table shows it: the median, and the smallest and largest where they differ."""
        spread = f" ({number(min(self.values))} to {number(max(self.values))})" if len(set(self.values)) > 1 else ""
        return f"{number(self.median)} {self.unit}".rstrip() + spread


def machine() -> dict[str, object]:
    """What the figures were measured on. The load is that before the scenario, of the last minute."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processors": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
    }


def _asked() -> str:
    return " ".join(sys.argv[1:])


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario has measured."""

    scenario: str  # the name of its module
    title: str
    rows: tuple[Row, ...]
    notes: str = ""
    variant: str = ""  # where a scenario has several results that stand beside each other, which one it is
    charts: tuple[Chart, ...] = ()
    machine: dict[str, object] = field(default_factory=machine)
    at: str = field(default_factory=lambda: datetime.now(tz=UTC).isoformat(timespec="seconds"))
    arguments: str = field(default_factory=_asked)

    @property
    def name(self) -> str:
        """How its files are called."""
        return f"{self.scenario}-{self.variant}" if self.variant else self.scenario

    def save(self) -> None:
        """Store it in place of the scenario's last result, and print it."""
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{self.name}.json").write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        print("\n".join(self.table()))

    @classmethod
    def load(cls, path: Path) -> "Result":
        """The stored result of a scenario."""
        stored: dict[str, Any] = {"arguments": "", **json.loads(path.read_text())}
        rows = tuple(Row(**{**row, "values": tuple(row["values"])}) for row in stored.pop("rows"))
        charts = tuple(_chart(chart) for chart in stored.pop("charts", ()))
        return cls(**stored, rows=rows, charts=charts)

    def table(self) -> list[str]:
        """The lines of its section in Markdown."""
        on = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.machine.items())
        command = f"python -m benchmarks.{self.scenario} {self.arguments}".rstrip()
        lines = [f"### {self.title}", "", f"`{command}`, {self.at[:10]}, on: {on}.", ""]
        columns = tuple(dict.fromkeys(row.column for row in self.rows))
        heads = ["what", *(column or "measured" for column in columns)]
        heads += ["goal", "met"] if any(row.goal for row in self.rows) else []
        lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        lines += (f"| {' | '.join(cells[: len(heads)])} |" for cells in self._lines(columns))
        return [*lines, *(["", self.notes] if self.notes else []), ""]

    def _lines(self, columns: tuple[str, ...]) -> Iterator[list[str]]:
        for what in dict.fromkeys(row.what for row in self.rows):
            found = {row.column: row for row in self.rows if row.what == what}
            cells = [found[column].shown if column in found else "-" for column in columns]
            yield [what, *cells, _goals(found), _met(found)]


def _goals(found: dict[str, Row]) -> str:
    """The goal of a line of the table, with its columns where it is not that of all."""
    goals = {row.goal for row in found.values()}
    if len(goals) == 1:
        return goals.pop()
    return "; ".join(f"{row.goal} with {column}" for column, row in found.items() if row.goal)


def _met(found: dict[str, Row]) -> str:
    missed = [column for column, row in found.items() if row.met is False]
    if not missed:
        return "yes" if any(row.met for row in found.values()) else ""
    return "**no**" if len(found) == 1 else f"**no**: {', '.join(missed)}"


def _chart(stored: dict[str, Any]) -> Chart:
    series = {name: tuple(values) for name, values in stored.pop("series").items()}
    return Chart(**{**stored, "across": tuple(stored["across"])}, series=series)
