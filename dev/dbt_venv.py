"""The environment with a real dbt that the runner's tests drive: built once per content of requirements/dbt.txt.

`python -m dev.dbt_venv` prints the path of its Python and builds it when it is not there yet.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements" / "dbt.txt"


def location(*, requirements: Path = REQUIREMENTS) -> Path:
    """Where the environment for exactly these requirements and this Python lives."""
    python = f"{sys.base_prefix} {sys.version_info[:2]}\n"
    digest = hashlib.sha256(python.encode() + requirements.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "dbt-operator" / f"dbt-venv-{digest}"


def ensure(*, requirements: Path = REQUIREMENTS) -> Path:
    """The environment's Python, after building the environment if necessary."""
    home = location(requirements=requirements)
    python, complete = home / "bin" / "python", home / "complete"
    home.parent.mkdir(parents=True, exist_ok=True)
    # Built in place under a lock and marked complete last, not built elsewhere and renamed: the scripts of a virtual
    # environment (`dbt` among them, whose first line the tests read) contain the path they were installed at.
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(home, ignore_errors=True)
            venv.create(home, with_pip=True)
            # No resolution of dependencies: the list is complete, and pip takes "mashumaro[msgpack]" for unpinned.
            pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
            # pip's words go to standard error: standard output is this command's answer.
            subprocess.run([*pip, "-r", str(requirements)], check=True, stdout=sys.stderr)
            complete.touch()
    return python


if __name__ == "__main__":
    print(ensure())
