"""What a DbtRun costs beside the command line, and how late its statuses are: `python -m benchmarks.overhead`.

    python -m benchmarks.overhead [--pairs 3] [--nodes 190] [--threads 4] [--warehouse duckdb|postgres]

Needs the development cluster with its images; scale an installed operator to 0. Each pair is, one right after the
other, a pod that runs `dbt build` and nothing else, and a DbtRun of the same project, image and limits. Of the DbtRun
these are measured:

- (b) from the runner's first event to its last, beside (a) dbt's process in the plain pod, from its start to its end;
- (c) from `kubectl apply` to the Succeeded that a watch shows, beside (a) and what the plain pod needs besides dbt;
- the lag: from the time stamp of a node's result in dbt to the moment when a watch of DbtModels shows it;
- the writes for a node, from the operator's metrics, and the processor time of the operator and of the cluster.
"""

import argparse
import asyncio
import base64
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.observing import KUBECTL, Watch, processors, writes
from benchmarks.project import archive
from benchmarks.results import Result, Row, machine
from benchmarks.soak import ENDED, KUBECONFIG, operator
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_RUNS, PODS
from tests.api import Api
from tests.conftest import CHECKOUT, new_namespace

IMAGES = {"duckdb": "localhost/dbt-operator/jaffle-shop:dev", "postgres": "localhost/dbt-operator/postgres-example:dev"}
LIMITS = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}}
PLAIN = """\
set -e
python3 -c 'import tarfile; tarfile.open("/in/project.tgz").extractall("/tmp/project")'
cd /tmp/project
python3 -c 'import time; print("begins", time.time())'
dbt build --profiles-dir .
python3 -c 'import time; print("ends", time.time())'
"""


class Bench:
    """One namespace with the project in it."""

    def __init__(self, client: Client, namespace: str, warehouse: str) -> None:
        self._client, self._namespace, self._warehouse = client, namespace, warehouse

    async def prepare(self, *, nodes: int, threads: int) -> None:
        """The project, and the server that it needs."""
        packed = base64.b64encode(archive(nodes, target=self._warehouse, threads=threads)).decode()
        await self.create(CONFIG_MAPS, "v1", "ConfigMap", "project", binaryData={"project.tgz": packed})
        if self._warehouse == "postgres":
            for name in ("secret.yaml", "server.yaml"):
                path = CHECKOUT / "examples" / "postgres" / name
                self.kubectl("apply", "-f", str(path))
            self.kubectl("rollout", "status", "deployment/warehouse", "--timeout=120s")

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints."""
        command = [KUBECTL, "--kubeconfig", str(KUBECONFIG), "--namespace", self._namespace, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    async def create(self, resource: Any, version: str, kind: str, name: str, **fields: Any) -> None:
        """Create an object in the namespace."""
        metadata = {"name": name, "namespace": self._namespace}
        await self._client.create(
            resource=resource, manifest={"apiVersion": version, "kind": kind, "metadata": metadata, **fields}
        )

    async def plain(self, name: str) -> tuple[float, float]:
        """Seconds of dbt's process, and from the creation of a plain pod until its end is shown."""
        container = {
            "name": "dbt",
            "image": IMAGES[self._warehouse],
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", PLAIN],
            "resources": LIMITS,
            "volumeMounts": [{"name": "in", "mountPath": "/in"}],
        }
        volumes = [{"name": "in", "configMap": {"name": "project"}}]
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
        before = time.time()
        await self.create(PODS, "v1", "Pod", name, spec=spec)
        phase = ""
        while phase not in ("Succeeded", "Failed"):
            await asyncio.sleep(0.2)
            found = await self._client.get(resource=PODS, namespace=self._namespace, name=name)
            phase = found["status"]["phase"]
        shown = time.time()
        printed = self.kubectl("logs", name)
        words = [line.split() for line in printed.splitlines()]
        at = {line[0]: float(line[1]) for line in words if len(line) == 2 and line[0] in ("begins", "ends")}
        if phase == "Failed":
            raise SystemExit(printed)
        return at["ends"] - at["begins"], shown - before

    async def run(self, name: str) -> dict[str, float]:
        """What is measured of a DbtRun."""
        with Watch(self._namespace, "dbtmodels") as models, Watch(self._namespace, "dbtruns") as runs:
            await asyncio.sleep(1)
            written, spent, before = writes(), processors(), time.time()
            await self.execute(name)
            await asyncio.sleep(1)
            written = writes() - written
            spent = {part: seconds - spent.get(part, 0) for part, seconds in processors().items()}
        events = self.events(name)
        lags = lags_of(name, events, models)
        return {
            "dbt": _at(events[-1]) - _at(events[0]),
            "wall": runs.seen[name, ""][1] - before,
            "lag median": statistics.median(lags),
            "lag p99": lags[int(len(lags) * 0.99)],
            "nodes": len(lags),
            "writes": written / len(lags),
            "operator": spent["dbt_operator"],
            "cluster": sum(seconds for part, seconds in spent.items() if part != "dbt_operator"),
        }

    async def execute(self, name: str, **more: Any) -> None:
        """Execute a DbtRun of the project. Raises: SystemExit where it does not succeed."""
        container = {"name": "dbt", "resources": LIMITS}
        spec = {
            "image": IMAGES[self._warehouse],
            "imagePullPolicy": "IfNotPresent",
            "project": {"archive": {"configMapRef": {"name": "project", "key": "project.tgz"}}},
            "profile": {"inProject": True},
            "podTemplate": {"spec": {"containers": [container]}},
            "producer": {"maxRestarts": 0},
            "command": "build",
        } | more
        await self.create(DBT_RUNS, "dbt-operator.io/v1alpha1", "DbtRun", name, spec=spec)
        status: dict[str, Any] = {}
        while status.get("phase") not in ENDED:
            await asyncio.sleep(0.5)
            found = await self._client.get(resource=DBT_RUNS, namespace=self._namespace, name=name)
            status = found.get("status") or {}
        if status["phase"] != "Succeeded":
            raise SystemExit(f"{name}: {status['message']}")

    def events(self, run: str) -> list[dict[str, Any]]:
        """What the pod of a run has printed."""
        lines = self.kubectl("logs", "-l", f"dbt-operator.io/run={run}", "-c", "dbt", "--tail=-1").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def _at(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["info"]["ts"]).timestamp()


def lags_of(run: str, events: list[dict[str, Any]], models: Watch) -> list[float]:
    """Seconds, in ascending order, from dbt's result of a node until a watch has shown it."""
    results = {one["data"]["unique_id"]: _at(one) for one in events if one["info"]["name"] == "NodeResult"}
    shown = {key: at for key, (phase, at) in models.seen.items() if phase in ("Succeeded", "Failed", "Warned")}
    return sorted(shown[run, one] - at for one, at in results.items() if (run, one) in shown)


async def _measure(given: argparse.Namespace, namespace: str) -> Result:
    on = machine()
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        bench = Bench(client, namespace, given.warehouse)
        await bench.prepare(nodes=given.nodes, threads=given.threads)
        await bench.plain("warm-plain")
        await bench.run("warm-run")
        pairs = [(await bench.plain(f"plain-{n}"), await bench.run(f"run-{n}")) for n in range(given.pairs)]
    dbt = tuple(round(run["dbt"] / plain[0], 3) for plain, run in pairs)
    more = tuple(round((run["wall"] - run["dbt"]) - (plain[1] - plain[0]), 2) for plain, run in pairs)

    def each(what: str, key: str, unit: str = "s", at_most: float | None = None) -> Row:
        return Row(what, tuple(round(run[key], 4) for _, run in pairs), unit, at_most=at_most)

    nodes = int(pairs[0][1]["nodes"])
    return Result(
        scenario="overhead",
        title=f"A DbtRun beside `dbt build`: {given.nodes} nodes, {given.warehouse}, {given.threads} threads",
        rows=(
            Row("dbt in the plain pod (a)", tuple(round(plain[0], 2) for plain, _ in pairs), "s"),
            each("dbt in a DbtRun (b)", "dbt"),
            Row("(b) / (a)", dbt, at_most=1.0),
            each("from apply to Succeeded (c)", "wall"),
            Row("(c) - (b), beside what a plain pod needs besides dbt", more, "s", at_most=1.5),
            Row(
                "lag of a DbtModel, median", tuple(round(run["lag median"], 4) for _, run in pairs), "s", at_most=0.025
            ),
            Row("lag of a DbtModel, 99 of 100", tuple(round(run["lag p99"], 3) for _, run in pairs), "s", at_most=0.1),
            Row("writes of the operator for a node", tuple(round(run["writes"], 2) for _, run in pairs), at_most=3),
            Row("processor time of the operator", tuple(round(run["operator"], 2) for _, run in pairs), "s"),
            Row("processor time of the cluster's parts", tuple(round(run["cluster"], 2) for _, run in pairs), "s"),
        ),
        notes=f"{given.pairs} pairs, {nodes} nodes with a DbtModel. The operator runs beside the cluster.",
        machine=on,
    )


def main() -> None:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--pairs", type=int, default=3)
    options.add_argument("--nodes", type=int, default=190)
    options.add_argument("--threads", type=int, default=4)
    options.add_argument("--warehouse", choices=sorted(IMAGES), default="duckdb")
    given = options.parse_args()
    log = Path(tempfile.gettempdir()) / "dbt-operator-bench.log"
    with new_namespace(Api(KUBECONFIG)) as namespace, operator(namespace, log=log):
        asyncio.run(_measure(given, namespace)).save()


if __name__ == "__main__":
    main()
