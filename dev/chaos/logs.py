"""What dbt said, read on the node itself: whoever deletes a pod, rotates its log or restarts the kubelet takes nothing
away from here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Any

from dev.chaos.evidence import Report

CONTAINER = "dbt"
_FINISHED = "RunFinished"
_RESULTS = ("NodeResult", "LogModelResult", "LogSeedResult", "LogTestResult")
"""The runner's words, and those of dbt's that come a moment before them: a pod may die in between."""
_EVENTS = tuple(f'"{name}"'.encode() for name in (_FINISHED, *_RESULTS))


@dataclass(kw_only=True)
class _File:
    """A file that stays readable after it has been deleted, because it stays open."""

    stream: BufferedReader
    pod: str
    begun: bytes = b""

    def lines(self) -> list[bytes]:
        """Whole lines that were added since the last time."""
        *whole, self.begun = (self.begun + self.stream.read()).split(b"\n")
        return whole


def content(line: bytes) -> bytes:
    """What the container wrote, from a line as the container runtime stores it: time, stream, F, content."""
    return line.split(b" ", maxsplit=3)[-1]


@dataclass(kw_only=True)
class Logs:
    """The logs of all pods of a namespace. Not for more than one thread.

    finished: invocations that came to an end of their own; a cancelled one may have lost its connection, and so the
    answer of the warehouse, after the commit; pods: those of the invocations; rotated: pods with more than one file, of
    which the kubelet hands out the newest only.
    """

    folder: Path
    namespace: str
    reports: list[Report] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    pods: dict[str, str] = field(default_factory=dict)
    rotated: set[str] = field(default_factory=set)
    _files: dict[int, _File] = field(default_factory=dict)

    def read(self) -> None:
        """Read what is new. To be called often: what comes and goes between two calls is missed."""
        for path in self.folder.glob(f"{self.namespace}_*/{CONTAINER}/*.log*"):
            self._open(path)
        for file in self._files.values():
            for line in file.lines():
                if any(name in line for name in _EVENTS):
                    self._take(content(line), pod=file.pod)

    def close(self) -> None:
        """No more reading."""
        for file in self._files.values():
            file.stream.close()

    def _open(self, path: Path) -> None:
        if path.suffix in (".gz", ".tmp"):
            return  # a copy of what was read before it was packed
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            return
        inode = path.stat().st_ino if path.exists() else 0
        if not inode or inode in self._files:
            stream.close()
            return
        pod = path.parts[-3].split("_")[1]
        if any(file.pod == pod for file in self._files.values()):
            self.rotated.add(pod)
        self._files[inode] = _File(stream=stream, pod=pod)

    def _take(self, text: bytes, *, pod: str) -> None:
        try:
            event = json.loads(text)
            info, data = event["info"], event["data"]
            if info["name"] == _FINISHED:
                if not data["cancelled"]:
                    self.finished.add(str(data["invocation_id"]))
            elif info["name"] in _RESULTS:
                self.reports.append(_report(info, data))
                self.pods[str(info["invocation_id"])] = pod
        except (ValueError, KeyError, TypeError):
            return  # a name of an event in another line's text


def _report(info: dict[str, Any], data: dict[str, Any]) -> Report:
    node = data.get("node_info", {})
    unique_id = str(data.get("unique_id") or node["unique_id"])
    return Report(
        unique_id=unique_id,
        name=str(node.get("node_name") or data["name"]),
        # A test's result stands beside what dbt says of it as a node, everything else's in there.
        status=str(data["status"] if unique_id.startswith("test.") or not node else node["node_status"]),
        invocation=str(info["invocation_id"]),
        at=datetime.fromisoformat(info["ts"].replace("Z", "+00:00")),
    )
