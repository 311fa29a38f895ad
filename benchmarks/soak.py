"""Months of runs in minutes: what the operator's memory does meanwhile, and what is left of them.

    python -m benchmarks.soak [--runs 500] [--parallel 8]

Needs the development cluster with its image of the jaffle shop. The first run is a real one; the pods of all others
print what its pod has printed, as a `python3` of ours comes first in their PATH. For the operator they are runs like
any other, with real Jobs, pods, logs and artifacts. All runs are kept until the last one has ended; then their time to
live is set to 0.

Exits with 1 when the memory after all runs is 5 % more than after the first 50, or when anything is left. With the
arguments above it takes twenty minutes.
"""

import argparse
import asyncio
import base64
import gzip
import subprocess
import sys
import time
from typing import Any

from benchmarks.bench import ENDED, LOG
from benchmarks.charts import Chart
from benchmarks.operator import KUBECONFIG, memory, new_namespace, operator
from benchmarks.results import Result, Row, machine
from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_MODELS, DBT_RUNS, JOBS, PODS
from tests.e2e.conftest import run_manifest

REPLAY, FOLDER = "replay", "/replay"
FIRST = 50
ALLOWED = 5  # percent
SCRIPT = f"""\
#!/bin/sh
gzip -dc {FOLDER}/log.gz | {{ head -n 40; sleep 1; cat; }}
"""


def replaying(name: str) -> dict[str, Any]:
    """A run whose pod prints what the first one's has printed."""
    pod = {
        "volumes": [{"name": REPLAY, "configMap": {"name": REPLAY, "defaultMode": 0o555}}],
        "containers": [
            {
                "name": "dbt",
                "env": [{"name": "PATH", "value": f"{FOLDER}:/usr/bin:/bin"}],
                "volumeMounts": [{"name": REPLAY, "mountPath": FOLDER}],
            }
        ],
    }
    return run_manifest(name, podTemplate={"spec": pod})


class Soak:
    """The runs of one soak."""

    def __init__(self, client: Client, namespace: str, process: subprocess.Popen[bytes]) -> None:
        self._client, self._namespace, self._operator = client, namespace, process
        self._made = 0
        self._failed: list[str] = []

    async def first(self) -> None:
        """A real run, whose log is kept for the others."""
        await self._execute(run_manifest("run-1"))
        (pod,) = await self._client.list(resource=PODS, namespace=self._namespace)
        name = pod["metadata"]["name"]
        log = self._client.open_log(namespace=self._namespace, pod=name, container="dbt", follow=False)
        async with log as pieces:
            printed = b"".join([piece async for piece in pieces])
        # Without the kubelet's time stamps.
        lines = b"".join(line.partition(b" ")[2] for line in printed.splitlines(keepends=True))
        metadata = {"name": REPLAY, "namespace": self._namespace}
        files = {"python3": SCRIPT.encode(), "log.gz": gzip.compress(lines)}
        manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        encoded = {name: base64.b64encode(content).decode() for name, content in files.items()}
        await self._client.create(resource=CONFIG_MAPS, manifest=manifest | {"binaryData": encoded})

    async def until(self, count: int, *, parallel: int) -> None:
        """Execute runs until there are so many."""

        async def some() -> None:
            while self._made < count:
                await self._execute(replaying(f"run-{self._made + 1}"))

        await asyncio.gather(*(some() for _ in range(parallel)))
        if self._failed:
            raise SystemExit(f"These were to succeed: {self._failed[:5]}")

    async def _execute(self, manifest: dict[str, Any]) -> None:
        self._made += 1
        name, status = manifest["metadata"]["name"], dict[str, Any]()
        manifest["metadata"]["namespace"] = self._namespace
        await self._client.create(resource=DBT_RUNS, manifest=manifest)
        while status.get("phase") not in ENDED:
            await asyncio.sleep(1)
            if self._operator.poll() is not None:
                raise SystemExit("The operator has died.")
            run = await self._client.get(resource=DBT_RUNS, namespace=self._namespace, name=name)
            status = run.get("status") or {}
        if status["phase"] != "Succeeded":
            self._failed.append(f"{name}: {status['message']}")

    async def expire(self) -> dict[str, int]:
        """Let all runs go. Returns what is left of them when nothing has gone for two minutes."""
        for run in await self._client.list(resource=DBT_RUNS, namespace=self._namespace, metadata_only=True):
            await self._client.patch(
                resource=DBT_RUNS,
                namespace=self._namespace,
                name=run["metadata"]["name"],
                patch={"spec": {"ttlSecondsAfterFinished": 0}},
            )
        before, since = dict[str, int](), time.monotonic()
        while left := await self.left():
            if left != before:
                before, since = left, time.monotonic()
            if time.monotonic() - since > 120:
                break
            await asyncio.sleep(5)
        return left

    async def left(self) -> dict[str, int]:
        """How many objects there are, by kind; Events, which Kubernetes deletes itself, do not count."""
        found = {}
        for resource in (DBT_RUNS, DBT_MODELS, JOBS, PODS, CONFIG_MAPS):
            objects = await self._client.list(resource=resource, namespace=self._namespace, metadata_only=True)
            found[resource.kind] = sum(one["metadata"]["name"] not in (REPLAY, "kube-root-ca.crt") for one in objects)
        return {kind: count for kind, count in found.items() if count}


async def measure(*, namespace: str, runs: int, parallel: int) -> Result:
    """Execute the runs and say what that did."""
    on, begun = machine(), time.monotonic()
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        with operator(namespace, log=LOG) as process:
            soak = Soak(client, namespace, process)
            rss = {"at the beginning": await memory(process)}
            await soak.first()
            for count in (FIRST, runs):
                await soak.until(count, parallel=parallel)
                rss[f"after {count} runs"] = await memory(process)
                print(f"{time.monotonic() - begun:.0f} s: {rss}", flush=True)
            left = await soak.expire()
            rss["after their deletion"] = await memory(process)
    growth = 100 * (rss[f"after {runs} runs"] / rss[f"after {FIRST} runs"] - 1)
    return Result(
        scenario="soak",
        title=f"Memory of the operator over {runs} runs",
        rows=(
            *(Row(f"memory {when}", (size,), "MiB") for when, size in rss.items()),
            Row(f"growth from {FIRST} runs to {runs}", (round(growth, 1),), "%", at_most=ALLOWED),
            Row("objects that are left when all runs have gone", (sum(left.values()),), at_most=0),
        ),
        notes=f"{parallel} runs at a time, all of them in {time.monotonic() - begun:.0f} s. {_words(left)}".rstrip(),
        charts=(Chart("Memory of the operator", "bars", tuple(rss), {"memory": tuple(rss.values())}, unit="MiB"),),
        machine=on,
    )


def _words(left: dict[str, int]) -> str:
    return f"Left: {', '.join(f'{count} {kind}' for kind, count in left.items())}." if left else ""


def main() -> int:
    """Measure, store and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=500, help=f"more than {FIRST}")
    options.add_argument("--parallel", type=int, default=8, help="how many at a time")
    given = options.parse_args()
    if given.runs <= FIRST:
        options.error(f"--runs has to be more than {FIRST}, after which the memory is measured first.")
    with new_namespace() as namespace:
        result = asyncio.run(measure(namespace=namespace, runs=given.runs, parallel=given.parallel))
    result.save()
    return int(any(row.met is False for row in result.rows))


if __name__ == "__main__":
    sys.exit(main())
