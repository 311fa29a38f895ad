"""What is seen of the operator and the cluster: objects as a watch shows them, processor time, writes."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.operator import KUBECONFIG, KUBECTL, METRICS_PORT

PARTS = ("kube-apiserver", "etcd", "kubelet", "containerd", "kube-controller-manager", "kube-scheduler")
WAITING = "dbt_operator, waiting"
OURS = "/apis/dbt-operator.io/v1alpha1"


async def ready() -> None:
    """Wait until the operator serves its metrics. Raises: SystemExit where it does not within two minutes."""
    for _ in range(600):
        try:
            writes()
        except urllib.error.URLError:
            await asyncio.sleep(0.2)
        else:
            return
    raise SystemExit("The operator does not serve its metrics; its log is in the folder build.")


def writes() -> float:
    """How often the operator has created a DbtModel or written a status since its start."""
    url = f"http://127.0.0.1:{METRICS_PORT}/metrics"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("dbt_operator_status_patches_total{"))


def processors() -> dict[str, float]:
    """Seconds of processor time that the operator and each part of the cluster have used since their start.

    Under WAITING: how long threads of the operator could have run, and had no processor.
    """
    found: dict[str, float] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            times = (folder / "stat").read_text().rpartition(")")[2].split()
            ours = _is_ours(folder, words)
            if ours:
                waits = (int(file.read_text().split()[1]) for file in folder.glob("task/*/schedstat"))
                found[WAITING] = sum(waits) / 1e9
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        program = Path(words[0]).name
        name = "dbt_operator" if ours else program
        if name == "dbt_operator" or program in PARTS:
            spent = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
            found[name] = found.get(name, 0) + spent
    return found


def _is_ours(folder: Path, words: list[str]) -> bool:
    """Whether a process is the operator that is measured: the one that serves our port."""
    if words[1:4] != ["-m", "dbt_operator", "run"]:
        return False
    return f"DBT_OPERATOR_METRICS_PORT={METRICS_PORT}" in (folder / "environ").read_bytes().decode().split("\0")


class _Stream(ABC):
    """A watch of all objects of a resource, for as long as the context lasts."""

    def __init__(self, namespace: str, resource: str, *, group: str = OURS) -> None:
        self._path = f"{group}/namespaces/{namespace}/{resource}?watch=1"
        self._over = False

    def __enter__(self) -> Self:
        self._process = self._open()
        self._reading = asyncio.get_running_loop().run_in_executor(None, self._read)
        return self

    def _open(self) -> subprocess.Popen[bytes]:
        command = [KUBECTL, "--kubeconfig", str(KUBECONFIG), "get", "--raw", self._path]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def _read(self) -> None:
        while not self._over:
            for line in self._process.stdout or ():
                at, event = time.time(), json.loads(line)
                if event["type"] != "ERROR":
                    self._take(at, event["object"])
            if not self._over:
                # What changes before the next one begins is shown late, and never too early.
                print(f"A watch broke off and was begun anew: {self._path}", file=sys.stderr)
                self._process.wait()
                self._process = self._open()

    @abstractmethod
    def _take(self, at: float, found: dict[str, Any]) -> None:
        """An object as it was shown at a time."""

    def __exit__(self, *_: object) -> None:
        self._over = True
        if self._reading.done():
            self._reading.result()  # an error of ours, else it would be reading
        self._process.terminate()
        self._process.wait()


class Watch(_Stream):
    """When a watch has shown each object of a kind for the first time in its last phase.

    seen: by the run's name and dbt's id of the node, which is "" of a DbtRun.
    """

    def __init__(self, namespace: str, resource: str) -> None:
        super().__init__(namespace, resource)
        self.seen: dict[tuple[str, str], tuple[str, float]] = {}

    def _take(self, at: float, found: dict[str, Any]) -> None:
        spec, phase = found["spec"], (found.get("status") or {}).get("phase", "")
        key = spec.get("runName", found["metadata"]["name"]), spec.get("uniqueId", "")
        if self.seen.get(key, ("", 0))[0] != phase:
            self.seen[key] = (phase, at)


@dataclass(frozen=True, slots=True)
class Change:
    """An object as a watch has shown it, and when."""

    at: float
    found: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the object."""
        name: str = self.found["metadata"]["name"]
        return name

    @property
    def phase(self) -> str:
        """The phase in its status, "" where it has none yet."""
        phase: str = (self.found.get("status") or {}).get("phase", "")
        return phase


class Changes(_Stream):
    """All that a watch has shown, in its order."""

    def __init__(self, namespace: str, resource: str, *, group: str = OURS) -> None:
        super().__init__(namespace, resource, group=group)
        self.seen: list[Change] = []

    def _take(self, at: float, found: dict[str, Any]) -> None:
        self.seen.append(Change(at, found))

    async def first(self, holds: Callable[[Change], bool]) -> float:
        """When the first change came of which this holds; waits until there is one."""
        while True:
            for change in self.seen:
                if holds(change):
                    return change.at
            await asyncio.sleep(0.1)
