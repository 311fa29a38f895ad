"""What a step may use: time, and room on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from dbt_operator.runner.steps import StepError

_LOOK_SECONDS = 0.2


class ProgramError(Exception):
    """A program has ended with a failure; the text is what it has said."""


class Limits:
    """How long a step may take from now on, and how large what it fetches may become."""

    def __init__(self, *, tree: Path, size: int, seconds: float, field: str, what: str = "the project") -> None:
        self.tree = tree
        self.what = what  # is fetched, for sentences
        self.size = size
        self.field = field  # of the spec, whose sizeLimit and timeoutSeconds these are
        self._seconds = seconds
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """How many seconds are left."""
        return self._until - time.monotonic()

    def check(self) -> None:
        """Raises: StepError where too much of either is used."""
        self.check_time()
        self.check_size(size_of(self.tree))

    def check_time(self) -> None:
        """Raises: StepError where no time is left."""
        if self.left <= 0:
            raise StepError(
                f"Fetching {self.what} took longer than {self.field}.timeoutSeconds ({self._seconds:.0f} s) allows:"
                f" check whether the server of {self.field}.url answers.",
                passing=True,
            )

    def check_size(self, size: int) -> None:
        """Raises: StepError where so many bytes are too many."""
        if size > self.size:
            raise StepError(
                f"{self.what[:1].upper()}{self.what[1:]} is larger than {self.field}.sizeLimit ({_in_words(self.size)})"
                " allows: raise it, or keep large files elsewhere."
            )


def _in_words(size: int) -> str:
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size} bytes"


def size_of(folder: Path) -> int:
    """How much the files of the folder take; files may come and go meanwhile."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(directory, name).lstat().st_size
            except OSError:  # noqa: PERF203 - each file may be gone by itself
                continue
    return total


def run_within(limits: Limits, argv: list[str], *, env: Mapping[str, str], cwd: Path) -> str:
    """Run a program; returns its output. Raises: ProgramError with its errors; StepError, and it is killed."""
    process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
        argv,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        while True:
            try:
                out, err = process.communicate(timeout=_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                limits.check()
    finally:
        # With what it has started: git starts ssh, and others. Also when this process is told to end.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    limits.check()
    if process.returncode:
        raise ProgramError(err.decode("utf-8", "replace"))
    return out.decode("utf-8", "replace")
