"""The tests of the runner and of connections against every dbt and Python that is supported, as far as they are here.

    python -m dev.versions                all pairs
    python -m dev.versions 1.8            those of one dbt
    python -m dev.versions -- -k errors   with arguments for pytest

The pair that `make test` drives, the newest dbt on the operator's Python, is not among them. An interpreter is taken
from the PATH, from pyenv or from uv; none is downloaded, and a pair whose interpreter is missing is named and left out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dev import dbt_venv

NEWEST = "newest"
DBT_2 = "2"
# The oldest dbt on the oldest Python, the newest on the newest that it runs on, and what lies between them.
PAIRS = (("1.8", "3.9"), ("1.8", "3.11"), ("1.10", "3.11"), (NEWEST, "3.13"), ("1.12", "3.11"), (DBT_2, "3.11"))
# Versions of dbt-bigquery, each with the dbt of its time.
BIGQUERY = tuple((f"bigquery-{version}", "3.11") for version in ("1.8", "1.9", "1.10", "1.11"))
# With these the tests of a project that has everything, and not those of every behaviour of dbt 1.11.
_EVERYTHING = ("tests/unit/runner/test_everything.py", "tests/unit/runner/test_by_program.py")
_TESTS = {
    "1.12": _EVERYTHING,
    DBT_2: _EVERYTHING[1:],
    **dict.fromkeys(dict(BIGQUERY), ("tests/bigquery/test_statements.py", "tests/bigquery/test_kept_sql.py")),
}
_ALL = ("tests/unit/runner", "tests/adapters")
_VARIABLE = {
    DBT_2: "DBT_OPERATOR_TEST_DBT_2_PYTHON",
    **dict.fromkeys(dict(BIGQUERY), "DBT_OPERATOR_TEST_BIGQUERY_PYTHON"),
}
_PLACES = ("~/.pyenv/versions/{}.*/bin/python", "~/.local/share/uv/python/cpython-{}*/bin/python3")


def requirements(dbt: str) -> Path:
    """The locked requirements of a dbt."""
    return dbt_venv.REQUIREMENTS if dbt == NEWEST else dbt_venv.FOLDER / f"dbt-{dbt}.txt"


def interpreter(version: str) -> str | None:
    """A Python of this version on this machine; None where there is none."""
    return next((found for found in _candidates(version) if _is(found, version)), None)


def _candidates(version: str) -> Iterator[str]:
    named = shutil.which(f"python{version}")
    if named is not None:
        yield named
    for place in _PLACES:
        home, pattern = Path.home(), place.format(version).removeprefix("~/")
        yield from (str(found) for found in sorted(home.glob(pattern)))


def _is(python: str, version: str) -> bool:
    # A shim of pyenv is there and refuses to run.
    ask = [python, "-c", "import sys, venv; print('{}.{}'.format(*sys.version_info))"]
    answer = subprocess.run(ask, capture_output=True, text=True, check=False)
    return answer.returncode == 0 and answer.stdout.strip() == version


def run(dbt: str, version: str, *, arguments: list[str]) -> str:
    """Run the tests with a pair; in a word or two how that went."""
    found = interpreter(version)
    if found is None:
        return f"left out: this machine has no Python {version}"
    python = dbt_venv.ensure(requirements=requirements(dbt), python=found)
    environment = os.environ | {_VARIABLE.get(dbt, "DBT_OPERATOR_TEST_DBT_PYTHON"): str(python)}
    if dbt == DBT_2:
        environment["DBT_OPERATOR_TEST_DBT_PYTHON"] = str(dbt_venv.ensure())
        environment["DBT_OPERATOR_TEST_DBT_1_AS_PROGRAM"] = "yes"
    tests = [sys.executable, "-m", "pytest", "-q", *_TESTS.get(dbt, _ALL), *arguments]
    return "passed" if subprocess.run(tests, env=environment, check=False).returncode == 0 else "failed"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dev.versions", description="Test the runner with other versions.")
    parser.add_argument(
        "dbt", nargs="?", choices=sorted({dbt for dbt, _ in (*PAIRS, *BIGQUERY)}), help="only with this dbt"
    )
    own, further = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, further = own[:at], own[at + 1 :]
    wanted = parser.parse_args(own).dbt
    results: dict[tuple[str, str], str] = {}
    for dbt, version in (*PAIRS, *BIGQUERY):
        if wanted in (None, dbt):
            print(f"dbt {dbt} on Python {version}", flush=True)
            results[dbt, version] = run(dbt, version, arguments=further)
    for (dbt, version), result in results.items():
        print(f"dbt {dbt:13} on Python {version:4}  {result}")
    return 1 if "failed" in results.values() else 0


if __name__ == "__main__":
    sys.exit(main())
