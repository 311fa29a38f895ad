"""Keeps the chart's copies of the CRDs equal to crds/, the source of truth.

    python -m dev.chart           copy crds/ into the chart
    python -m dev.chart --check   say what differs, and fail if anything does

Copies, because `helm package` takes only what lies in the chart's folder and follows no links out of it.
"""

import argparse
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCE = CHECKOUT / "crds"
COPY = CHECKOUT / "charts" / "dbt-operator" / "files" / "crds"


def differences(*, source: Path = SOURCE, copy: Path = COPY) -> tuple[str, ...]:
    """Names of the files that are missing in the copy, too many, or of another content."""
    wanted = {path.name: path.read_bytes() for path in source.glob("*.yaml")}
    present = {path.name: path.read_bytes() for path in copy.glob("*")}
    return tuple(sorted(name for name in wanted | present if wanted.get(name) != present.get(name)))


def write(*, source: Path = SOURCE, copy: Path = COPY) -> None:
    """Make the copy equal to the source."""
    copy.mkdir(parents=True, exist_ok=True)
    for name in differences(source=source, copy=copy):
        original = source / name
        if original.exists():
            (copy / name).write_bytes(original.read_bytes())
        else:
            (copy / name).unlink()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.chart", description="Copy crds/ into the chart.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the copies differ")
    if not parser.parse_args().check:
        write()
        return 0
    stale = differences()
    if stale:
        print(f"The chart's copies of crds/ differ ({', '.join(stale)}): run python -m dev.chart", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
