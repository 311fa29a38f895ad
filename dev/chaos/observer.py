"""Watches a run from outside while it is disturbed: dbt's words, and when a node was first shown as successful."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dev.chaos.cluster import ChaosCluster
from dev.chaos.evidence import Stored, unhandled
from dev.chaos.logs import Logs
from dev.chaos.project import NODES, RUN

_LOOKS_EVERY = 0.2
_ASKS_EVERY = 4
"""The API is asked at every fourth look at the logs."""
_GROUP = "/apis/dbt-operator.io/v1alpha1/namespaces"


@dataclass(kw_only=True)
class Observer:
    """To be used as a context manager: it looks in a thread of its own from the beginning to the end."""

    cluster: ChaosCluster
    namespace: str
    logs: Logs = field(init=False)
    run: Mapping[str, Any] = field(default_factory=dict)
    _asked: bool = False
    _since: dict[str, datetime] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)
    _lost_again: dict[str, str] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.logs = Logs(folder=self.cluster.settings.pod_logs, namespace=self.namespace)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.logs.close()

    @property
    def reported(self) -> int:
        """How many nodes dbt has reported as done."""
        done = {report.unique_id for report in tuple(self.logs.reports) if report.status == "success"}
        return min(NODES, sum(not name.startswith(("test.", "operation.")) for name in done))

    @property
    def ended(self) -> bool:
        """Whether the run has ended, and nothing that somebody asked of it or of its nodes is left to be done."""
        return "completionTime" in self.run.get("status", {}) and unhandled(self.run) is None and not self._asked

    @property
    def stored(self) -> Stored:
        """What was seen of the nodes' objects."""
        return Stored(since=dict(self._since), lost_again=dict(self._lost_again))

    def _watch(self) -> None:
        looks = 0
        while not self._ended.is_set():
            self.logs.read()
            if looks % _ASKS_EVERY == 0:
                self._ask()
            looks += 1
            self._ended.wait(_LOOKS_EVERY)
        self.logs.read()

    def _ask(self) -> None:
        self.run = self.cluster.read(f"{_GROUP}/{self.namespace}/dbtruns/{RUN}") or self.run
        listed = self.cluster.read(f"{_GROUP}/{self.namespace}/dbtmodels")
        now = datetime.now(UTC)
        self._asked = any(unhandled(model) is not None for model in (listed or {}).get("items", ()))
        for model in (listed or {}).get("items", ()):
            self._see(model["spec"]["name"], model.get("status", {}), now)

    def _see(self, name: str, status: Mapping[str, Any], now: datetime) -> None:
        """A built node is Succeeded while its tests are still to come: what they say may change that, once."""
        if status.get("phase") == "Succeeded":
            self._since.setdefault(name, now)
            tests = status.get("tests", {})
            if tests.get("passed", 0) == tests.get("total", 0):
                self._settled.add(name)
        elif name in self._settled or (name in self._since and status.get("phase") != "Failed"):
            self._lost_again.setdefault(name, f"{status.get('phase')} ({status.get('reason')})")
