"""The cluster as those see it who disturb it: its API, its processes, the containers of its pods."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dev.cluster import components, local, runtime
from dev.cluster.settings import Settings
from dev.install import NAMESPACE

PATIENCE = 30.0
"""How long the API server may be away before a command is given up: another fault may have stopped it."""
_PAUSE = 0.5
_LONG = timedelta(hours=1)
# What is an answer. All else, in whatever words, is a server or a connection that is away, or not ready yet.
_ANSWERS = ("(NotFound)", "(AlreadyExists)", "(BadRequest)", " is invalid", "command terminated with exit code")


class ChaosError(Exception):
    """What could not be done, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class ChaosCluster:
    """The local cluster. `turns` lets one fault after the other touch what all runs share.

    disturbed: since when, and until when, something was wrong with what all runs share, such as the operator.
    """

    settings: Settings
    turns: threading.Lock = field(default_factory=threading.Lock)
    disturbed: dict[datetime, datetime] = field(default_factory=dict)

    @contextmanager
    def disturbance(self) -> Iterator[None]:
        """Note from when until when something is wrong."""
        since = datetime.now(UTC)
        self.disturbed[since] = since + _LONG  # until it is over
        try:
            yield
        finally:
            self.disturbed[since] = datetime.now(UTC)

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = PATIENCE) -> str:
        """The output of kubectl, tried again until there is an answer. Raises: ChaosError with kubectl's words."""
        program = str(self.settings.client_binaries / "kubectl")
        argv = [program, "--kubeconfig", str(self.settings.kubeconfig), "--request-timeout=20s", *arguments]
        deadline, tries = time.monotonic() + seconds, 0
        while True:
            done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
            tries += 1
            # What was created the first time, without an answer that came through, is there the second time.
            if done.returncode == 0 or (tries > 1 and "AlreadyExists" in done.stderr):
                return done.stdout
            if time.monotonic() > deadline or any(answer in done.stderr for answer in _ANSWERS):
                raise ChaosError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
            time.sleep(_PAUSE)

    def read(self, path: str) -> dict[str, Any] | None:
        """An object or list of the API; None while there is no answer, or when it does not exist."""
        return components.read_api(self.settings, path)

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        """The pods that a label selector selects, in the order of their names. Raises: ChaosError without an answer."""
        deadline = time.monotonic() + PATIENCE
        path = f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}"
        while (found := self.read(path)) is None:
            if time.monotonic() > deadline:
                raise ChaosError("The API server does not answer.")
            time.sleep(_PAUSE)
        return sorted(found["items"], key=lambda pod: str(pod["metadata"]["name"]))

    def operator_pod(self) -> dict[str, Any] | None:
        """The operator's pod, unless it is on its way out."""
        pods = self.pods(NAMESPACE, "app.kubernetes.io/name=dbt-operator")
        return next((pod for pod in pods if "deletionTimestamp" not in pod["metadata"]), None)

    def process(self, pod: dict[str, Any]) -> int | None:
        """The process on this machine that is the first one of the pod's (only) container, while it runs."""
        ids = [str(one.get("containerID", "")).rpartition("/")[2] for one in pod["status"].get("containerStatuses", ())]
        for line in runtime.ctr(self.settings, "tasks", "list", doing="Listing containers").splitlines()[1:]:
            name, pid, state = line.split()
            if name in ids and state == "RUNNING":
                return int(pid)
        return None

    def restart(self, component: str, *, patience: float) -> None:
        """End a component of the cluster and start it again; without patience it is killed."""
        local.restart(self.settings, component, patience=patience)


def dump(manifest: dict[str, Any]) -> str:
    """A manifest as kubectl reads it."""
    return json.dumps(manifest)
