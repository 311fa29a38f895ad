"""Writes the tables of benchmarks/README.md, and its plots, from the stored results: `python -m benchmarks.report`."""

from pathlib import Path

from benchmarks.charts import svg
from benchmarks.results import FOLDER, Result

README = Path(__file__).parent / "README.md"
MARK = "<!-- what follows is written by python -m benchmarks.report -->"


def section(result: Result) -> list[str]:
    """The lines of a result: its table and its plots."""
    plots = [f"![{chart.title}]({FOLDER.name}/{_file(result, at)})" for at, chart in enumerate(result.charts, start=1)]
    return [*result.table(), *(line for plot in plots for line in (plot, ""))]


def write(*, readme: Path, folder: Path) -> None:
    """Replace what stands below the mark, and the plots of the folder."""
    results = [Result.load(path) for path in sorted(folder.glob("*.json"))]
    for plot in folder.glob("*.svg"):
        plot.unlink()
    for result in results:
        for at, chart in enumerate(result.charts, start=1):
            (folder / _file(result, at)).write_text(svg(chart))
    before = readme.read_text().partition(MARK)[0]
    lines = [line for result in results for line in section(result)]
    readme.write_text(before + MARK + "\n\n" + "\n".join(lines).rstrip() + "\n")


def _file(result: Result, at: int) -> str:
    return f"{result.name}-{at}.svg"


if __name__ == "__main__":
    write(readme=README, folder=FOLDER)
