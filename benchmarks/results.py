"""What a scenario has measured: JSON in `benchmarks/results/`, and a table in benchmarks/README.md."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `values` are those of the repetitions; the goal is a bound of their median.

    of: whose figure it is, where several are compared: each of them has a line in the table, and each figure a column.
    """

    what: str
    values: tuple[float, ...]
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    of: str = ""

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
            return f"≤ {_number(self.at_most)} {self.unit}".rstrip()
        return "" if self.at_least is None else f"≥ {_number(self.at_least)} {self.unit}".rstrip()

    @property
    def shown(self) -> str:
        """The figure as the table shows it: the median, and the smallest and largest where they differ."""
        spread = f" ({_number(min(self.values))} to {_number(max(self.values))})" if len(set(self.values)) > 1 else ""
        return f"{_number(self.median)} {self.unit}".rstrip() + spread


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


@dataclass(frozen=True, slots=True)
class Result:
    """What one scenario has measured."""

    scenario: str  # the name of its module
    title: str
    rows: tuple[Row, ...]
    notes: str = ""
    machine: dict[str, object] = field(default_factory=machine)
    at: str = field(default_factory=lambda: datetime.now(tz=UTC).isoformat(timespec="seconds"))

    def save(self) -> None:
        """Store it in place of the scenario's last result, and print it."""
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{self.scenario}.json").write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")
        print("\n".join(self.table()))

    @classmethod
    def load(cls, path: Path) -> "Result":
        """The stored result of a scenario."""
        stored = json.loads(path.read_text())
        rows = tuple(Row(**{**row, "values": tuple(row["values"])}) for row in stored.pop("rows"))
        return cls(**stored, rows=rows)

    def table(self) -> list[str]:
        """The lines of its section in Markdown."""
        on = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in self.machine.items())
        lines = [f"### {self.title}", "", f"`python -m benchmarks.{self.scenario}`, {self.at[:10]}, on: {on}.", ""]
        lines += compared(self.rows) if any(row.of for row in self.rows) else _one_by_one(self.rows)
        return [*lines, *(["", self.notes] if self.notes else []), ""]


def _one_by_one(rows: Sequence[Row]) -> list[str]:
    words = {True: "yes", False: "**no**", None: ""}
    lines = [f"| {row.what} | {row.shown} | {row.goal} | {words[row.met]} |" for row in rows]
    return ["| what | measured | goal | met |", "|---|---|---|---|", *lines]


def compared(rows: Sequence[Row]) -> list[str]:
    """A table with a line for each of whom there are figures; what was not measured is a dash."""
    columns, found = list(dict.fromkeys(row.what for row in rows)), {(row.of, row.what): row.shown for row in rows}
    lines = [[of, *(found.get((of, what), "-") for what in columns)] for of in dict.fromkeys(row.of for row in rows)]
    heads = [["", *columns], ["---"] * (len(columns) + 1)]
    return [f"| {' | '.join(cells)} |" for cells in [*heads, *lines]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
