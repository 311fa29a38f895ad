"""The programs of init containers: `runner.pyz STEP [option …]` makes something ready before dbt begins.

A step that fails writes one sentence to the termination message of its container, which the operator reads from the
pod. What a step has found out goes to a file, which the runner prints before anything else happens; and into that
message too, for the case that the beginning of the log is rotated away before anybody has read it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from dbt_operator.runner.masking import Masker, secret_values

TERMINATION_MESSAGE = "/dev/termination-log"
# Of several containers Kubernetes keeps 12 KiB together, and of one 4 KiB.
_LONGEST = 2000


class StepError(Exception):
    """A step has failed; the text is one sentence for `status.message`. `passing`: another try may well succeed."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True)
class Step:
    """A program: `module` has a function `run` that takes its arguments and returns what it has found out by name."""

    module: str
    reason: str  # of the run, where it fails


UNAVAILABLE = "SourceUnavailable"  # the reason where the failure may pass
STEPS: Mapping[str, Step] = {
    "fetch": Step(module="dbt_operator.runner.fetch", reason="ProjectFetchFailed"),
    "fetch-state": Step(module="dbt_operator.runner.fetch_state", reason="StateUnavailable"),
    "environment": Step(module="dbt_operator.runner.virtualenv", reason="EnvironmentFailed"),
}


def run_if_asked(argv: list[str]) -> None:
    """Run the step that the first argument names, and end the process; return where it names none."""
    if not argv or argv[0] not in STEPS:
        return
    step = STEPS[argv[0]]
    parser = argparse.ArgumentParser(prog=f"runner.pyz {argv[0]}", add_help=False, allow_abbrev=False)
    parser.add_argument("--found", metavar="FILE", help="where to write what was found out")
    parser.add_argument("--secret-file", action="append", default=[], metavar="PATH", dest="secret_files")
    parser.add_argument("--termination-message", default=TERMINATION_MESSAGE, metavar="FILE")
    ours, others = parser.parse_known_args(argv[1:])
    masker = Masker(values=secret_values(names=(), files=ours.secret_files, environ=os.environ))
    _end_on_signals()
    try:
        found = importlib.import_module(step.module).run(others)
        if ours.found:
            Path(ours.found).write_text(json.dumps(found), encoding="utf-8")
            _tell({"found": found}, file=Path(ours.termination_message))
    except StepError as error:
        reason = UNAVAILABLE if error.passing else step.reason
        _fail(reason, masker.text(str(error)), file=Path(ours.termination_message))
    except Exception as error:  # noqa: BLE001 - a mistake of ours, or an image too strange: said all the same
        message = masker.text(f"{argv[0]} ended with {type(error).__name__}: {error}.")
        _fail(step.reason, message, file=Path(ours.termination_message))
    sys.exit(0)


def found_in(files: Iterable[str]) -> dict[str, str]:
    """What steps have written to these files."""
    found: dict[str, str] = {}
    for file in files:
        found.update(json.loads(Path(file).read_text(encoding="utf-8")))
    return found


def _fail(reason: str, message: str, *, file: Path) -> NoReturn:
    message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
    sys.stderr.write(f"{message}\n")
    _tell({"reason": reason, "message": message}, file=file)
    sys.exit(1)


def _tell(words: dict[str, Any], *, file: Path) -> None:
    try:
        file.write_text(json.dumps(words), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"the termination message was not written: {error}\n")


def _end_on_signals() -> None:
    """As PID 1 of a container a process ignores signals that it has no handler for, and the archive blocks these."""

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
