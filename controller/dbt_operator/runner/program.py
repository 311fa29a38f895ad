"""dbt as a program: its process, and its JSON log read line by line while it works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable

from dbt_operator.runner.as_attributes import Attributes
from dbt_operator.runner.output import Line, plain
from dbt_operator.runner.signals import Cancellation

_LAST_WORDS = 20
# What dbt 2 adds to an error where this is set in an image is of no use to anybody but its authors.
_QUIET = {"RUST_BACKTRACE": "0", "RUST_LIB_BACKTRACE": "0"}


@dataclass
class Ended:
    """What a process of dbt has said and how it ended. `answers`: what it printed that is no event."""

    code: int = 0
    interrupted: bool = False
    answers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    words: deque[str] = field(default_factory=lambda: deque(maxlen=_LAST_WORDS))  # on standard error

    @property
    def message(self) -> str:
        """Why it failed, in its own words."""
        said = "\n".join(dict.fromkeys(self.errors)) or "\n".join(self.words)
        return said or f"dbt ended with code {self.code} and did not say why"


class Program:
    """The program `dbt`. `speak` is called with the stream and a text that is no event."""

    def __init__(self, *, path: str, cancellation: Cancellation, speak: Callable[[str, str], None]) -> None:
        self._path = path
        self._cancellation = cancellation
        self._speak = speak

    def options(self, words: tuple[str, ...]) -> frozenset[str]:
        """The parameters of a command, as its help names them. Raises: OSError."""
        text = self._asked(*words, "--help")
        found = (word.strip("[](),.;:'\"`").partition("=")[0] for word in text.split())
        return frozenset(word[2:].replace("-", "_") for word in found if word.startswith("--") and len(word) > 2)

    def _asked(self, *arguments: str) -> str:
        line = [self._path, *arguments]
        with self._cancellation.interruptible():
            return subprocess.run(  # noqa: S603 - the dbt of the image
                line, capture_output=True, text=True, check=False, errors="replace"
            ).stdout

    def run(self, arguments: list[str], *, take: Callable[[Any], None], aloud: bool) -> Ended:
        """Run it to its end; `take` is called with each event at once, from one thread. Raises: OSError.

        aloud: what it prints besides is spoken. When the wish to stop comes it is asked to end, as ctrl-c does: then it
        cancels its queries, and says what has become of them.
        """
        ended = Ended()
        with subprocess.Popen(  # noqa: S603 - the dbt of the image, with the arguments of the run
            [self._path, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_QUIET},
        ) as child:
            # Threads: an interrupt must not cost a line that was read by half.
            readers = [
                threading.Thread(target=self._events, args=(child.stdout, ended, take, aloud), name="dbt-events"),
                threading.Thread(target=self._words, args=(child.stderr, ended, aloud), name="dbt-words"),
            ]
            for reader in readers:
                reader.daemon = True
                reader.start()
            try:
                with self._cancellation.interruptible():
                    child.wait()
            except KeyboardInterrupt:
                ended.interrupted = True
                child.send_signal(signal.SIGINT)
                child.wait()
            for reader in readers:
                reader.join()
        ended.code = child.returncode
        return ended

    def _events(self, stream: Any, ended: Ended, take: Callable[[Any], None], aloud: bool) -> None:
        for raw in stream:
            text = raw.decode("utf-8", "replace").rstrip("\r\n")
            line = event(text)
            if line is None:
                if text.strip():
                    ended.answers.append(text)
                    if aloud:
                        self._speak("stdout", text)
                continue
            if line["info"].get("level") == "error":
                ended.errors.append(_error(line))
            take(Attributes(line))

    def _words(self, stream: Any, ended: Ended, aloud: bool) -> None:
        for raw in stream:
            text = plain(raw.decode("utf-8", "replace").rstrip("\r\n"))
            if text.strip():
                ended.words.append(text)
                if aloud:
                    self._speak("stderr", text)


def event(text: str) -> Line | None:
    """The event on a line of dbt's JSON log; None where it is none."""
    if not text.startswith("{"):
        return None
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    info = line.get("info") if isinstance(line, dict) else None
    if not isinstance(info, dict) or not info.get("name"):
        return None
    # The fields that every event of the Python API has.
    for name in ("invocation_id", "level", "msg"):
        info.setdefault(name, "")
    if not isinstance(line.get("data"), dict):
        line["data"] = {}
    if info["name"].startswith("SQLQuery"):
        # Of a query that belongs to no node.
        line["data"]["node_info"] = {"unique_id": "", **(line["data"].get("node_info") or {})}
    return dict(line)


def _error(line: Line) -> str:
    data = line["data"]
    return plain(str(data.get("exc") or data.get("msg") or line["info"]["msg"])).strip()
