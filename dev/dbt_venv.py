"""The environments with a real dbt that the runner's tests drive: each built once per content of its requirements.

`python -m dev.dbt_venv` prints the path of the Python with the newest dbt, and builds it when it is not there yet;
`python -m dev.dbt_venv adapters` that of the one with every adapter. The others are those of `python -m dev.versions`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
REQUIREMENTS = FOLDER / "dbt.txt"

_ABOUT = "import sys; print(sys.base_prefix, sys.version_info[:2])"


def location(*, requirements: Path = REQUIREMENTS, python: str = sys.executable) -> Path:
    """Where the environment for exactly these requirements and this Python lives."""
    about = subprocess.run([python, "-c", _ABOUT], check=True, capture_output=True).stdout
    digest = hashlib.sha256(about + requirements.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dbt-operator" / f"dbt-venv-{digest}"


def ensure(*, requirements: Path = REQUIREMENTS, python: str = sys.executable) -> Path:
    """The environment's Python, after building the environment if necessary."""
    home = location(requirements=requirements, python=python)
    own, complete = home / "bin" / "python", home / "complete"
    home.parent.mkdir(parents=True, exist_ok=True)
    # Built in place under a lock and marked complete last, not built elsewhere and renamed: the scripts of a virtual
    # environment (`dbt` among them, whose first line the tests read) contain the path they were installed at.
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(home, ignore_errors=True)
            subprocess.run([python, "-m", "venv", str(home)], check=True, stdout=sys.stderr)
            # No resolution of dependencies: the list is complete, and pip takes "mashumaro[msgpack]" for unpinned.
            pip = [str(own), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            # pip's words go to standard error: standard output is this command's answer.
            subprocess.run([*pip, "-r", str(requirements)], check=True, stdout=sys.stderr)
            complete.touch()
    return own


if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "dbt"
    print(ensure(requirements=FOLDER / f"{name}.txt"))
