"""One namespace of the development cluster in which a project is executed: by dbt in a plain pod, and by DbtRuns."""

import asyncio
import base64
import gzip
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any

from benchmarks.operator import kubectl
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_RUNS, PODS, Resource
from tests.conftest import CHECKOUT

IMAGES = {"duckdb": "localhost/dbt-operator/jaffle-shop:dev", "postgres": "localhost/dbt-operator/postgres-example:dev"}
LIMITS = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
ENDED = ("Succeeded", "Failed", "Cancelled")
LOG = CHECKOUT / "build" / "bench.log"  # the operator's
PROJECT = "project"  # the ConfigMap with it
DIRECTORY = "/dbt-operator/project/tree"  # of the project in the pods of a DbtRun; a parse cache holds in no other one
PLAIN = f"""\
import time
print("began", time.time())
import base64, gzip, json, os, resource, subprocess, sys, tarfile
tarfile.open("/in/project.tgz").extractall("{DIRECTORY}")
os.chdir("{DIRECTORY}")
def dbt(*arguments):
    began, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(["dbt", *arguments, "--profiles-dir", "."])
    wall, after = time.time() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print("\\nmeasured", json.dumps(dict(wall=wall, spent=spent)), flush=True)
    if done.returncode:
        sys.exit(done.returncode)
"""
KEEP = """\
print("\\nkept", base64.b64encode(gzip.compress(open("target/partial_parse.msgpack", "rb").read())).decode())
"""


@dataclass(frozen=True, slots=True)
class Process:
    """What a process of dbt has needed, in seconds."""

    wall: float
    spent: float  # of processors


@dataclass(frozen=True, slots=True)
class Plain:
    """A pod that executes dbt and nothing else: its processes, and what it was asked to keep.

    began, shown: seconds from its creation until its Python has begun, and until its end was shown.
    """

    processes: tuple[Process, ...]
    began: float
    shown: float
    kept: bytes = b""


class Bench:
    """One namespace with the project in it."""

    def __init__(self, client: Client, namespace: str, warehouse: str) -> None:
        self._client, self._namespace, self._warehouse = client, namespace, warehouse

    @property
    def namespace(self) -> str:
        """Its name."""
        return self._namespace

    async def prepare(self, packed: bytes, *, name: str = PROJECT) -> None:
        """Keep a project, a .tgz, and start the server that it needs."""
        encoded = base64.b64encode(packed).decode()
        await self.create(CONFIG_MAPS, "v1", "ConfigMap", name, binaryData={"project.tgz": encoded})
        if self._warehouse == "postgres":
            for file in ("secret.yaml", "server.yaml"):
                self.kubectl("apply", "-f", str(CHECKOUT / "examples" / "postgres" / file))
            self.kubectl("rollout", "status", "deployment/warehouse", "--timeout=120s")

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints."""
        return kubectl("--namespace", self._namespace, *arguments)

    async def create(self, resource: Resource, version: str, kind: str, name: str, **fields: Any) -> None:
        """Create an object in the namespace."""
        metadata = {"name": name, "namespace": self._namespace}
        await self._client.create(
            resource=resource, manifest={"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
        )

    async def delete(self, resource: Resource, name: str) -> None:
        """Delete an object of the namespace."""
        await self._client.delete(resource=resource, namespace=self._namespace, name=name)

    async def plain(self, name: str, *calls: tuple[str, ...], keep: bool = False) -> Plain:
        """Execute dbt with these arguments, one call after the other; keep: return the parse cache.

        Raises: SystemExit where dbt fails.
        """
        script = PLAIN + "".join(f"dbt(*{call!r})\n" for call in calls) + (KEEP if keep else "")
        mounts = {"in": "/in", "project": str(PurePath(DIRECTORY).parent)}
        container = {
            "name": "dbt",
            "image": IMAGES[self._warehouse],
            "imagePullPolicy": "IfNotPresent",
            "command": ["python3", "-c", script],
            "resources": LIMITS,
            "volumeMounts": [{"name": name, "mountPath": path} for name, path in mounts.items()],
        }
        volumes = [{"name": "in", "configMap": {"name": PROJECT}}, {"name": "project", "emptyDir": {}}]
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
        before = time.time()
        await self.create(PODS, "v1", "Pod", name, spec=spec)
        phase = ""
        while phase not in ("Succeeded", "Failed"):
            await asyncio.sleep(0.2)
            found = await self._client.get(resource=PODS, namespace=self._namespace, name=name)
            phase = found["status"]["phase"]
        shown, printed = time.time() - before, self.kubectl("logs", name)
        if phase == "Failed":
            raise SystemExit(printed)
        words = [line.partition(" ") for line in printed.splitlines()]
        began = next(float(rest) for word, _, rest in words if word == "began") - before
        processes = tuple(Process(**json.loads(rest)) for word, _, rest in words if word == "measured")
        kept = next((gzip.decompress(base64.b64decode(rest)) for word, _, rest in words if word == "kept"), b"")
        return Plain(processes, began, shown, kept)

    async def execute(self, name: str, *, archive: str = PROJECT, **more: Any) -> None:
        """Execute a DbtRun of the project in this ConfigMap; `more` replaces fields of the spec.

        Raises: SystemExit where it does not succeed.
        """
        container = {"name": "dbt", "resources": LIMITS}
        spec = {
            "image": IMAGES[self._warehouse],
            "imagePullPolicy": "IfNotPresent",
            "project": {"archive": {"configMapRef": {"name": archive, "key": "project.tgz"}}},
            "profile": {"inProject": True},
            "podTemplate": {"spec": {"containers": [container]}},
            "producer": {"maxRestarts": 0},
            "command": "build",
        } | more
        await self.create_run(name, spec)
        await self.succeeds(name)

    async def create_run(self, name: str, spec: Mapping[str, Any]) -> None:
        """Create a DbtRun."""
        await self.create(DBT_RUNS, "dbt-operator.io/v1alpha1", "DbtRun", name, spec=spec)

    async def succeeds(self, name: str) -> None:
        """Wait for the end of a DbtRun. Raises: SystemExit where it does not succeed."""
        status: dict[str, Any] = {}
        while status.get("phase") not in ENDED:
            await asyncio.sleep(0.5)
            found = await self._client.get(resource=DBT_RUNS, namespace=self._namespace, name=name)
            status = found.get("status") or {}
        if status["phase"] != "Succeeded":
            raise SystemExit(f"{name}: {status['message']}")

    def events(self, run: str) -> list[dict[str, Any]]:
        """What the pod of a run of one attempt has printed."""
        return self._events("-l", f"dbt-operator.io/run={run}")

    def events_of(self, job: str) -> list[dict[str, Any]]:
        """What the pod of an attempt has printed, by the name of its Job."""
        return self._events(f"job/{job}")

    def _events(self, *which: str) -> list[dict[str, Any]]:
        lines = self.kubectl("logs", *which, "-c", "dbt", "--tail=-1").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def file_of(events: Iterable[Mapping[str, Any]], name: str) -> bytes:
    """A file that the pod of a run has printed."""
    parts = [event["data"] for event in events if event["info"]["name"] == "Artifact"]
    return gzip.decompress(b"".join(base64.b64decode(part["data"]) for part in parts if part["name"] == name))


def time_of(event: Mapping[str, Any]) -> float:
    """When the event has happened in the pod."""
    return datetime.fromisoformat(event["info"]["ts"]).timestamp()
