"""Writes the tables of benchmarks/README.md from the stored results: `python -m benchmarks.report`."""

from pathlib import Path

from benchmarks.results import FOLDER, Result

README = Path(__file__).parent / "README.md"
MARK = "<!-- what follows is written by python -m benchmarks.report -->"


def main() -> None:
    """Replace what stands below the mark."""
    before = README.read_text().partition(MARK)[0]
    lines = [line for path in sorted(FOLDER.glob("*.json")) for line in Result.load(path).table()]
    README.write_text(before + MARK + "\n\n" + "\n".join(lines).rstrip() + "\n")


if __name__ == "__main__":
    main()
