"""Finding the Python that dbt lives in: that of a virtual environment made for the run, or of the image's dbt.

`python3` of an image is often not the one dbt was installed for (a virtual environment, pipx, a distribution's Python
beside a compiled one). The script `dbt` on PATH knows: its first line names its interpreter.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import signal
import sys
from pathlib import Path

from dbt_operator.runner.venv_place import read_place

# Set across exec: an interpreter that was chosen once and still has no dbt must not be chosen for ever.
GUARD = "DBT_OPERATOR_RUNNER_EXEC"
OLDEST = (1, 8)


def dbt_version() -> str:
    """The version of dbt-core installed for this interpreter, "" when there is none. Imports nothing of dbt."""
    try:
        return importlib.metadata.version("dbt-core")
    except importlib.metadata.PackageNotFoundError:
        return ""


def program() -> str:
    """The path of a dbt that is a program and has no Python API, as dbt 2 has none; "" where there is another dbt.

    A script that does not start with Python counts as one: whatever it starts.
    """
    if dbt_version().startswith("1."):
        return ""
    found = shutil.which("dbt")
    return found if found and not interpreter_of(found) else ""


def supported(version: str) -> bool:
    """Whether this version has the Python API the runner is written for."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and (int(numbers.group(1)), int(numbers.group(2))) >= OLDEST


def continue_in_dbts_interpreter(*, environment: str) -> None:
    """Replace this process by the same program under dbt's Python; returns when that is this one or none is found.

    environment: the folder in which it is said where the virtual environment of this run is; "": it has none.
    """
    guarded = os.environ.pop(GUARD, "")
    if guarded:
        return
    python = _of_environment(environment) if environment else _of_image()
    if not python:
        return
    os.environ[GUARD] = "1"
    # The kernel drops a signal that arrives for PID 1 while it has no handler, as it has none between exec and the
    # next installation. A blocked signal is kept instead, and the mask survives exec; handlers unblock it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        os.execv(python, [python, *sys.argv])  # noqa: S606 - an interpreter named by the image itself, no shell
    except OSError:
        os.environ.pop(GUARD, None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})


def in_environment(folder: str) -> bool:
    """Whether this process has the interpreter of the environment that the folder names."""
    try:
        return read_place(folder).here
    except (OSError, ValueError, TypeError):
        return False


def _of_environment(folder: str) -> str:
    try:
        place = read_place(folder)
    except (OSError, ValueError, TypeError):
        return ""  # said once its lines can be read
    place.enter()
    return place.python


def _of_image() -> str:
    return "" if dbt_version() else interpreter_of(shutil.which("dbt"))


def interpreter_of(script: str | None) -> str:
    """The interpreter a script starts with, "" when it is no script or its interpreter is not Python."""
    if not script:
        return ""
    try:
        with Path(script).open("rb") as file:
            head = file.read(4096).decode("utf-8", "replace")
    except OSError:
        return ""
    if not head.startswith("#!"):
        return ""
    lines = head.splitlines()
    words = lines[0][2:].split()
    if words and Path(words[0]).name == "env":
        words = [found for found in (shutil.which(word) for word in words[1:] if not word.startswith("-")) if found]
    elif words and Path(words[0]).name in ("sh", "bash", "dash"):
        words = _trampoline(lines[1:])
    if not words or "python" not in Path(words[0]).name or not os.access(words[0], os.X_OK):
        return ""
    return words[0]


def _trampoline(lines: list[str]) -> list[str]:
    # Where the interpreter's path is too long for a first line, installers write a script that is shell and Python:
    #   #!/bin/sh
    #   '''exec' '/very/long path/python' "$0" "$@"
    for line in lines[:4]:
        if "exec" in line:
            try:
                words = shlex.split(line.replace("'''exec'", "exec", 1).replace('"""exec"', "exec", 1))
            except ValueError:
                return []
            rest = words[words.index("exec") + 1 :] if "exec" in words else []
            return [os.path.expandvars(word) for word in rest[:1]]
    return []
