"""Months of runs in minutes: what the operator's memory does meanwhile, and what is left of them.

    python -m benchmarks.soak [--runs 500] [--parallel 8] [--output FILE]

Needs the development cluster with its image of the jaffle shop. The operator is a process of its own: scale one that is
installed to 0. The first run is a real one; the pods of all others print what its pod has printed, as a `python3` of
ours comes first in their PATH. For the operator they are runs like any other, with real Jobs, pods, logs and artifacts.
All runs are kept until the last one has ended; then their time to live is set to 0.

Exits with 1 when the memory after all runs is 5 % more than after the first 50, or when anything is left.
"""

import argparse
import asyncio
import base64
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dbt_operator.kube.client import Client
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_MODELS, DBT_RUNS, JOBS, PODS
from dev.images import instructions
from tests.api import Api
from tests.conftest import CHECKOUT, CLUSTER, new_namespace
from tests.e2e.conftest import run_manifest

KUBECONFIG = CLUSTER / "kubeconfig"
REPLAY, FOLDER = "replay", "/replay"
FIRST = 50
ALLOWED = 5.0  # percent
SCRIPT = f"""\
#!/bin/sh
gzip -dc {FOLDER}/log.gz | {{ head -n 40; sleep 1; cat; }}
"""
ENDED = ("Succeeded", "Failed", "Cancelled")


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


@contextmanager
def operator(
    namespace: str, *, log: Path, probe: int = 18080, metrics: int = 19090
) -> Iterator[subprocess.Popen[bytes]]:
    """The operator, for our namespace only."""
    settings = {"WATCH_NAMESPACES": namespace, "PROBE_PORT": str(probe), "METRICS_PORT": str(metrics)}
    environment = os.environ | _allocator() | {f"DBT_OPERATOR_{name}": value for name, value in settings.items()}
    command = (sys.executable, "-m", "dbt_operator", "run", "--kubeconfig", str(KUBECONFIG))
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stderr=output, stdout=output) as process:
        try:
            yield process
        finally:
            process.terminate()


def _allocator() -> dict[str, str]:
    """How the image of the operator sets glibc's allocator."""
    lines = instructions((CHECKOUT / "Dockerfile").read_text())
    words = [word for keyword, *words in lines if keyword == "ENV" for word in words]
    return dict(word.split("=", 1) for word in words if word.startswith("MALLOC_"))


async def memory(process: subprocess.Popen[bytes]) -> float:
    """MiB that the process has, once it has come to rest."""
    await asyncio.sleep(20)
    samples = []
    for _ in range(5):
        samples.append(resident(process.pid))
        await asyncio.sleep(2)
    return round(statistics.median(samples), 1)


def resident(pid: int) -> float:
    """MiB of memory that a process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


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


async def measure(*, namespace: str, runs: int, parallel: int, log: Path) -> dict[str, Any]:
    """Execute the runs and say what that did."""
    begun = time.monotonic()
    async with await Client.connect(kubeconfig=str(KUBECONFIG)) as client:
        with operator(namespace, log=log) as process:
            soak = Soak(client, namespace, process)
            rss = {"at the beginning": await memory(process)}
            await soak.first()
            for count in (FIRST, runs):
                await soak.until(count, parallel=parallel)
                rss[f"after {count}"] = await memory(process)
                print(f"{time.monotonic() - begun:.0f} s: {rss}", flush=True)
            left = await soak.expire()
            rss["after their deletion"] = await memory(process)
    growth = 100 * (rss[f"after {runs}"] / rss[f"after {FIRST}"] - 1)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "runs": runs,
        "parallel": parallel,
        "seconds": round(time.monotonic() - begun),
        "rss_mib": rss,
        "growth_percent": round(growth, 1),
        "left": left,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--output", type=Path, help="a file for the results as JSON")
    parser.add_argument("--log", type=Path, default=CHECKOUT / "build" / "soak.log", help="the operator's log")
    given = parser.parse_args()
    given.log.parent.mkdir(parents=True, exist_ok=True)
    with new_namespace(Api(KUBECONFIG)) as namespace:
        results = asyncio.run(measure(namespace=namespace, runs=given.runs, parallel=given.parallel, log=given.log))
    text = json.dumps(results, indent=2)
    print(text)
    if given.output is not None:
        given.output.write_text(f"{text}\n")
    return int(results["growth_percent"] >= ALLOWED or bool(results["left"]))


if __name__ == "__main__":
    sys.exit(main())
