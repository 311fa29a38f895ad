"""The parts of an attempt that dbt executes in processes of their own: what they print is printed on, in one sequence.

A part is this same program. It ends with a file of its results in place of the record, which is for the whole attempt.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

from dbt_operator.runner.outcome import Outcome
from dbt_operator.runner.output import Line

RENDER, DBT = PARTS = ("render", "dbt")
ENDED = "ended.json"
# What the attempt says itself, once for all of its parts.
_DROPPED = frozenset(
    (
        *("RunnerStarted", "CancelRequested", "CommandStarted", "ConcurrencyLine"),
        *("StatsLine", "FinishedRunningStats", "EndOfRunSummary", "PartFinished"),
    )
)
# What the first part has said, of all nodes.
_FIRST_ONLY = frozenset(
    (
        *(
            "SelectedNodes",
            "Hooks",
            "MainReportVersion",
            "AdapterRegistered",
            "UnableToPartialParse",
            "DefaultSelector",
        ),
        *("DatabaseFile", "DeadlinesIgnored"),
    )
)


class PartDiedError(Exception):
    """A process of dbt has left nothing, which is an end of the whole attempt. `signal`: by which it was killed."""

    def __init__(self, code: int) -> None:
        super().__init__(f"dbt ended with {code}")
        self.signal = max(-code, 0)


@dataclass(frozen=True)
class Ended:
    """What a part has left: its outcome, and what later ones need to know."""

    outcome: Outcome
    said: Line


class Parts:
    """Starts parts, one at a time.

    start: the folder in which the attempt was started, in which its arguments mean what they mean.
    print_line: takes each line that is to be printed.
    """

    def __init__(self, *, argv: list[str], start: str, folder: Path, print_line: Callable[[Line], None]) -> None:
        self._argv = argv
        self._start = start
        self._folder = folder
        self._print = print_line
        self._child: subprocess.Popen[bytes] | None = None
        self._count = 0
        self._stopping = False

    def run(self, part: str, *, options: Mapping[str, str], connection: list[Line] | None = None) -> Ended:
        """Run a part to its end. Called in a thread. Raises: PartDiedError.

        connection: gets the arguments by which dbt connects.
        """
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir(mode=0o700)
        reading, writing = os.pipe()
        line = command(self._argv, part=part, folder=folder, pipe=writing, options=options)
        os.set_inheritable(writing, True)
        # Open descriptors that are meant for children are kept: one of them may be the claim of a local run's attempt.
        child = subprocess.Popen(  # noqa: S603 - this program
            line, cwd=self._start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
        )
        os.close(writing)
        self._child = child
        if self._stopping:
            self.stop()
        with child, os.fdopen(reading, "rb") as pipe:
            for raw in child.stdout or ():
                self._take(raw, first=part == RENDER)
            child.wait()
            told = pipe.read()
        self._child = None
        if connection is not None and told:
            connection.append(json.loads(told))
        try:
            said = json.loads((folder / ENDED).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PartDiedError(child.returncode) from error
        return Ended(outcome=Outcome(**said.pop("outcome")), said=said)

    @property
    def folder(self) -> Path:
        """That of the latest part."""
        return self._folder / str(self._count)

    def stop(self) -> None:
        """Have the part that runs stop as the attempt would have to; no other one goes on after that."""
        self._stopping = True
        child = self._child
        if child is not None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGTERM)

    def _take(self, raw: bytes, *, first: bool) -> None:
        try:
            line = json.loads(raw)
            name = line["info"]["name"]
        except (ValueError, KeyError, TypeError):
            return  # nothing but the part itself can write there
        if name in _DROPPED or (name in _FIRST_ONLY and not first):
            return
        line.pop("seq", None)
        self._print(line)


def command(argv: list[str], *, part: str, folder: Path, pipe: int, options: Mapping[str, str]) -> list[str]:
    """The command line of a part: that of the attempt, with these options in place of the same ones of the attempt."""
    split = argv.index("--") if "--" in argv else len(argv)
    own = list(argv[1:split])
    for name in options:
        own = without(own, name)
    added = [f"{name}={value}" for name, value in options.items() if value]
    return [
        *(sys.executable, argv[0], *own, *added),
        *(f"--part={part}", f"--part-folder={folder}", f"--part-pipe={pipe}"),
        *argv[split:],
    ]


def without(arguments: list[str], name: str) -> list[str]:
    """The arguments without this option, in both of its spellings."""
    kept: list[str] = []
    skip = False
    for one in arguments:
        if skip:
            skip = False
        elif one == name:
            skip = True
        elif not one.startswith(f"{name}="):
            kept.append(one)
    return kept


def leave(ended: Line, *, folder: str) -> None:
    """Write what a part has come to. Raises: OSError."""
    file = Path(folder) / ENDED
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(ended, default=str), encoding="utf-8")
    fresh.replace(file)


def end_with_parent(stop: Callable[[], Any]) -> None:
    """Have this process stop when the one that has started it is gone: nobody would hear what it says."""

    def watch() -> None:
        with contextlib.suppress(OSError):
            os.read(0, 1)
        stop()

    threading.Thread(target=watch, name="runner-parent", daemon=True).start()
